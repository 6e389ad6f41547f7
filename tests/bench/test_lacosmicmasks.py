import operator
import os
from dataclasses import replace
from functools import reduce
from importlib.metadata import version

import numpy as np
import pytest
from astroscrappy import detect_cosmics

from deepcr_zoo.bench.measures import lacosmicmasks
from deepcr_zoo.bench.measures.judgedpixels import judged_stamps
from deepcr_zoo.bench.measures.lacosmic import Sweep
from deepcr_zoo.bench.measures.lacosmicmasks import (
    described,
    lacosmic_masks,
    lacosmic_of,
    masked_as_chips,
    objlims_of,
    prepare,
)
from deepcr_zoo.bench.measures.tally import tally_masks
from deepcr_zoo.bench.measures.tracks import class_group
from deepcr_zoo.errors import InterruptedWorkError, MissingExtraError
from deepcr_zoo.models.baselines import Lacosmic
from tests.bench.stamps import EXPOSURES, SIDE, STAMPS, recipe_of, write_dataset

SIGCLIPS = (2.5, 4.0, 10.0)
SMALL_SIDE = 4
METHOD = Lacosmic(objlim=2.0, readnoise=4.1)
RECIPE = recipe_of(
    "benchmark.lacosmic_objlims=[2.0]",
    "benchmark.lacosmic_objlim.globular_cluster=2.0",
    "benchmark.lacosmic_sigclips=[4.0, 16.0]",
)


@pytest.fixture
def dataset(tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPCR_ZOO_DATA", str(tmp_path))
    return write_dataset(tmp_path, recipe_of(), ("globular_cluster",))


def group_of(dataset):
    return next(dataset.exposures("test"))


def kept_files(dataset):
    return sorted(dataset.home.baselines.glob("*"))


def direct(image, method, sigclip):
    """Return the masks of astroscrappy on the row of stamps as one image."""
    settings = {"sigfrac": 0.3, "niter": 4, "sepmed": False, "satlevel": np.inf, "cleantype": "medmask", "gain": 1.0}
    row = np.ascontiguousarray(np.concatenate([*image], axis=1))
    found = detect_cosmics(row, sigclip=sigclip, objlim=method.objlim, readnoise=method.readnoise, **settings)[0]
    return np.stack(np.split(found, len(image), axis=1))


def test_the_figures_are_those_of_direct_calls_of_astroscrappy(dataset):
    ones = list(judged_stamps(dataset, "globular_cluster"))

    def tallied(one):
        masks = lacosmic_masks(one.group, METHOD, SIGCLIPS)
        groups = class_group(one.cosmic_rays, one.ignore, np.arange(STAMPS))
        return tally_masks(list(masks), SIGCLIPS, groups, 2 * STAMPS)

    tally = reduce(operator.add, map(tallied, ones))
    cosmic_rays, ignore = (np.concatenate([getattr(one, name) for one in ones]) for name in ("cosmic_rays", "ignore"))
    points = {point.threshold: point for point in Sweep(tally.summed(2)).points()}
    for sigclip in SIGCLIPS:
        mask = np.concatenate([direct(one.image, METHOD, sigclip) for one in ones])
        assert points[sigclip].tpr == mask[cosmic_rays & ~ignore].mean() > 0
        assert points[sigclip].fpr == mask[~cosmic_rays & ~ignore].mean()


def test_masks_are_computed_once_and_read_ever_after(dataset, monkeypatch):
    first = lacosmic_masks(group_of(dataset), METHOD, SIGCLIPS[::-1])
    assert first.shape == (len(SIGCLIPS), STAMPS, SIDE, SIDE)
    assert first.dtype == bool
    monkeypatch.delattr(Lacosmic, "mask")
    np.testing.assert_array_equal(lacosmic_masks(group_of(dataset), METHOD, SIGCLIPS), first)
    assert len(kept_files(dataset)) == 1


def test_more_sigclips_than_a_byte_has_bits_are_kept_too(dataset, monkeypatch):
    sigclips = np.linspace(3, 12, 9)
    first = lacosmic_masks(group_of(dataset), METHOD, sigclips)
    monkeypatch.delattr(Lacosmic, "mask")
    np.testing.assert_array_equal(lacosmic_masks(group_of(dataset), METHOD, sigclips), first)


@pytest.mark.parametrize(
    "damage", [lambda data: data[: len(data) // 2], lambda data: b"", lambda data: flipped(data), lambda data: b"junk"]
)
def test_a_damaged_file_is_computed_again(dataset, damage):
    first = lacosmic_masks(group_of(dataset), METHOD, SIGCLIPS)
    (path,) = kept_files(dataset)
    sound = path.read_bytes()
    path.write_bytes(damage(sound))
    np.testing.assert_array_equal(lacosmic_masks(group_of(dataset), METHOD, SIGCLIPS), first)
    assert path.read_bytes() == sound


def flipped(data):
    middle = len(data) // 2
    return data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :]


def test_masks_are_kept_apart_by_all_that_they_depend_on(dataset, monkeypatch):
    group = group_of(dataset)
    lacosmic_masks(group, METHOD, (4.0,))
    lacosmic_masks(group, replace(METHOD, objlim=5.0), (4.0,))
    lacosmic_masks(group, replace(METHOD, readnoise=5.0), (4.0,))
    lacosmic_masks(group, METHOD, (5.0,))
    lacosmic_masks(replace(group, indices=group.indices[1:]), METHOD, (4.0,))
    other = group.exposure.stamps.model_copy(update={"sha256": "0" * 64})
    lacosmic_masks(replace(group, exposure=group.exposure.model_copy(update={"stamps": other})), METHOD, (4.0,))
    monkeypatch.setattr(lacosmicmasks, "FORMAT", lacosmicmasks.FORMAT + 1)
    lacosmic_masks(group, METHOD, (4.0,))
    monkeypatch.setattr(lacosmicmasks, "version", lambda name: "0")
    lacosmic_masks(group, METHOD, (4.0,))
    assert len(kept_files(dataset)) == 8


def test_all_masks_of_a_grid_are_prepared_by_several_processes_and_what_is_there_is_left_alone(dataset):
    group = group_of(dataset)
    lacosmic_masks(group, lacosmic_of(group.exposure, RECIPE, 2.0), RECIPE.benchmark.lacosmic_sigclips)
    (first,) = kept_files(dataset)
    before, reported = os.stat(first), []
    prepare(dataset, RECIPE, jobs=2, on_done=lambda done, of: reported.append((done, of)))
    assert reported == [(done, EXPOSURES) for done in range(1, EXPOSURES + 1)]
    assert len(kept_files(dataset)) == EXPOSURES
    assert os.stat(first).st_mtime_ns == before.st_mtime_ns
    reported.clear()
    prepare(dataset, RECIPE, jobs=2, on_done=lambda done, of: reported.append((done, of)))
    assert reported == [(EXPOSURES, EXPOSURES)]


def test_what_is_interrupted_goes_on_from_there(dataset):
    def interrupt(done, of):
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(dataset, RECIPE, on_done=interrupt)
    assert len(kept_files(dataset)) == 1
    reported = []
    prepare(dataset, RECIPE, on_done=lambda done, of: reported.append(done))
    assert reported == [1, 2]


def test_stamps_that_cannot_be_read_are_named(dataset):
    group = group_of(dataset)
    group.path.unlink()
    with pytest.raises(InterruptedWorkError, match=rf"masks for every test exposure: .*{group.path.name}: is missing"):
        prepare(dataset, RECIPE)


def test_the_objlim_of_the_paper_is_always_in_the_grid():
    assert objlims_of(recipe_of("benchmark.lacosmic_objlims=[8.0, 1.0]"), "globular_cluster") == [1.0, 3.5, 8.0]
    assert objlims_of(recipe_of("benchmark.lacosmic_objlims=[5.0]"), "resolved_galaxy") == [5.0]


def test_the_read_noise_is_that_of_the_header_else_of_the_recipe_and_the_record_says_which(dataset):
    recipe = recipe_of()
    known = group_of(dataset).exposure.model_copy(update={"read_noise_electron": 3.75})
    assert lacosmic_of(known, recipe, 2.0) == Lacosmic(objlim=2.0, readnoise=3.75, gain=1.0)
    of_recipe = recipe.instrument.read_noise_electron
    assert lacosmic_of(group_of(dataset).exposure, recipe, 2.0).readnoise == of_recipe

    plain = described(dataset, recipe, {"globular_cluster": 3.5})
    assert plain.parameters["readnoise"] == of_recipe
    assert plain.parameters["readnoise_source"] == "files of 0 exposures, recipe for 2"
    assert plain.parameters["objlim"] == {"globular_cluster": 3.5}
    assert plain.parameters["sigclip"] == recipe.benchmark.lacosmic_sigclips
    assert plain.packages == {"astroscrappy": version("astroscrappy")}

    visit = dataset.manifest.visits[0]
    record = visit.record.model_copy(update={"exposures": [known, *visit.record.exposures[1:]]})
    manifest = dataset.manifest.model_copy(update={"visits": [visit.model_copy(update={"record": record})]})
    with_one_header = described(replace(dataset, manifest=manifest), recipe, {"globular_cluster": 3.5})
    assert with_one_header.parameters["readnoise"] == {"exposure-0": 3.75, "exposure-1": of_recipe}
    assert with_one_header.parameters["readnoise_source"] == "files of 1 exposures, recipe for 1"


def test_without_astroscrappy_the_error_names_the_extra(dataset, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"deepcr-zoo\[baselines\]"):
        prepare(dataset, RECIPE)


def test_stamps_are_masked_as_the_piece_of_the_chip_that_they_were_cut_from():
    chip = np.random.default_rng(1).random((12, 16), dtype=np.float32)
    places = [(row, column) for row in (0, 4, 8) for column in (0, 4, 8, 12) if (row, column) != (4, 8)]
    stamps = np.stack([chip[row : row + SMALL_SIDE, column : column + SMALL_SIDE] for row, column in places])
    order = np.random.default_rng(2).permutation(len(places))
    seen = []

    def mask(frame):
        seen.append(frame)
        return [frame > 0.5, frame > 0.9]

    position = np.array(places, np.int32)[order] + [100, 200]
    found = masked_as_chips(stamps[order], position, np.ones(len(order), np.int32), mask)
    np.testing.assert_array_equal(found, [stamps[order] > 0.5, stamps[order] > 0.9])
    (frame,) = seen
    assert np.isnan(frame[4:8, 8:12]).all()
    np.testing.assert_array_equal(np.nan_to_num(frame), np.where(np.isnan(frame), 0, chip))


@pytest.mark.parametrize("chips", [(1, 1), (1, 2)])
def test_chips_are_masked_each_by_itself(chips):
    stamps = np.zeros((2, SMALL_SIDE, SMALL_SIDE), np.float32)
    shapes = []

    def mask(frame):
        shapes.append(frame.shape)
        return [np.ones(frame.shape, bool)]

    position = np.array([[0, 0], [0, SMALL_SIDE]], np.int32)
    assert masked_as_chips(stamps, position, np.array(chips, np.int32), mask).all()
    assert shapes == ([(SMALL_SIDE, 2 * SMALL_SIDE)] if chips == (1, 1) else [(SMALL_SIDE, SMALL_SIDE)] * 2)
