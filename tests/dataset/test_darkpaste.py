"""Labels by dark exposures: added cosmic rays are labelled, those of the exposure itself are ignored."""

import shutil
from functools import partial

import numpy as np
import pytest
from scipy import ndimage

from deepcr_zoo import train
from deepcr_zoo.dataset import darkpaste, darks
from deepcr_zoo.dataset.build import build_dataset
from deepcr_zoo.dataset.darks import DarkHits
from deepcr_zoo.dataset.descriptions import describe_ignored_pixels, describe_labels
from deepcr_zoo.dataset.labels import label_visit
from deepcr_zoo.dataset.plans import plan_build
from deepcr_zoo.dataset.store import Home, recipe_key
from deepcr_zoo.errors import DataError, InvalidDocumentError, MissingDataError, UsageError
from deepcr_zoo.progress import NullReporter
from deepcr_zoo.simulate.truth import read_truth, truth_path
from deepcr_zoo.zoo.recipe import BuildBlock
from deepcr_zoo.zoo.recipefiles import find_recipe, read_recipe
from tests.dataset.darks import pasting, write_darks
from tests.dataset.visits import STAMP, chips, copy_changed, shipped


@pytest.fixture(scope="module")
def recipe(exposures, dark_folder):
    return pasting(exposures, dark_folder)


@pytest.fixture(scope="module")
def plan(recipe, exposures, tmp_path_factory):
    return plan_build(recipe, [exposures], home=Home(tmp_path_factory.mktemp("home")))


@pytest.fixture(scope="module")
def pasted(recipe, exposures, plan):
    """The training set; its files are not to be changed."""
    return build_dataset(recipe, [exposures], home=plan.home)


def stamps_of(dataset):
    """Tensors and the chip that they were cut from, of each exposure."""
    for split in ("train", "test"):
        for stamps in dataset.exposures(split):
            yield stamps, stamps.read("image", "cosmic_rays", "ignore", "position")


def cut(image, positions):
    return np.stack([image[row : row + STAMP, column : column + STAMP] for row, column in positions])


def file_of(exposures, stamps):
    return next(exposures.rglob(f"{stamps.exposure.name}_flc.fits"))


# Added cosmic rays


def test_the_mask_holds_exactly_the_electrons_added_from_darks(pasted, plan, exposures):
    by_name = {one.name: (visit, one) for visit in plan.visits for one in visit.exposures}
    for stamps, tensors in stamps_of(pasted):
        visit, facts = by_name[stamps.exposure.name]
        (before,) = chips(file_of(exposures, stamps), "SCI")
        (bank,) = darks.read_hits(visit.darks, darkpaste.detection_settings(visit))
        random = darkpaste.random_for(visit.build.seed, facts.name, 1)
        added = cut(
            darkpaste.draw_cosmic_rays(bank, visit.build.dark_paste.per_exposure, before.shape, random), tensors["position"]
        )
        np.testing.assert_array_equal(tensors["image"], cut(before, tensors["position"]) + added)
        np.testing.assert_array_equal(tensors["cosmic_rays"], added > 0)
        assert 0.003 < tensors["cosmic_rays"].mean() < 0.1
        # the pixels of a dark, with their electrons
        assert np.isin(added[added > 0], np.concatenate([hits.electrons for hits in bank])).mean() > 0.9


def test_a_dark_is_moved_around_its_edges_and_mirrored_and_covers_the_chip():
    corner = DarkHits((40, 50), np.array([0, 0, 39]), np.array([0, 1, 49]), np.array([5, 6, 7], np.float32))
    seen, mirrored = np.zeros((30, 20)), set()
    for seed in range(400):
        electrons = darkpaste.draw_cosmic_rays([corner], [1, 1], (30, 20), np.random.default_rng(seed))
        seen += electrons > 0
        if {5, 6} <= set(electrons[electrons > 0].tolist()):
            five, six = (np.argwhere(electrons == value)[0] for value in (5, 6))
            assert five[0] == six[0]
            mirrored.add(int(six[1] - five[1]))
        assert np.count_nonzero(electrons) <= 3
    assert {1, -1} <= mirrored
    assert (seen[:15].any(), seen[15:].any(), seen[:, :10].any(), seen[:, 10:].any()) == (True,) * 4


@pytest.mark.parametrize(("limits", "counts"), [([1, 1], {1}), ([3, 3], {3}), ([1, 4], {1, 2, 3, 4})])
def test_one_or_several_darks_are_pasted_and_their_electrons_add_up(limits, counts):
    everywhere = [DarkHits((8, 8), *(index.ravel() for index in np.indices((8, 8))), np.ones(64, np.float32))]
    drawn = [darkpaste.draw_cosmic_rays(everywhere, limits, (8, 8), np.random.default_rng(seed)) for seed in range(40)]
    assert {float(one.min()) for one in drawn} == {float(one.max()) for one in drawn} == counts


def test_chips_and_seeds_get_different_cosmic_rays(plan):
    visit = plan.visits[0]
    (bank,) = darks.read_hits(visit.darks, darkpaste.detection_settings(visit))
    draws = [
        darkpaste.draw_cosmic_rays(bank, [1, 1], (64, 64), darkpaste.random_for(*names)).tobytes()
        for names in ((1, "a", 1), (1, "a", 2), (2, "a", 1), (1, "b", 1))
    ]
    assert len(set(draws)) == 4


# Ignored pixels


def test_cosmic_rays_of_the_exposure_itself_are_ignored(pasted, exposures):
    least = {"extragalactic": 0.95, "globular_cluster": 0.92, "resolved_galaxy": 0.88}
    on_top = 0
    for stamps, tensors in stamps_of(pasted):
        (known,) = read_truth(truth_path(file_of(exposures, stamps)))
        own = cut(known.cosmic_rays > 5 * known.noise, tensors["position"])
        assert tensors["ignore"][own].mean() > least[stamps.visit.field_type]
        counted = tensors["ignore"] == 0
        assert counted.mean() > 0.7
        assert (tensors["cosmic_rays"][counted] == 1).mean() > 0.003
        on_top += (tensors["cosmic_rays"] & tensors["ignore"])[own].sum()
    assert on_top > 0  # also where another was pasted on one of them


def test_saturation_and_flags_are_ignored_on_the_sum(pasted, exposures):
    for stamps, tensors in stamps_of(pasted):
        near = ndimage.maximum_filter(tensors["image"] > 70_000, size=(1, 7, 7))
        (flags,) = chips(file_of(exposures, stamps), "DQ")
        bad = cut(flags & ~(256 | 2048 | 4096 | 8192), tensors["position"]) != 0
        assert tensors["ignore"][near | bad].all()


def flag(file, hdus):
    (known,) = read_truth(truth_path(file))
    hdus["DQ", 1].data[known.cosmic_rays > 5 * known.noise] |= 4096


def test_flags_of_the_archive_mark_the_own_cosmic_rays(exposures, dark_folder, tmp_path):
    file = min((exposures / "extragalactic").glob("*_flc.fits"))
    copy_changed(file, tmp_path / "data" / "extragalactic", partial(flag, file))
    recipe = pasting(tmp_path / "data", dark_folder, "build.dark_paste.own=dq", "build.dark_paste.own_grow=2")
    dataset = build_dataset(recipe, [tmp_path / "data"], home=Home(tmp_path / "home"))
    (known,), (flags,) = read_truth(truth_path(file)), chips(file, "DQ")
    own = ndimage.binary_dilation(known.cosmic_rays > 5 * known.noise, np.ones((5, 5)))
    bad = (flags & ~(256 | 2048 | 4096 | 8192)) != 0
    for stamps in dataset.exposures("train"):
        tensors = stamps.read("ignore", "position")
        np.testing.assert_array_equal(tensors["ignore"] == 1, cut(own | bad, tensors["position"]))
    assert "astroscrappy" not in dataset.manifest.visits[0].record.software


def test_an_exposure_without_such_flags_is_refused(exposures, dark_folder, tmp_path):
    recipe = pasting(exposures, dark_folder, "build.dark_paste.own=dq")
    with pytest.raises(DataError, match=r"no pixel of \w+ is flagged as cosmic ray in its DQ \(bits 12288\).*own lacosmic"):
        build_dataset(recipe, [exposures], home=Home(tmp_path))


# The training set


def test_one_exposure_makes_a_visit(pasted):
    assert [len(visit.record.exposures) for visit in pasted.manifest.visits] == [1, 1, 1]
    assert [visit.split for visit in pasted.manifest.visits] == ["train", "test", "train"]
    assert all(visit.record.rejection is None for visit in pasted.manifest.visits)
    assert pasted.manifest.counts["extragalactic"]["train"] > 0
    assert all(visit.record.software.startswith("deepcr-zoo") for visit in pasted.manifest.visits)


def test_several_exposures_are_not_compared_with_each_other(exposures, dark_folder, tmp_path):
    recipe = pasting(exposures, dark_folder, "build.dark_paste.per_exposure=[1, 6]", "build.quality.max_rate_ratio=1.01")
    rules = {name: rule.model_copy(update={"observation": None}) for name, rule in recipe.data.visits.items()}
    recipe = recipe.model_copy(update={"data": recipe.data.model_copy(update={"visits": rules})})
    dataset = build_dataset(recipe, [exposures / "extragalactic"], home=Home(tmp_path))
    (visit,) = dataset.manifest.visits
    assert len(visit.record.exposures) == 3
    rates = [one.cosmic_rays_per_cm2_s for one in visit.record.exposures]
    assert max(rates) > 1.01 * min(rates)
    assert [one.rate_ratio for one in visit.record.exposures] == [None] * 3  # nor by the gates later
    assert 0.3 < visit.record.largest_dither_arcsec < 1


def test_training_and_test_share_no_dark(pasted):
    of = {split: [set(v.record.darks) for v in pasted.manifest.visits if v.split == split] for split in ("train", "test")}
    assert of["train"][0] == of["train"][1]
    assert len(of["test"][0]) == 3
    assert of["train"][0].isdisjoint(of["test"][0])


def test_the_same_exposures_give_the_same_bytes(pasted, plan, recipe, exposures, dark_folder, tmp_path):
    shutil.copytree(dark_folder, tmp_path / "elsewhere")
    moved = pasting(exposures, tmp_path / "elsewhere")
    assert recipe_key(moved, False) == recipe_key(recipe, False)
    again = plan_build(moved, [exposures], home=Home(tmp_path / "home"))
    assert again.key == plan.key
    visit = again.visits[0]
    label_visit(visit, again.home)
    folders = again.home.visit(visit.key), pasted.home.visit(visit.key)
    first, second = ({path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders)
    assert first == second
    assert len(first) == 2


def keys(plan):
    return {visit.split: visit.key for visit in plan.visits}


def test_darks_settings_and_seed_are_part_of_the_key_of_a_visit(plan, exposures, dark_folder, tmp_path):
    for setting in ("build.seed=2", "build.dark_paste.per_exposure=[1, 1]", "build.dark_paste.own_grow=2"):
        other = plan_build(pasting(exposures, dark_folder, setting), [exposures], home=Home(tmp_path))
        assert not set(keys(plan).values()) & set(keys(other).values())
    (changed,) = plan.visits[1].darks[:1]

    def brighter(hdus):
        hdus["SCI", 1].data[0, 0] += 1

    shutil.copytree(dark_folder, tmp_path / "darks")
    copy_changed(changed.path, tmp_path / "darks", brighter)
    other = plan_build(pasting(exposures, tmp_path / "darks"), [exposures], home=Home(tmp_path))
    assert plan.visits[1].split == "test"
    assert keys(other)["test"] != keys(plan)["test"]
    assert keys(other)["train"] == keys(plan)["train"]


def test_keys_of_shipped_recipes_do_not_change():
    found = {name: read_recipe(find_recipe(name), ()) for name in ("acs-wfc-f606w", "stis-ccd", "wfc3-uvis")}
    assert {name: recipe_key(recipe, False) for name, recipe in found.items()} == {
        "acs-wfc-f606w": "a86c0b7cb30f96b34add0ea575ddd839",
        "stis-ccd": "a06a2435f18e175c92361c6fc239f942",
        "wfc3-uvis": "cb2cd882305150c96df5875cb01615a2",
    }
    rehearsal = plan_build(found["acs-wfc-f606w"], rehearse=True)
    assert (rehearsal.key, rehearsal.visits[0].key) == (
        "bd5c252368653156b83f5eac419e9d02",
        "6cd5f70436124950a6329784ab576b2c",
    )


def test_records_of_other_labels_name_no_darks(pasted):
    record = pasted.manifest.visits[0].record
    assert '"darks"' in record.model_dump_json()
    assert '"darks"' not in record.model_copy(update={"darks": []}).model_dump_json()


@pytest.mark.slow
def test_a_network_learns_from_pasted_cosmic_rays(pasted, exposures, dark_folder, tmp_path):
    small = ("train.architecture.hidden=4", "train.schedule.max_epochs=2", "train.schedule.freeze_after_epochs=1")
    recipe = pasting(exposures, dark_folder, *small)
    run = train(recipe, dataset=pasted, runs=tmp_path, device="cpu", reporter=NullReporter(), prove=False)
    first, last = run.history()[0], run.history()[-1]
    assert last.validation_loss < first.validation_loss
    labels = next(line for line in (run.folder / "card.yaml").read_text().splitlines() if "dark exposures" in line)
    assert str(dark_folder) not in labels


def test_labels_are_described_in_words_without_the_folders_of_a_user(recipe, dark_folder):
    labels = describe_labels(recipe, ["deepcr-zoo 9"])
    assert labels.startswith("cosmic rays of dark exposures (Chen et al. 2024), added by deepcr-zoo 9, ")
    assert "per_exposure [1, 3]" in labels
    assert str(dark_folder) not in labels
    assert "the exposures' own cosmic rays" in describe_ignored_pixels(recipe)


# Errors


def test_a_recipe_without_darks_is_an_error_that_names_the_setting(exposures, tmp_path):
    with pytest.raises(
        UsageError,
        match=r"nowhere: expected .* \(\*_flt.fits, see build.dark_paste.product\)",
    ):
        plan_build(pasting(exposures, tmp_path / "nowhere"), [exposures], home=Home(tmp_path))
    recipe = pasting(exposures, tmp_path, "build.dark_paste.darks=[]")
    with pytest.raises(
        MissingDataError, match=r"no dark exposures: name the folders of six or more under build\.dark_paste\.darks"
    ):
        plan_build(recipe, [exposures], home=Home(tmp_path))


def test_a_file_cannot_be_both_dark_and_data(exposures, tmp_path):
    def dark(hdus):
        hdus[0].header["IMAGETYP"] = "DARK"

    changed = [copy_changed(path, tmp_path / "darks", dark) for path in exposures.glob("*/*_flc.fits")]
    recipe = pasting(exposures, tmp_path / "darks", "build.dark_paste.product=flc")
    with pytest.raises(DataError, match="is among the data and among the darks"):
        plan_build(recipe, changed, home=Home(tmp_path))


def test_relative_names_of_darks_start_at_the_recipe(exposures, dark_folder, tmp_path):
    recipe = pasting(exposures, dark_folder.name)
    plan = plan_build(recipe, [exposures], beside=dark_folder.parent, home=Home(tmp_path))
    assert all(dark.path.parent == dark_folder for visit in plan.visits for dark in visit.darks)


def test_darks_of_another_detector_are_not_used(exposures, tmp_path):
    def uvis(hdus):
        hdus[0].header["INSTRUME"], hdus[0].header["DETECTOR"] = "WFC3", "UVIS"

    write_darks(tmp_path / "darks", 6, (128, 128))
    copy_changed(tmp_path / "darks" / "jdark000q_flt.fits", tmp_path / "darks2", uvis)
    (tmp_path / "darks2" / "jdark000q_flt.fits").replace(tmp_path / "darks" / "jdark000q_flt.fits")
    message = r"5 dark exposures can be used(.|\n)*jdark000q_flt.fits: is of HST WFC3/UVIS, the recipe takes .* HST ACS/WFC"
    with pytest.raises(DataError, match=message):
        plan_build(pasting(exposures, tmp_path / "darks"), [exposures], home=Home(tmp_path))


def test_darks_must_be_as_large_as_exposures(exposures, tmp_path):
    write_darks(tmp_path / "darks", 6, (128, 128))
    with pytest.raises(
        DataError, match="has chips of 384 x 384 pixels, the darks of 128 x 128: expected darks of that size"
    ):
        build_dataset(pasting(exposures, tmp_path / "darks"), [exposures], home=Home(tmp_path))


def test_a_rehearsal_has_no_darks(recipe, tmp_path):
    with pytest.raises(UsageError, match="the simulator makes no darks"):
        plan_build(recipe, rehearse=True, home=Home(tmp_path))


@pytest.mark.parametrize("labels", ["astrodrizzle", "cr_split"])
def test_other_label_methods_need_two_exposures(labels):
    with pytest.raises(InvalidDocumentError, match=r"quality\.min_exposures of 2 or more with labels"):
        shipped(f"build.labels={labels}", "build.quality.min_exposures=1")
    assert BuildBlock.model_validate({"labels": "dark_paste", "quality": {"min_exposures": 1}}).quality.min_exposures == 1


def test_the_smaller_number_of_darks_comes_first():
    with pytest.raises(InvalidDocumentError, match="the smaller number first"):
        shipped("build.dark_paste.per_exposure=[3, 1]")
