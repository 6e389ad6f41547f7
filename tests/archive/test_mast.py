"""Searches of the archive for a recipe's visits, with the real astroquery."""

import json
import warnings
from importlib import resources

import pytest
from typer.testing import CliRunner

from deepcr_zoo.archive import mast
from deepcr_zoo.archive.comparison import compare
from deepcr_zoo.archive.listing import Query, VisitRequest, query_of
from deepcr_zoo.cli.main import app
from deepcr_zoo.dataset.fetching import list_products
from deepcr_zoo.errors import ArchiveError, ArchiveUnreachableError, MissingExtraError, UsageError
from deepcr_zoo.zoo.recipe import Recipe
from deepcr_zoo.zoo.recipefiles import find_recipe, read_recipe
from tests.dataset.visits import recipe_of

FACTS = {"proposal_id": "10420", "target_name": "COSMOS-1", "filters": "F606W;CLEAR2L", "t_exptime": 1980.0}
RULE = {"proposal": 10420, "visit": "1", "field_type": "extragalactic", "split": "train"}


def search(recipe):
    return mast.Archive().search(query_of(recipe))


def names(recipe):
    return [product.name for product in search(recipe)]


def add(archive, root, observation=None, **facts):
    """A single exposure, or one more of an observation."""
    number = observation or archive.add_observation(root.upper(), **(FACTS | facts))
    archive.add_product(number, f"{root}_flc.fits", root.encode())
    return number


def test_each_exposure_of_the_visits_is_found_once_and_nothing_else(archive, recipe, exposures):
    found = search(recipe)
    assert [one.name for one in found] == sorted(path.name for path in exposures.glob("*/*_flc.fits"))
    assert {(one.filter_name, one.version, one.project, one.is_public) for one in found} == {
        ("F606W", "10.3.5", "CALACS", True)
    }
    assert sorted({one.exposure_time_s for one in found}) == [250.0, 500.0, 600.0]
    assert all(one.uri == f"mast:HST/product/{one.name}" and one.size > 1e6 for one in found)


def test_a_search_asks_once_for_all_visits_of_a_proposal_without_warnings(archive, recipe):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        search(recipe)
    assert [one["service"] for one in archive.searches] == ["Mast.Caom.Filtered", "Mast.Caom.Products"]


def test_a_slow_search_is_polled_and_long_results_come_in_pages(archive, recipe, monkeypatch):
    archive.polls_before_results = 3
    monkeypatch.setattr("astroquery.mast.discovery_portal.PortalAPI.PAGESIZE", 4)
    assert len(names(recipe)) == 9
    assert max(one["page"] for one in archive.searches) > 1


def test_other_visits_filters_cameras_and_polarised_exposures_are_left_out(empty_archive):
    wanted = add(empty_archive, "j96i01a1q")
    add(empty_archive, "j96i01a2q", wanted)
    add(empty_archive, "j96i02a3q")
    add(empty_archive, "j96i01a4q", filters="CLEAR1L;F814W")
    add(empty_archive, "j96i01a5q", filters="F606W;POL0V")
    add(empty_archive, "j96i01a6q", instrument_name="ACS/HRC")
    add(empty_archive, "j96i01a7q", proposal_id="10421")
    add(empty_archive, "j96i01a8q", dataproduct_type="spectrum")
    assert names(recipe_of({"one": RULE})) == ["j96i01a1q_flc.fits", "j96i01a2q_flc.fits"]
    assert names(recipe_of({"one": RULE | {"filters": ["F814W"]}})) == ["j96i01a4q_flc.fits"]


def test_spectra_are_found_by_observation_and_files_that_hold_several_exposures_are_not_counted(empty_archive):
    facts = {"proposal_id": "7353", "target_name": "NGC1068-SEQ1", "filters": "G430M", "t_exptime": 2775.0}
    for number in (1, 2, 5):
        name = f"o565020{number}0"
        kind = {"instrument_name": "STIS/CCD", "dataproduct_type": "spectrum"}
        empty_archive.add_product(empty_archive.add_observation(name.upper(), **facts, **kind), f"{name}_raw.fits", b"raw")
    recipe = read_recipe(find_recipe("stis-ccd"))
    assert names(recipe) == ["o56502010_raw.fits", "o56502020_raw.fits", "o56502050_raw.fits"]
    rows = {one.rule: one for one in compare(recipe, search(recipe))}
    assert (rows["test"].found_exposures, rows["training"].found_exposures) == (1, 2)
    assert rows["test"].expected_exposures is None
    assert rows["test"].differs == ()
    named = {"one": {**RULE, "proposal": 7353, "visit": "02", "observation": "o56502?50", "field_type": "spectrum"}}
    only = Recipe.model_validate(recipe.model_dump() | {"data": recipe.data.model_dump() | {"visits": named}})
    assert names(only) == ["o56502050_raw.fits"]


def test_all_visits_of_a_proposal_or_a_target_are_found_where_no_visit_is_named(empty_archive):
    add(empty_archive, "j96i01a1q")
    add(empty_archive, "j96i02a1q", target_name="NGC-104")
    add(empty_archive, "j8zz01a1q", target_name="NGC-205", proposal_id="9999")
    by_proposal = {"proposal": 10420, "field_type": "extragalactic"}
    assert len(names(recipe_of({"all": by_proposal}))) == 2
    assert names(recipe_of({"some": by_proposal | {"target": "ngc*"}})) == ["j96i02a1q_flc.fits"]
    by_target = {"target": "NGC-?0?", "field_type": "globular_cluster"}
    assert names(recipe_of({"some": by_target})) == ["j8zz01a1q_flc.fits", "j96i02a1q_flc.fits"]


def test_an_old_proposal_is_found_with_and_without_leading_zeros(empty_archive):
    add(empty_archive, "j6me01a1q", proposal_id="9453")
    add(empty_archive, "j6me02a1q", proposal_id="09453")
    assert len(names(recipe_of({"old": {"proposal": 9453, "field_type": "resolved_galaxy"}}))) == 2


def test_a_rule_that_would_take_the_whole_archive_is_refused():
    with pytest.raises(UsageError, match="all: names neither a proposal nor a target"):
        query_of(recipe_of({"all": {"field_type": "extragalactic", "target": "*"}}))


def test_another_telescope_is_refused(archive, recipe):
    query = query_of(recipe).model_copy(update={"telescope": "CTIO 4.0-m telescope"})
    with pytest.raises(UsageError, match="HST alone"):
        mast.Archive().search(query)


def test_recipes_with_the_same_visits_ask_the_same(recipe):
    content = recipe.model_dump()
    content |= {"name": "ANOTHER-NAME"}
    content["data"]["visits"] = dict(reversed(content["data"]["visits"].items()))
    assert query_of(Recipe.model_validate(content)) == query_of(recipe)


def test_a_search_without_results_is_an_error_that_lists_the_visits(empty_archive, recipe):
    with pytest.raises(ArchiveError, match=r"(?s)has no public exposures.*proposal 90001, visit 6E.*--data DIR"):
        list_products(recipe)


def test_without_astroquery_the_error_names_what_to_install(recipe, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda module: None)
    with pytest.raises(MissingExtraError, match=r"pip install 'deepcr-zoo\[mast\]'"):
        search(recipe)


def test_a_setting_that_is_no_address_is_refused(recipe, monkeypatch):
    monkeypatch.setenv("DEEPCR_ZOO_MAST", "mast")
    with pytest.raises(UsageError, match="DEEPCR_ZOO_MAST is 'mast': expected an address"):
        search(recipe)


@pytest.mark.parametrize(
    ("answer", "kind", "words"),
    [
        (b"<html>Please log in</html>", ArchiveUnreachableError, "login page"),
        ({"status": "ERROR", "msg": "database is down"}, ArchiveError, "database is down"),
        ({"status": "COMPLETE"}, ArchiveError, "cannot be understood"),
        ([], ArchiveError, "cannot be understood"),
    ],
)
def test_an_answer_that_cannot_be_used_is_one_sentence(archive, recipe, answer, kind, words):
    archive.other_answers.append(answer)
    with pytest.raises(kind, match=words) as caught:
        search(recipe)
    assert "\n" not in str(caught.value)


def test_a_silent_archive_is_given_up(archive, recipe, monkeypatch):
    monkeypatch.setattr(mast, "READ_S", 0.1)
    archive.delay_s = 0.5
    with pytest.raises(ArchiveUnreachableError, match="does not answer in time"):
        search(recipe)


def check(*arguments):
    return CliRunner().invoke(app, ["recipe", "check", *map(str, arguments)])


def test_a_recipe_that_agrees_with_the_archive_passes_the_check(archive, recipe_file):
    done = check(recipe_file, "--online")
    assert done.exit_code == 0, done.output
    assert "differs" in done.stdout


def test_differences_from_the_archive_are_listed_with_exit_code_1(archive, recipe_file, exposures):
    name = min(exposures.glob("extragalactic/*_flc.fits")).name
    for row in archive.listed(name):
        row["dataRights"] = "EXCLUSIVE_ACCESS"
    settings = ("data.visits.globular_cluster.exposure_time_s=350", "data.visits.resolved_galaxy.exposures=5")
    more = 'data.visits.more={proposal: 1, visit: "zz", field_type: extragalactic, split: test}'
    done = check(recipe_file, "--online", "--json", *(word for one in (*settings, more) for word in ("--set", one)))
    assert done.exit_code == 1, done.output
    rows = {row["rule"]: row for row in json.loads(done.stdout)["archive"]}
    assert rows["extragalactic"]["differs"] == ["1 not public"]
    assert rows["globular_cluster"]["differs"] == ["350 s expected, 250 s found"]
    assert rows["resolved_galaxy"]["differs"] == ["5 exposures expected, 3 found"]
    assert rows["more"]["differs"] == ["nothing found"]
    shown = check(recipe_file, "--online", "--set", settings[1]).stdout
    assert "5 exposures expected, 3 found" in " ".join(shown.split())


def test_a_product_belongs_to_the_first_rule_that_matches_it(archive, recipe):
    rules = {name: rule.model_dump() for name, rule in recipe.data.visits.items()}
    rules["the rest"] = {"proposal": 90001, "field_type": "extragalactic"}
    rows = compare(recipe_of(rules), search(recipe))
    assert [(row.rule, row.found_exposures) for row in rows][-1] == ("the rest", 0)


def test_a_recorded_answer_of_the_real_archive_is_understood(empty_archive):
    """As astroquery keeps it for its own tests: observations of STIS, without columns that came later."""
    recorded = resources.files("astroquery.mast.tests.data")
    if not recorded.joinpath("advSearch.json").is_file():
        pytest.skip("astroquery is installed without its tests")
    for name in ("advSearch.json", "products.json"):
        empty_archive.other_answers.append(json.loads(recorded.joinpath(name).read_text()))
    request = VisitRequest(proposal=8880, visit="01", target="ev-*", filters=["MIRVIS"])
    query = Query(telescope="HST", instrument="STIS", detector="CCD", product="flt", visits=[request])
    assert mast.Archive().search(query) == []
    assert empty_archive.searches[-1]["params"]["obsid"] == "2003520266,2003520267,2003520268"
