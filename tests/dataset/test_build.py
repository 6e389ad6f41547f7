"""Builds of training sets: real AstroDrizzle on small simulated visits."""

import pickle
import re
import shutil
import sys
from itertools import chain

import numpy as np
import pytest
from scipy import ndimage
from scipy.spatial import cKDTree

from deepcr_zoo import locations
from deepcr_zoo.dataset.build import build_dataset
from deepcr_zoo.dataset.plans import plan_build
from deepcr_zoo.dataset.reading import Dataset
from deepcr_zoo.dataset.store import Home
from deepcr_zoo.dataset.trainingsets import find_built
from deepcr_zoo.dataset.visits import beside, find_files
from deepcr_zoo.errors import DataError, DatasetError, MissingDataError, MissingExtraError, UsageError
from deepcr_zoo.simulate.truth import read_truth, truth_path
from deepcr_zoo.zoo.recipe import SIMULATED_FIELD_TYPES
from tests.dataset.visits import (
    BORDER,
    EXPOSURES,
    PER_EXPOSURE,
    STAMP,
    chips,
    content,
    copy_changed,
    recipe_of,
    rule,
    shipped,
    three_visits,
)

pytestmark = pytest.mark.usefixtures("drizzlepac_starts_at_once")

# Content


def test_each_exposure_gives_its_stamps_and_each_stamp_has_one_purpose(built):
    manifest = built.manifest
    assert manifest.counts == {
        "extragalactic": {"train": 45, "validation": 15, "test": 0, "guard": 15},
        "globular_cluster": {"train": 0, "validation": 0, "test": 75, "guard": 0},
        "resolved_galaxy": {"train": 45, "validation": 15, "test": 0, "guard": 15},
    }
    for visit in manifest.visits:
        assert len(visit.record.exposures) == EXPOSURES
        for stamps in visit.stamps:
            assert sorted(chain(*stamps.values())) == list(range(PER_EXPOSURE))
    assert manifest.rejected == []
    assert manifest.missing == []
    assert manifest.cautions == [
        "extragalactic: there are visits for training alone: none to judge a network on",
        "globular_cluster: there are visits for testing alone",
        "resolved_galaxy: there are visits for training alone: none to judge a network on",
    ]


def test_stamps_hold_the_pixels_of_the_file_where_they_say(built, exposures):
    for stamps in built.exposures("test"):
        tensors = stamps.read("image", "position", "chip")
        assert tensors["image"].dtype == np.float32
        assert tensors["image"].shape == (PER_EXPOSURE, STAMP, STAMP)
        (image,) = chips(next(exposures.rglob(f"{stamps.exposure.name}_flc.fits")), "SCI")
        assert {tuple(place) for place in tensors["position"].tolist()} == {
            (BORDER + STAMP * row, BORDER + STAMP * column) for row in range(5) for column in range(5)
        }
        for (row, column), stamp in zip(tensors["position"], tensors["image"], strict=True):
            np.testing.assert_array_equal(stamp, image[row : row + STAMP, column : column + STAMP])
        assert (tensors["chip"] == 1).all()


def test_pixels_with_a_bad_flag_and_those_near_saturation_are_ignored_but_no_cosmic_ray(built, exposures):
    for stamps in (*built.exposures("test"), *built.exposures("train")):
        tensors = stamps.read("ignore", "position", "cosmic_rays")
        file = next(exposures.rglob(f"{stamps.exposure.name}_flc.fits"))
        (image,), (flags,) = chips(file, "SCI"), chips(file, "DQ")
        bad = (flags & ~(256 | 2048 | 4096 | 8192)) != 0
        near = ndimage.binary_dilation(image > 70_000, np.ones((7, 7)))
        surely = bad | near
        for (row, column), ignored in zip(tensors["position"], tensors["ignore"], strict=True):
            expected = surely[row : row + STAMP, column : column + STAMP]
            assert ignored[expected].all()
            # besides those, what no other exposure has seen with a good pixel
            assert ignored[~expected].mean() < 0.02
        assert tensors["cosmic_rays"][tensors["ignore"] == 0].mean() > 0.003


def test_labels_agree_with_what_was_simulated(built, exposures):
    least = {"extragalactic": 0.9, "globular_cluster": 0.75, "resolved_galaxy": 0.75}
    for split, field_type in (("train", "extragalactic"), ("test", "globular_cluster"), ("train", "resolved_galaxy")):
        hits, rays, false, clean = 0, 0, 0, 0
        for stamps in built.exposures(split, field_type):
            tensors, truth = stamps.read("cosmic_rays", "ignore"), _truth(stamps, exposures)
            counted, label = tensors["ignore"] == 0, tensors["cosmic_rays"] == 1
            real = (truth["cosmic_rays"] > 3 * truth["noise"]) & counted
            none = (truth["cosmic_rays"] == 0) & counted
            hits, rays = hits + (label & real).sum(), rays + real.sum()
            false, clean = false + (label & none).sum(), clean + none.sum()
        assert hits / rays > least[field_type]
        assert false / clean < 0.0015


def _truth(stamps, exposures):
    """Stamps of the truth, which the training set does not store for files given as data."""
    positions = stamps.read("position")["position"]
    (truth,) = read_truth(next(exposures.rglob(f"{stamps.exposure.name}_truth.safetensors")))
    return {
        name: np.stack([getattr(truth, name)[row : row + STAMP, column : column + STAMP] for row, column in positions])
        for name in ("cosmic_rays", "noise")
    }


def test_the_sky_level_is_that_of_astrodrizzle_and_says_so(built, exposures):
    for stamps in built.exposures("train", "extragalactic"):
        (image,) = chips(next(exposures.rglob(f"{stamps.exposure.name}_flc.fits")), "SCI")
        assert stamps.exposure.sky_source == "mdrizsky"
        assert stamps.exposure.sky_electron == pytest.approx(np.median(image), rel=0.05)


@pytest.mark.slow
def test_a_measured_sky_level_can_be_asked_for(exposures, tmp_path):
    folder = exposures / "extragalactic"
    files = sorted(folder.glob("*_flc.fits"))[:2]
    dataset = build_dataset(
        recipe_of({"a": rule(files[0], "extragalactic")}, "build.sky=measured"), files, home=Home(tmp_path)
    )
    for stamps in dataset.exposures("train"):
        (image,) = chips(folder / f"{stamps.exposure.name}_flc.fits", "SCI")
        assert stamps.exposure.sky_source == "measured"
        assert stamps.exposure.sky_electron == pytest.approx(np.median(image), rel=0.02)


@pytest.mark.slow
def test_flags_that_the_archive_has_set_on_cosmic_rays_hide_none_of_them(built, exposures, tmp_path):
    def flag(hdus, file):
        (truth,) = read_truth(truth_path(file))
        hdus["DQ", 1].data[truth.cosmic_rays > 20] |= 4096 | 8192

    for file in sorted((exposures / "extragalactic").glob("*_flc.fits")):
        copy_changed(file, tmp_path / "flagged", lambda hdus, file=file: flag(hdus, file))
    recipe = recipe_of({"a": rule(file, "extragalactic")})
    flagged = build_dataset(recipe, [tmp_path / "flagged"], home=Home(tmp_path / "home"))
    both = (dataset.exposures("train", "extragalactic") for dataset in (built, flagged))
    for before, after in zip(*both, strict=True):
        before, after = before.read("cosmic_rays", "ignore"), after.read("cosmic_rays", "ignore")
        np.testing.assert_array_equal(after["ignore"], before["ignore"])
        np.testing.assert_array_equal(after["cosmic_rays"], before["cosmic_rays"])


# Splits


def test_no_sky_is_on_two_sides(built):
    """Every pixel of training stamps against every pixel of validation stamps, on a fine grid of positions."""
    sides = {split: [] for split in ("train", "validation")}
    for split, positions in sides.items():
        for stamps in built.exposures(split):
            corners = stamps.read("corners")["corners"]
            along = np.linspace(0, 1, 33)
            u, v = (part[..., None] for part in np.meshgrid(along, along))
            for first, second, third, fourth in corners:
                inside = (1 - u) * (1 - v) * first + (1 - v) * u * second + u * v * third + (1 - u) * v * fourth
                positions.append(inside.reshape(-1, 2))
    train, validation = (_directions(np.concatenate(found)) for found in sides.values())
    distance = cKDTree(train).query(validation)[0].min() * 206265
    largest = max(visit.record.largest_dither_arcsec for visit in built.manifest.visits)
    assert 0.3 < largest < 1
    assert distance > largest


def _directions(positions):
    ra, dec = np.radians(positions.T)
    return np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)


def test_visits_for_training_and_for_testing_that_overlap_are_an_error_that_names_both(exposures, tmp_path):
    # the same sky under another proposal
    def renamed(hdus):
        hdus[0].header["PROPOSID"] = 7
        hdus[0].header["ROOTNAME"] = "other" + hdus[0].header["ROOTNAME"][-4:]

    files = sorted((exposures / "extragalactic").glob("*_flc.fits"))
    copies = [copy_changed(file, tmp_path / "again", renamed) for file in files]
    recipe = recipe_of({"old": rule(files[0], "extragalactic"), "new": rule(copies[0], "extragalactic", "test")})
    with pytest.raises(DataError, match=r"overlap on the sky.*data\.visits\.(old|new)=null"):
        plan_build(recipe, [exposures / "extragalactic", tmp_path / "again"], home=Home(tmp_path / "home"))


@pytest.mark.slow
def test_visits_without_a_split_are_drawn_for_testing_and_overlapping_ones_stay_together(exposures, tmp_path):
    def renamed(hdus):
        hdus[0].header["PROPOSID"] = 7
        hdus[0].header["ROOTNAME"] = "other" + hdus[0].header["ROOTNAME"][-4:]

    for file in (exposures / "extragalactic").glob("*_flc.fits"):
        copy_changed(file, tmp_path / "again", renamed)
    every = {"all": {"target": "*", "field_type": "extragalactic", "test_fraction": 0.5}}
    seen = set()
    for seed in range(8):
        plan = plan_build(recipe_of(every, f"build.seed={seed}"), [exposures, tmp_path / "again"], home=Home(tmp_path))
        splits = {visit.name: visit.split for visit in plan.visits}
        assert len(splits) == 4
        assert set(splits.values()) == {"train", "test"}
        folders = (exposures / "extragalactic", tmp_path / "again")
        twins = {splits[visit.name] for visit in plan.visits if visit.exposures[0].path.parent in folders}
        assert len(twins) == 1
        again = plan_build(recipe_of(every, f"build.seed={seed}"), [tmp_path / "again", exposures], home=Home(tmp_path))
        assert {visit.name: visit.split for visit in again.visits} == splits
        seen.add(tuple(splits.items()))
    assert len(seen) > 1


@pytest.mark.slow
def test_one_pointing_through_several_filters_has_its_validation_stamps_in_one_strip(exposures, tmp_path):
    def through(band, hdus):
        name = "FILTER1" if hdus[0].header["FILTER1"] == "F606W" else "FILTER2"
        hdus[0].header[name] = band
        hdus[0].header["ROOTNAME"] = f"j{band[1:4]}{hdus[0].header['ROOTNAME'][-4:]}".lower()

    bands = ["F606W", "F814W"]
    files = sorted((exposures / "extragalactic").glob("*_flc.fits"))[:2]
    for band in bands:
        for file in files:
            copy_changed(file, tmp_path / band, lambda hdus, band=band: through(band, hdus))
    recipe = recipe_of({"a": rule(files[0], "extragalactic", filters=bands)})
    for seed in range(4):  # labelled once
        another = recipe.model_copy(update={"build": recipe.build.model_copy(update={"seed": seed})})
        dataset = build_dataset(another, [tmp_path / band for band in bands], home=Home(tmp_path / "home"))
        counts = {split: count / len(bands) for split, count in dataset.manifest.counts["extragalactic"].items()}
        assert counts == {"train": 30, "validation": 10, "test": 0, "guard": 10}


def test_a_mosaic_is_not_all_for_testing(exposures, tmp_path):
    """Here all visits of a rule overlap."""
    for number in range(4):

        def renamed(hdus, number=number):
            hdus[0].header["PROPOSID"] = 10 + number
            hdus[0].header["ROOTNAME"] = f"again{number}{hdus[0].header['ROOTNAME'][-4:]}"

        for file in (exposures / "extragalactic").glob("*_flc.fits"):
            copy_changed(file, tmp_path / str(number), renamed)
    every = {"all": {"target": "*", "field_type": "extragalactic", "test_fraction": 0.3}}
    places = [tmp_path / str(number) for number in range(4)]
    plan = plan_build(recipe_of(every), places, home=Home(tmp_path / "home"))
    assert [visit.split for visit in plan.visits] == ["train"] * 4


# Reuse


def test_a_second_build_does_nothing_and_another_recipe_shares_the_labels(built, exposures):
    files = {path: path.stat().st_mtime_ns for path in built.home.root.rglob("*.safetensors")}
    manifest = (built.folder / "manifest.json").read_bytes()
    again = build_dataset(three_visits(exposures), [exposures], home=built.home)
    assert again.folder == built.folder
    assert (built.folder / "manifest.json").read_bytes() == manifest
    other = three_visits(exposures, "name=another", "build.stamps.validation_fraction=0.4", "train.seed=5")
    shared = build_dataset(other, [exposures], home=built.home)
    assert shared.folder != built.folder
    assert shared.manifest.counts["extragalactic"] == {"train": 30, "validation": 30, "test": 0, "guard": 15}
    assert {path: path.stat().st_mtime_ns for path in built.home.root.rglob("*.safetensors")} == files
    shutil.rmtree(shared.folder)


def test_settings_that_labels_depend_on_make_other_visits(exposures, tmp_path):
    def keys(*settings):
        plan = plan_build(three_visits(exposures, *settings), [exposures], home=Home(tmp_path))
        return {visit.key for visit in plan.visits}

    plain = keys()
    assert keys("train.seed=7", "build.seed=9", "build.quality.on_bad_file=refuse") == plain
    for setting in (
        "build.drizzle.combine_type=median",
        "build.ignore.saturation_electron=60000",
        "build.stamps.size=32",
        "build.sky=measured",
        "build.quality.max_rate_ratio=3",
    ):
        assert not keys(setting) & plain


@pytest.mark.slow
def test_equal_input_gives_equal_bytes_for_any_order_folder_and_number_of_processes(built, exposures, tmp_path):
    recipe = three_visits(exposures, field_types=("extragalactic", "globular_cluster"))
    files = [path for path in sorted(exposures.rglob("*_flc.fits")) if path.parent.name != "resolved_galaxy"]
    copies = [copy_changed(file, tmp_path / "copies") for file in reversed(files)]
    again = build_dataset(recipe, copies, jobs=2, home=Home(tmp_path / "home"))
    assert content(again) == content(build_dataset(recipe, files, home=built.home))


def test_training_sets_live_in_the_folder_that_the_user_names(monkeypatch, tmp_path):
    monkeypatch.setenv("DEEPCR_ZOO_DATA", str(tmp_path / "mine"))
    assert Home.default().root == tmp_path / "mine"
    monkeypatch.delenv("DEEPCR_ZOO_DATA")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
    assert locations.user_data_root() == tmp_path / "xdg" / "deepcr-zoo"


# Reading


def test_a_training_set_is_read_stamp_by_stamp_also_in_another_process(built):
    dataset = Dataset.open(built.folder)
    stamps = dataset.stamps("train")
    assert len(stamps) == 90
    whole = [group.read("image", "cosmic_rays", "ignore") for group in dataset.exposures("train")]
    for name in ("image", "cosmic_rays", "ignore"):
        joined = np.concatenate([tensors[name] for tensors in whole])
        np.testing.assert_array_equal(np.stack([getattr(stamp, name) for stamp in stamps]), joined)
    assert {stamp.visit.field_type for stamp in stamps} == {"extragalactic", "resolved_galaxy"}
    assert {stamp.visit.field_type for stamp in dataset.stamps("train", "extragalactic")} == {"extragalactic"}
    elsewhere = pickle.loads(pickle.dumps(stamps))
    np.testing.assert_array_equal(elsewhere[-1].image, stamps[89].image)
    with pytest.raises(IndexError):
        stamps[90]


def test_missing_and_changed_files_are_named_and_made_again(built, exposures, tmp_path):
    shutil.copytree(built.home.root, tmp_path / "home")
    dataset = Dataset.open(tmp_path / "home" / "datasets" / built.folder.name)
    dataset.verify()
    first, second, *_ = (group.path for group in dataset.exposures("train"))
    data = bytearray(first.read_bytes())
    data[-1] ^= 1
    first.write_bytes(data)
    second.unlink()
    with pytest.raises(DatasetError) as raised:
        dataset.verify()
    assert f"{first}: differs from the manifest" in str(raised.value)
    assert f"{second}: is missing" in str(raised.value)
    with pytest.raises(DatasetError, match="is missing: run the build again"):
        dataset.stamps("train")[25]
    first.write_bytes(b"x")
    with pytest.raises(DatasetError, match="differs from the manifest"):
        dataset.stamps("train")[0]
    repaired = build_dataset(three_visits(exposures), [exposures], home=dataset.home)
    repaired.verify()
    assert content(repaired) == content(built)
    (dataset.folder / "manifest.json").write_text("{}")
    with pytest.raises(DatasetError, match=r"manifest\.json: name: Field required"):
        Dataset.open(dataset.folder)


# Files


def test_labels_need_drizzlepac_and_a_finished_training_set_does_not(built, exposures, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "drizzlepac", None)
    with pytest.raises(MissingExtraError, match=re.escape("pip install 'deepcr-zoo[build]'")):
        build_dataset(three_visits(exposures), [exposures], home=Home(tmp_path))
    assert content(build_dataset(three_visits(exposures), [exposures], home=built.home)) == content(built)


def test_without_data_the_error_lists_missing_exposures_and_how_to_supply_them(tmp_path):
    with pytest.raises(MissingDataError) as raised:
        plan_build(shipped(), home=Home(tmp_path))
    text = str(raised.value)
    assert "10420-01 (train): proposal 10420, visit 01, F606W: 3 exposures" in text
    assert text.count("proposal") == 14
    for option in ("--data DIR", "data.files", "--rehearse"):
        assert option in text
    assert raised.value.exit_code == 1


def test_missing_exposures_of_a_named_visit_are_listed(exposures, tmp_path):
    files = sorted((exposures / "extragalactic").glob("*_flc.fits"))
    rules = {"a": rule(files[0], "extragalactic", exposures=5), "gone": {**rule(files[0], "extragalactic"), "proposal": 1}}
    plan = plan_build(recipe_of(rules), [exposures / "extragalactic"], home=Home(tmp_path))
    visit = rules["a"]["visit"].upper()
    assert plan.missing == (
        f"a (train): proposal {rules['a']['proposal']}, visit {visit}, F606W: 3 of 5 exposures",
        f"gone (train): proposal 1, visit {visit}, F606W: all exposures",
    )


def test_visits_that_differ_from_the_recipe_are_used_with_a_caution(exposures, tmp_path):
    folder = exposures / "extragalactic"
    differing = rule(min(folder.glob("*_flc.fits")), "extragalactic", exposures=2, exposure_time_s=660.0)
    plan = plan_build(recipe_of({"a": differing}), [folder], home=Home(tmp_path))
    name = plan.visits[0].name
    assert plan.cautions == (
        f"{name}: has 3 exposures, a of the recipe has 2; all are used",
        f"{name}: exposures of 500 to 500 s, 500 s in the mean, a of the recipe has 660 s",
    )


def test_the_name_of_the_folder_of_a_recipe_is_no_wildcard(tmp_path):
    for folder in ("[12]", "1"):
        (tmp_path / folder / "raw").mkdir(parents=True)
        (tmp_path / folder / "raw" / "a_flc.fits").touch()
        (tmp_path / folder / "b[1]_flc.fits").touch()
    places = beside(tmp_path / "[12]", ["raw/*_flc.fits", "raw", "b[1]_flc.fits"])
    assert find_files(places[:1], "flc") == find_files(places[1:2], "flc") == [tmp_path / "[12]" / "raw" / "a_flc.fits"]
    assert find_files(places[2:], "flc") == [tmp_path / "[12]" / "b[1]_flc.fits"]
    (tmp_path / "[12]" / "raw" / "a_flc.fits").unlink()
    with pytest.raises(UsageError, match="expected a folder, wildcards or a file"):
        find_files(beside(tmp_path / "[12]", ["raw/a_flc.fits"]), "flc")


def test_folders_wildcards_and_the_recipes_own_files_give_each_exposure_once(exposures, tmp_path):
    recipe = three_visits(exposures, f"data.files=[{exposures}/*galactic]", "data.files=[extragalactic]")
    plan = plan_build(recipe, [exposures, f"{exposures}/*/*_flc.fits"], beside=exposures, home=Home(tmp_path))
    assert sorted(visit.field_type for visit in plan.visits) == sorted(SIMULATED_FIELD_TYPES)
    assert all(len(visit.exposures) == EXPOSURES for visit in plan.visits)
    with pytest.raises(UsageError, match="nothing_here: expected a folder, wildcards or a file"):
        plan_build(recipe, ["nothing_here"], beside=exposures, home=Home(tmp_path))
    with pytest.raises(UsageError, match=r"_flc.fits.gz, _flc.fits.bz2, _flc.fits.xz \(data.product\)"):
        plan_build(recipe, [f"{exposures}/*/*"], beside=exposures, home=Home(tmp_path))


@pytest.mark.slow
def test_a_rehearsal_needs_no_data_and_takes_none(exposures, tmp_path):
    recipe = shipped("rehearsal.visits={train: 1, test: 1}")
    with pytest.raises(UsageError, match="leave out --data"):
        plan_build(recipe, [exposures], rehearse=True, home=Home(tmp_path))
    plan = plan_build(recipe, rehearse=True, home=Home(tmp_path))
    assert [(visit.field_type, visit.split) for visit in plan.visits] == [
        (field_type, split) for field_type in SIMULATED_FIELD_TYPES for split in ("train", "test")
    ]
    seeds = [visit.simulated.seed for visit in plan.visits]
    assert seeds == list(range(recipe.rehearsal.seed, recipe.rehearsal.seed + 6))
    assert all(visit.build.stamps == recipe.rehearsal.stamps for visit in plan.visits)
    assert all(visit.build.drizzle == recipe.build.drizzle for visit in plan.visits)


@pytest.mark.parametrize(("side", "held"), [(256, "1 x 1"), (384, "2 x 2")])
def test_a_rehearsal_that_is_too_small_for_stamps_is_an_error_at_once(side, held, tmp_path):
    with pytest.raises(DataError) as raised:
        build_dataset(shipped(f"rehearsal.side={side}"), rehearse=True, home=Home(tmp_path / "home"))
    assert f"hold at most {held} stamps of 128 pixels within borders of 32 (rehearsal.stamps): expected 3 col" in str(
        raised.value
    )
    assert str(raised.value).endswith("make rehearsal.side larger or rehearsal.stamps.size smaller")
    assert not (tmp_path / "home").exists()
    assert plan_build(shipped("rehearsal.side=512"), rehearse=True, home=Home(tmp_path))


@pytest.mark.slow
def test_a_rehearsal_stores_the_truth_beside_the_stamps(tmp_path):
    recipe = shipped(
        "rehearsal.side=256",
        "rehearsal.stamps={size: 64, border: 0}",
        "rehearsal.visits={train: 1, test: 1}",
        "rehearsal.exposures=2",
    ).model_copy()
    small = recipe.rehearsal.model_copy(update={"exposure_time_s": {"extragalactic": 500.0}})
    recipe = recipe.model_copy(update={"rehearsal": small})
    dataset = build_dataset(recipe, rehearse=True, home=Home(tmp_path))
    assert dataset.manifest.rehearsal
    assert dataset.manifest.counts["extragalactic"]["test"] == 32
    dataset.verify()
    for stamps in dataset.exposures("test"):
        truth, tensors = stamps.read_truth(), stamps.read("image")
        assert {name: layer.shape for name, layer in truth.items()} == dict.fromkeys(
            ("cosmic_rays", "scene", "noise"), (16, 64, 64)
        )
        rest = tensors["image"] - truth["scene"] - truth["cosmic_rays"]
        assert np.median(np.abs(rest) / truth["noise"]) < 1


def test_exposures_beside_a_manifest_of_something_else_are_no_training_set(tmp_path):
    (tmp_path / "manifest.json").write_text('{"files": ["x.fits"]}')
    assert find_built([tmp_path]) is None
    (tmp_path / "manifest.json").write_text('{"format": 2, "name": ')
    with pytest.raises(DatasetError, match="move its folder away and build again"):
        find_built([tmp_path])
