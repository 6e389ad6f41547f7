"""Training sets of repeated exposures: one pointing each, labelled by each other, split by observation."""

import dataclasses

import numpy as np
import pytest
from astropy.io import fits

from deepcr_zoo.dataset.build import build_dataset
from deepcr_zoo.dataset.expectations import doubts
from deepcr_zoo.dataset.exposures import read_chips, read_facts
from deepcr_zoo.dataset.labels import label_visit
from deepcr_zoo.dataset.overview import text, write_report
from deepcr_zoo.dataset.plans import plan_build
from deepcr_zoo.dataset.store import Home
from deepcr_zoo.errors import DataError, UsageError
from deepcr_zoo.zoo.recipefiles import find_recipe, read_recipe
from tests.conftest import STIS_EXPOSURES
from tests.dataset.repeated import LIT, NOISE, RAW_SHAPE, SHAPE, recipe_of, write_observation

NUMBERS = (1, 2, 3, 4)


@pytest.fixture(scope="module")
def observations(tmp_path_factory):
    folder = tmp_path_factory.mktemp("observations")
    return {number: write_observation(folder, number) for number in NUMBERS}


@pytest.fixture(scope="module")
def folder(observations):
    return observations[1].path.parent


@pytest.fixture(scope="module")
def dataset(folder, tmp_path_factory):
    return build_dataset(recipe_of(), [folder], home=Home(tmp_path_factory.mktemp("home")))


def labels_of(dataset, number):
    """Label and ignore mask of the first exposure of an observation, put together, NaN between stamps."""
    (group,) = (
        one
        for split in ("train", "validation", "test", "guard")
        for one in dataset.exposures(split)
        if one.exposure.name == f"o5650{number:02d}10-1" and split == ("test" if number == 4 else "train")
    )
    layers = group.read("cosmic_rays", "ignore", "position")
    masks = np.full((2, *SHAPE), np.nan)
    for cosmic_rays, ignore, (row, column) in zip(*layers.values(), strict=True):
        side = len(ignore)
        masks[:, row : row + side, column : column + side] = cosmic_rays, ignore
    return masks


@pytest.mark.parametrize("number", [1, 4])
def test_labels_find_the_cosmic_rays_that_were_put_in_and_few_others(dataset, observations, number):
    cosmic_rays, ignore = labels_of(dataset, number)
    truth, counted = observations[number].cosmic_rays[0], ignore == 0
    assert cosmic_rays[truth & counted].mean() > 0.95
    assert cosmic_rays[~truth & counted].mean() < 0.003


SENTINELS = (-1e30, 3e38, -1e10, np.nan, np.inf)


def test_pixels_without_a_value_are_ignored_reported_and_kept_out_of_the_stamps(tmp_path):
    spoilt, *_ = (write_observation(tmp_path / "files", number).path for number in NUMBERS)
    columns = [20, 40, 60, 80, 100]
    with fits.open(spoilt, mode="update") as hdus:
        hdus["SCI", 1].data = hdus["SCI", 1].data.astype(np.float64)
        hdus["SCI", 1].data[:, columns] = SENTINELS
    dataset = build_dataset(recipe_of(), [tmp_path / "files"], home=Home(tmp_path / "home"))
    (group,) = (one for one in dataset.exposures("train") if one.exposure.name == "o56500110-1")
    layers = group.read("image", "ignore", "position")
    assert np.isfinite(layers["image"]).all()
    assert np.abs(layers["image"]).max() < 1e6
    for ignore, (_, column) in zip(layers["ignore"], layers["position"], strict=True):
        inside = [one - column for one in columns if column <= one < column + ignore.shape[1]]
        assert ignore[:, inside].all()
    assert "pixels hold no value (NaN, infinite or beyond 1e+09) and are ignored" in text(dataset.manifest)


def test_hot_pixels_are_ignored_in_every_observation(dataset, observations):
    for number in (1, 4):
        _, ignore = labels_of(dataset, number)
        hot = observations[number].hot & np.isfinite(ignore)
        assert hot.sum() > 50
        assert (ignore[hot] == 1).mean() > 0.98


def test_each_observation_is_a_visit_named_by_it_and_the_test_shares_none(dataset):
    splits = {visit.record.name: visit.split for visit in dataset.manifest.visits}
    assert splits == {f"07353-02-G430M-o5650{n:02d}10": "test" if n == 4 else "train" for n in NUMBERS}
    assert dataset.manifest.split_by == "observation"
    assert any("split by observation and may show the same sky" in one for one in dataset.manifest.cautions)


def test_the_report_says_that_the_split_is_by_observation(dataset):
    report = next(path for path in write_report(dataset) if path.suffix == ".md").read_text()
    assert "split by observation" in report


def test_without_a_declared_split_observations_of_one_target_are_refused(folder, tmp_path):
    recipe = recipe_of("data.split_by=sky")
    with pytest.raises(DataError, match="overlap on the sky"):
        plan_build(recipe, [folder], home=Home(tmp_path))


def test_an_exposure_with_another_background_is_left_out_with_its_partner(folder, tmp_path):
    other = tmp_path / "data"
    for number in (1, 4):
        write_observation(other, number)
    write_observation(other, 3, backgrounds=(0.02, 0.06))
    dataset = build_dataset(recipe_of(), [other], home=Home(tmp_path / "home"))
    reasons = {one.what: one.reason for one in dataset.manifest.rejected}
    assert "1 of 2 exposures is sound" in reasons["07353-02-G430M-o56500310"]
    assert "times what is usual in its visit" in reasons["07353-02-G430M-o56500310, o56500310-2"]
    assert len(reasons) == 2


def test_one_observation_alone_is_labelled_as_well_as_one_of_several(tmp_path):
    for number in (1, 4):
        write_observation(tmp_path / "data", number)
    recipe = recipe_of()
    plan = plan_build(recipe, [tmp_path / "data"], home=Home(tmp_path / "home"))
    alone = dataclasses.replace(plan.visits[0], siblings=())
    found = [label_visit(visit, plan.home).exposures[0] for visit in (plan.visits[0], alone)]
    fractions = [one.cosmic_ray_fraction for one in found]
    assert fractions[1] == pytest.approx(fractions[0], rel=0.1)
    assert found[1].ignored_fraction < found[0].ignored_fraction + 0.005


def test_a_pedestal_is_told_in_the_report(tmp_path):
    for number in (1, 4):
        path = write_observation(tmp_path / "in", number).path
        with fits.open(path, mode="update") as hdus:
            for version in (1, 2):
                hdus["SCI", version].data += 0 if number == 1 else 10_000
    recipe = recipe_of("build.quality.max_background_ratio=1.0e+9")
    built = build_dataset(recipe, [tmp_path / "in"], home=Home(tmp_path / "home"))
    cautions = [one for one in built.manifest.cautions if "noise of the background" in one]
    assert [one.partition(": the noise")[0] for one in cautions] == ["o56500410-1: SCI,1", "o56500410-2: SCI,2"]
    assert all("seems to hold a pedestal" in one and one in text(built.manifest) for one in cautions)


def test_test_observations_of_one_target_are_drawn_by_the_test_fraction(folder, tmp_path):
    content = recipe_of().model_dump()
    rule = content["data"]["visits"]["training"] | {"observation": None, "split": None, "visit": None, "test_fraction": 0.5}
    content["data"]["visits"] = {"any": rule}
    plan = plan_build(type(recipe_of()).model_validate(content), [folder], home=Home(tmp_path))
    assert sorted(visit.split for visit in plan.visits) == ["test", "test", "train", "train"]


def test_backgrounds_are_compared_only_within_one_target(tmp_path):
    for number in (1, 4):
        write_observation(tmp_path / "data", number)
    bright = write_observation(tmp_path / "data", 2, backgrounds=(0.2, 0.2))
    fits.setval(bright.path, "TARGNAME", value="ANOTHER")
    dataset = build_dataset(recipe_of(), [tmp_path / "data"], home=Home(tmp_path / "home"))
    assert len(dataset.manifest.visits) == 3
    assert not dataset.manifest.rejected


def test_simulated_visits_are_not_labelled_as_repeats():
    recipe = read_recipe(find_recipe("acs-wfc-f606w"), ["build.labels=cr_split"])
    with pytest.raises(UsageError, match="the simulator dithers the visits of ACS/WFC"):
        plan_build(recipe, rehearse=True)
    assert any("it cannot be rehearsed" in one for one in doubts(recipe))


def test_repeats_in_a_file_each_are_one_visit(tmp_path):
    for number in NUMBERS:
        write_observation(tmp_path / "data", number, in_files=True)
    plan = plan_build(recipe_of(test="o565004*"), [tmp_path / "data"], home=Home(tmp_path))
    assert [[one.observation for one in visit.exposures] for visit in plan.visits] == [
        [f"o5650{number:02d}1{index}" for index in (0, 1)] for number in NUMBERS
    ]
    assert all(len(visit.siblings) == 6 for visit in plan.visits)


def test_three_repeats_are_labelled_by_the_median_of_the_others(tmp_path):
    for number in (1, 4):
        observation = write_observation(tmp_path / "data", number, times=(900.0, 900.0, 1000.0))
    dataset = build_dataset(recipe_of(), [tmp_path / "data"], home=Home(tmp_path / "home"))
    assert [len(visit.record.exposures) for visit in dataset.manifest.visits] == [3, 3]
    cosmic_rays, ignore = labels_of(dataset, 4)
    assert cosmic_rays[observation.cosmic_rays[0] & (ignore == 0)].mean() > 0.9


def test_an_exposure_with_too_many_cosmic_rays_is_rejected_and_the_others_are_labelled_again(tmp_path):
    first, _ = (write_observation(tmp_path / "data", number, times=(900.0, 900.0, 1000.0)) for number in (1, 4))
    with fits.open(first.path, mode="update") as hdus:
        hdus["SCI", 2].data[::5, ::5] += 900
    (visit, _) = plan_build(recipe_of(), [tmp_path / "data"], home=Home(tmp_path / "home")).visits
    record = label_visit(visit, Home(tmp_path / "home"))
    ((what, reason),) = [(one.what, one.reason) for one in record.rejected]
    assert what == "o56500110-2"
    assert "cosmic rays per cm2 and s is" in reason
    assert "build.quality.max_rate_ratio is 2" in reason
    assert [one.name for one in record.exposures] == ["o56500110-1", "o56500110-3"]


def test_exposures_with_few_cosmic_rays_are_kept(tmp_path):
    write_observation(tmp_path / "data", 1, times=(900.0, 900.0, 1000.0), cosmic_rays=(3, 7, 1))
    (visit,) = plan_build(recipe_of(), [tmp_path / "data"], home=Home(tmp_path / "home")).visits
    record = label_visit(visit, Home(tmp_path / "home"))
    assert not record.rejected
    assert max(one.rate_ratio for one in record.exposures) > 2


def test_a_raw_frame_is_read_without_bias_and_overscan(tmp_path):
    observation = write_observation(tmp_path, 1, shape=(1024, 511), raw=True)
    block = recipe_of(product="raw").instrument
    facts = read_facts(observation.path, block, "cr_split")
    assert [(one.name, one.exposure_time_s, one.versions) for one in facts] == [
        ("o56500110-1", 900.0, (1,)),
        ("o56500110-2", 1100.0, (2,)),
    ]
    assert all(one.read_noise_electron == pytest.approx(NOISE, abs=0.2) for one in facts)
    (chip,) = read_chips(facts[0], block)
    assert chip.image.shape == (LIT[0].stop - LIT[0].start, LIT[1].stop - LIT[1].start)
    assert np.median(chip.image) == pytest.approx(18, abs=2)
    assert chip.area_cm2 == pytest.approx(1024 * 511 * 2 * 21e-4**2)
    assert chip.image.shape != RAW_SHAPE


def test_only_settings_of_the_label_method_change_the_key_of_a_visit(folder, tmp_path):
    def keys(*settings):
        return [visit.key for visit in plan_build(recipe_of(*settings), [folder], home=Home(tmp_path)).visits]

    before = keys()
    assert keys() == before
    assert keys("build.drizzle.driz_cr_grow=3") == before
    assert not set(keys("build.cr_split.grow=2")) & set(before)


def test_spectra_are_not_rehearsed_with_astrodrizzle():
    with pytest.raises(UsageError, match="AstroDrizzle reads no such files: expected"):
        plan_build(recipe_of("build.labels=astrodrizzle"), rehearse=True)


@pytest.mark.slow
def test_the_real_exposures_are_labelled_and_the_odd_one_is_rejected(tmp_path):
    if not STIS_EXPOSURES:
        pytest.skip("shared/data/stis_crsplit is absent: real STIS exposures are not part of the project")
    recipe = read_recipe(find_recipe("stis-ccd"))
    some = [path for path in STIS_EXPOSURES if path.name[7] in "125"]
    dataset = build_dataset(recipe, some, home=Home(tmp_path))
    assert [visit.record.name[-9:] for visit in dataset.manifest.visits] == ["o56502020", "o56502050"]
    assert any(one.what.endswith("o56502010-2") for one in dataset.manifest.rejected)
    for visit in dataset.manifest.visits:
        for exposure in visit.record.exposures:
            assert 3 < exposure.read_noise_electron < 9
            assert 0.03 < exposure.cosmic_ray_fraction < 0.09
            assert exposure.ignored_fraction < 0.12
            assert 0.5 < exposure.cosmic_rays_per_cm2_s < 2
