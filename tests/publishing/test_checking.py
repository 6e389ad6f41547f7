"""`deepcr-zoo check`: what is wrong in a contribution is named, and one mistake does not hide another."""

import os
import re
import shutil

import pytest
import safetensors.numpy
import yaml
from typer.testing import CliRunner

from deepcr_zoo import locations
from deepcr_zoo.bench.gates import Gate
from deepcr_zoo.bench.results import Interval, read_results, write_results
from deepcr_zoo.cli.main import app
from deepcr_zoo.errors import UsageError
from deepcr_zoo.publishing import checking
from deepcr_zoo.publishing.entries import write_entry
from deepcr_zoo.publishing.releases import release_of_model
from deepcr_zoo.zoo.cards import contract_sha256, read_card
from deepcr_zoo.zoo.recipefiles import read_recipe
from deepcr_zoo.zoo.registry import HubPin, LockedFile, read_registry
from tests.conftest import CHECKOUT
from tests.described import CAMERA
from tests.registries import SMALL, copy_registry, edit, edit_card, edit_entry

pytestmark = pytest.mark.filterwarnings("ignore::deepcr_zoo.errors.ModelWarning")


@pytest.fixture
def root(tmp_path):
    """A checkout with one small model, and the recipes."""
    copy_registry(tmp_path / "root")
    shutil.copytree(CHECKOUT / "recipes", tmp_path / "root" / "recipes")
    visits = {"lists": {}, "models": {}, "unknown": {f"{SMALL}@1.0": "it does not matter here"}}
    (tmp_path / "root" / "zoo" / "training_visits.yaml").write_text(yaml.safe_dump(visits))
    for recipe in (tmp_path / "root" / "recipes").glob("*.yaml"):
        if {"init_from", "teacher"} & set(re.findall(r"\w+", recipe.read_text())):  # of a model that is not among this one
            recipe.unlink()
    return tmp_path / "root"


def problems(root, before=None):
    return {one.what: one.problems for one in checking.check(root, before) if one.problems}


def test_this_checkout_is_right():
    looked = list(checking.check(locations.data_root()))
    assert [one for one in looked if one.problems] == []
    assert {one.what for one in looked} >= {f"{SMALL}@1.0", "recipes/wfc3-uvis.yaml", "zoo/instruments.yaml"}


def test_a_small_registry_is_right(root):
    assert problems(root) == {}


def test_a_registry_may_describe_instruments_without_the_units_and_products_of_the_zoo(root):
    (root / "zoo" / "instruments.yaml").write_text(yaml.safe_dump({"instruments": [CAMERA]}))
    assert problems(root) == {}
    (root / "zoo" / "instruments.yaml").write_text(yaml.safe_dump({"instruments": [CAMERA], "units": []}))
    assert any("combined: expected a value" in problem for problem in problems(root)["zoo/instruments.yaml"])


def break_schema(root):
    edit_entry(root, lambda entry: entry.pop("summary"))


def break_weights(root):
    path = root / "zoo" / "weights" / SMALL / "1.0" / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\1")


def break_test_vector(root):
    path = root / "zoo" / "weights" / SMALL / "1.0" / "test_vector.safetensors"
    arrays = safetensors.numpy.load(path.read_bytes())
    path.write_bytes(safetensors.numpy.save({**arrays, "expected": arrays["expected"] + 1}))
    locked = LockedFile.of(path.read_bytes()).model_dump()
    edit_entry(root, lambda entry: entry["versions"]["1.0"].update(test_vector=locked))


def break_citation(root):
    edit_card(root, lambda card: card["citation"][0].update(bibtex="@article{x, title = {y}}"))


def edit_frozen_card(root):
    edit(root / "cards" / SMALL / "1.0.yaml", lambda card: card.update(limits=["x"]))


def break_parity(root):
    edit(root / "cards" / SMALL / "1.0.results.yaml", lambda found: found["parity"][0].update(weights_sha256="0" * 64))


@pytest.mark.parametrize(
    ("spoil", "what", "message"),
    [
        (break_schema, f"zoo/{SMALL}.yaml", "summary: expected a value, got none"),
        (break_weights, f"{SMALL}@1.0", "is not what the registry locked"),
        (break_test_vector, f"{SMALL}@1.0", "differs from its test vector by"),
        (edit_frozen_card, f"{SMALL}@1.0", "a card is frozen"),
        (lambda root: (root / "zoo" / "weights" / "LICENSE.deepCR").unlink(), f"{SMALL}@1.0", "LICENSE.deepCR is not there"),
        (break_citation, f"{SMALL}@1.0", "has another DOI, or none"),
        (break_parity, f"{SMALL}@1.0", "is of other weights"),
        (
            lambda root: (root / "cards" / SMALL / "3.0.yaml").touch(),
            "files without an entry",
            "no entry in zoo/ has such a",
        ),
        (lambda root: (root / "cards" / SMALL / "3.0.benchmark.json").touch(), "files without an entry", "3.0.benchmark"),
        (lambda root: (root / "zoo/weights" / SMALL / "1.0/model.pth").touch(), "files without an entry", "model.pth"),
        (lambda root: (root / "zoo/training_visits.yaml").unlink(), "zoo/training_visits.yaml", "what it was trained on"),
        (
            lambda root: (root / "recipes/acs-wfc.yaml").write_text("nam: x\n"),
            "recipes/acs-wfc.yaml",
            "expected no such key",
        ),
        (lambda root: (root / "recipes/x.yaml").write_text("a: &a [*a]\n"), "recipes/x.yaml", "x.yaml: expected a"),
        (lambda root: (root / "zoo/instruments.yaml").write_text("a: 1\n"), "zoo/instruments.yaml", "expected no such key"),
    ],
)
def test_a_mistake_is_named_with_its_place(spoil, what, message, root):
    spoil(root)
    found = problems(root)
    assert list(found) == [what]
    assert message in " ".join(found[what])


def test_nothing_is_repeated_of_a_folder_that_a_linked_folder_of_recipes_leads_to(root, tmp_path):
    shutil.move(root / "recipes", tmp_path / "private")
    (tmp_path / "private" / "secrets.yaml").write_text("name: my password is hunter2\n")
    (root / "recipes").symlink_to(tmp_path / "private")
    found = problems(root)
    assert list(found) == ["links"]
    assert "hunter2" not in str(found)


def test_all_is_looked_at_whatever_is_wrong(root):
    break_schema(root)
    (root / "recipes" / "acs-wfc.yaml").write_text("nam: x\n")
    (root / "zoo" / "inpaint").mkdir(exist_ok=True)
    (root / "zoo" / "inpaint" / "other.yaml").write_text("name: other\n")
    assert len(problems(root)) == 3


def test_a_recipe_that_starts_from_a_model_that_is_not_there_is_named(root):
    shutil.copy(CHECKOUT / "recipes" / "wfc3-uvis.yaml", root / "recipes")
    assert "no such model" in problems(root)["recipes/wfc3-uvis.yaml"][0]


def trained(root):
    """Version 2.0, which says that it was trained here by a recipe that stands beside its card."""
    content = read_recipe(root / "recipes" / "ccd-any-3-16.yaml").model_dump(mode="json")
    resolved = yaml.safe_dump({**content, "name": "ACS-WFC-F606W-2-4"}).encode()
    folder = root / "cards" / SMALL
    (folder / "2.0.recipe.yaml").write_bytes(resolved)
    shutil.copy(folder / "1.0.yaml", folder / "2.0.yaml")
    edit_entry(root, lambda entry: entry["versions"].update({"2.0": dict(entry["versions"]["1.0"])}))
    shutil.copytree(root / "zoo" / "weights" / SMALL / "1.0", root / "zoo" / "weights" / SMALL / "2.0")

    def as_trained(card):
        card["identity"]["version"] = "2.0"
        hashes = {"recipe_sha256": LockedFile.of(resolved).sha256, "manifest_sha256": "a" * 64}
        card["provenance"] = {"kind": "trained", "statement": "trained here", **hashes}
        card["training"]["visits"] = ["10420-01"]

    edit_card(root, as_trained, version="2.0")
    write_benchmark(root)
    return folder / "2.0.recipe.yaml"


def write_benchmark(root, change=lambda results: None, **judged):
    """Put a benchmark beside the card of version 2.0: that of a network of the zoo, as if it were of these weights."""
    model = read_registry(root).resolve(f"{SMALL}@2.0")
    results = read_results(CHECKOUT / "cards" / "mask" / "CCD-ANY-3-16" / "1.0.benchmark.json")
    of_model = next(one for one in results.methods if one.name == results.verdicts[0].reference)
    hashes = {"sha256": model.locked.weights.sha256, "contract_sha256": contract_sha256(read_card(model)), **judged}
    of_model.method.__dict__.update(hashes)
    results.comparisons.extend(
        one.model_copy(update={"against": f"{SMALL}@1.0", "value": 0.1, "interval": Interval(low=0.0, high=0.2, blocks=8)})
        for one in list(results.comparisons)
    )
    change(results)
    write_results(results, root / "cards" / SMALL / "2.0.benchmark.json")


def test_the_recipe_of_a_network_that_was_trained_here_stands_beside_its_card_unchanged(root):
    recipe = trained(root)
    assert problems(root) == {}
    text = recipe.read_text()
    recipe.write_text(f"{text}# a word more\n")
    assert "is not the recipe of the card: expected sha256" in problems(root)[f"{SMALL}@2.0"][0]
    recipe.unlink()
    assert "2.0.recipe.yaml is missing: it stands beside the card" in " ".join(problems(root)[f"{SMALL}@2.0"])


def own(results):
    return next(one for one in results.methods if one.name == results.verdicts[0].reference)


def find_more_stars(results):
    for field in own(results).fields.values():
        for group in field.diagnostics.star_cores:
            group.__dict__.update(rates=[0.5, *group.rates[1:]])


def find_less(results):
    for field in own(results).fields.values():
        for rate in field.at_fpr:
            rate.__dict__.update(tpr=0.01, tpr_interval=Interval(low=0.0, high=0.02, blocks=8))


def leave_only_praise(results):
    praise = results.verdicts[0].gates[0].model_copy(update={"gate": "as good as any", "verdict": "passes"})
    results.verdicts[0].__dict__.update(gates=[praise])


def share_the_sky(results):
    for gate in results.verdicts[0].gates:
        if gate.gate == Gate.SEPARATE_SKY:
            gate.__dict__.update(gate=Gate.SEPARATE_OBSERVATIONS)


def require_nothing(results):
    for gate in results.verdicts[0].gates:
        gate.__dict__.update(verdict="not required")


def judge_twice(results):
    twin = own(results).model_copy(update={"name": "another name of it"})
    results.methods.insert(0, twin)


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (find_more_stars, "clean star cores are rarely masked, at the default threshold (extragalactic): 50.00 % of"),
        (find_less, "is above that of the best L.A.Cosmic (spectrum)"),
        (leave_only_praise, "labels are sound: not measured: it is not on record beside the card"),
        (share_the_sky, "no sky is shared by training and test: not measured: it is not on record beside the card"),
        (require_nothing, "labels are sound: "),
        (judge_twice, "not measured: the benchmark on record is not of these weights and this card"),
    ],
)
def test_a_benchmark_on_record_is_judged_anew_by_the_recipe_of_the_card(root, change, problem):
    trained(root)
    write_benchmark(root, change)
    assert problem in " ".join(problems(root)[f"{SMALL}@2.0"])


def test_the_benchmark_of_a_network_that_was_trained_here_stands_beside_its_card(root, tmp_path):
    trained(root)
    before = tmp_path / "before"
    shutil.copytree(root, before)
    path = root / "cards" / SMALL / "2.0.benchmark.json"
    path.write_text(path.read_text() + "\n")
    assert problems(root, before)[f"nothing of {before} is altered"] == (
        f"{SMALL}@2.0: 2.0.benchmark.json: may be added, not altered",
    )
    path.unlink()
    write_benchmark(root, sha256="0" * 64)
    assert "the benchmark on record is not of these weights" in problems(root)[f"{SMALL}@2.0"][0]
    path.unlink()
    assert "2.0.benchmark.json: cannot be read: No such file" in problems(root)[f"{SMALL}@2.0"][0]


def test_a_model_that_is_on_a_hub_that_does_not_answer_is_not_taken_for_right(root, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    model = read_registry(root).resolve(SMALL)
    pin = HubPin(repo="deepcr-zoo/mask-ACS-WFC-F606W-2-4", commit="1" * 40)
    write_entry(release_of_model(model), pin, root)
    edit_entry(root, lambda entry: entry["versions"]["1.0"]["sources"].update(seed=False))
    shutil.rmtree(root / "zoo" / "weights" / "mask")
    assert "no source could supply" in problems(root)[f"{SMALL}@1.0"][0]


def test_against_an_earlier_state_what_was_there_must_stay_as_it_was(root, tmp_path):
    before = tmp_path / "before"
    shutil.copytree(root, before)
    trained(root)
    assert problems(root, before) == {}
    edit_card(root, lambda card: card["output"].update(threshold=0.7))
    found = problems(root, before)
    assert f"nothing of {before} is altered" in found
    assert f"{SMALL}@1.0: card: expected sha256=" in found[f"nothing of {before} is altered"][0]


def test_against_an_earlier_state_places_cautions_and_results_stay(root, tmp_path):
    pin = {"repo": "deepcr-zoo/mask-ACS-WFC-F606W-2-4", "commit": "1" * 40}
    edit_entry(root, lambda entry: entry["versions"]["1.0"].update(warning="mind the gap"))
    edit_entry(root, lambda entry: entry["versions"]["1.0"]["sources"].update(hub=pin))
    before = tmp_path / "before"
    shutil.copytree(root, before)
    edit_entry(root, lambda entry: entry["versions"]["1.0"].pop("warning"))
    edit_entry(root, lambda entry: entry["versions"]["1.0"]["sources"].pop("hub"))
    edit(root / "cards" / SMALL / "1.0.results.yaml", lambda found: found["measurements"].clear())
    (found,) = problems(root, before).values()
    assert found == (
        f"{SMALL}@1.0: sources.hub: is missing",
        f"{SMALL}@1.0: warning: is missing",
        f"{SMALL}@1.0: results: expected those that are there first, and new ones after them",
    )


def run(*arguments):
    return CliRunner().invoke(app, ["check", *map(str, arguments)])


def test_the_command_shows_each_item_and_fails_where_one_is_wrong(root, tmp_path):
    done = run(root)
    assert done.exit_code == 0, done.stdout
    assert f"right  {SMALL}@1.0" in done.stdout
    break_weights(root)
    done = run(root)
    assert done.exit_code == 1
    assert f"wrong  {SMALL}@1.0" in done.stdout
    assert "1 wrong" in done.stderr
    assert '"problems": []' in run(root, "--json").stdout
    error = run(tmp_path).exception
    assert isinstance(error, UsageError)
    assert "expected a checkout of the repository, or the folder of a registry" in str(error)


@pytest.mark.parametrize("name", ["README.md", "cards/README.md", "docs/guide/models.md", "recipes/recipe.schema.json"])
@pytest.mark.parametrize("kind", ["pipe", "link", "large"])
def test_a_rendered_file_of_others_that_is_no_plain_file_is_a_problem_and_is_not_waited_for(root, name, kind, tmp_path):
    (root / "docs" / "guide").mkdir(parents=True)
    for file in ("README.md", "cards/README.md", "docs/guide/models.md", "docs/guide/clean.md", "zoo/instruments.yaml"):
        shutil.copyfile(CHECKOUT / file, root / file)
    path = root / name
    path.unlink()
    if kind == "pipe":
        os.mkfifo(path)
    elif kind == "link":
        path.symlink_to(tmp_path / "secret")
    else:
        path.write_text("x" * 2_000_000)
    expected = {"pipe": "is a pipe", "link": "symbolic link", "large": "at most"}[kind]
    found = [problem for several in problems(root).values() for problem in several]
    assert any(name in problem and expected in problem for problem in found), found


def test_an_entry_to_which_a_link_leads_is_not_repeated(root, tmp_path):
    (tmp_path / "own.yaml").write_text("name: s3cr3tPassw0rd\ntask: s3cr3tPassw0rd\n")
    (root / "zoo" / "mask" / "ZZZ.yaml").symlink_to(tmp_path / "own.yaml")
    found = problems(root)
    assert list(found) == ["links"]
    assert "s3cr3t" not in str(found)
