"""Training sets and runs that others made: what differs from its record, or leads elsewhere, ends in one sentence."""

from __future__ import annotations

import hashlib
import io
import json
import math
import os
import re
import shutil
import struct
import zipfile
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
import safetensors.torch
import torch

import deepcr_zoo
from deepcr_zoo import files
from deepcr_zoo.bench import output
from deepcr_zoo.bench.judging import Extent, benchmark
from deepcr_zoo.bench.measures.lacosmicmasks import MaskSet, lacosmic_masks
from deepcr_zoo.bench.measures.structures import ChipCounts
from deepcr_zoo.bench.runs import Run
from deepcr_zoo.bench.subjects import find_subject
from deepcr_zoo.dataset.reading import Dataset
from deepcr_zoo.dataset.store import MANIFEST_FILE, VISIT_FILE, Home, write_document
from deepcr_zoo.errors import DatasetError, InvalidFileError, OutputError, RunError
from deepcr_zoo.models.baselines import Lacosmic
from deepcr_zoo.simulate.truth import read_truth
from deepcr_zoo.training import checkpoints, pipeline
from deepcr_zoo.training.loop import fit
from deepcr_zoo.training.runs import new_run
from deepcr_zoo.training.stamps import MappedStamps, ResidentStamps
from tests.bench import stamps as test_stamps
from tests.registries import SMALL
from tests.training.stamps import CPU, feeds, new_training, recipe_of, write_dataset
from tests.zoo.test_runfolders import write_run

Json = dict[str, Any]


@pytest.fixture
def recipe():
    return recipe_of("mask", "train.schedule.max_epochs=1")


@pytest.fixture
def dataset(tmp_path, recipe) -> Dataset:
    return write_dataset(tmp_path / "home", test=4, recipe=recipe)


def first_file(dataset: Dataset, split: str = "train"):
    return next(iter(dataset.exposures(split))).path


def change_value(path):
    """Change a pixel of a file, as no reader of safetensors notices."""
    data = bytearray(path.read_bytes())
    data[-1] ^= 0x40
    path.write_bytes(data)


def a_pipe(path):
    path.unlink()
    os.mkfifo(path)


def nothing(path):
    path.write_bytes(b"")


def half(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def read_resident(dataset):
    ResidentStamps(list(dataset.exposures("train")), CPU)


def read_mapped(dataset):
    stamps = MappedStamps(list(dataset.exposures("train")), CPU)
    stamps.take(torch.arange(len(stamps)))


def read_one(dataset):
    assert dataset.stamps("train")[0]


def judge(dataset):
    benchmark([find_subject(SMALL)], dataset, recipe_of("mask"), "test", extent=Extent(gates=False), engine="torch")


@pytest.mark.parametrize("damage", [change_value, a_pipe, nothing, half])
@pytest.mark.parametrize("use", [read_resident, read_mapped, read_one, Dataset.verify])
def test_a_file_of_stamps_that_differs_from_the_manifest_is_used_by_nothing(dataset, damage, use):
    path = first_file(dataset)
    damage(path)
    with pytest.raises(DatasetError, match=rf"{path}: (differs from the manifest|cannot be read: is a pipe, not a file)"):
        use(Dataset.open(dataset.folder))


@pytest.mark.parametrize("damage", [change_value, a_pipe])
def test_bench_and_train_refuse_a_changed_set_before_their_work(dataset, recipe, tmp_path, damage):
    path = first_file(dataset, "test")
    damage(path)
    opened = Dataset.open(dataset.folder)
    with pytest.raises(DatasetError, match=f"{path}: "):
        judge(opened)
    with pytest.raises(DatasetError, match=f"{path}: "):
        pipeline.train(recipe, dataset=opened, runs=tmp_path / "runs", device="cpu", prove=False)
    assert not (tmp_path / "runs").exists()


def test_a_run_does_not_go_on_with_a_changed_set(dataset, recipe, tmp_path, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "fit", stop)
    with pytest.raises(KeyboardInterrupt):
        pipeline.train(recipe, dataset=dataset, runs=tmp_path / "runs", device="cpu", prove=False)
    monkeypatch.undo()
    (folder,) = (path.parent for path in tmp_path.glob("runs/*/*/run.json"))
    change_value(first_file(dataset))
    with pytest.raises(DatasetError, match="differs from the manifest"):
        pipeline.resume(folder, device="cpu", prove=False)
    assert not Run.open(folder).is_trained


def test_a_run_that_goes_on_removes_what_killed_trainings_left_beside_it(dataset, recipe, tmp_path):
    run = new_run(recipe, dataset, tmp_path / "runs", "train")
    left = run.folder.with_name(f".{run.folder.name}.elsewhere-1-01234567.part")
    left.mkdir()
    os.utime(left, (0, 0))
    pipeline.resume(run.folder, device="cpu", prove=False)
    assert not left.exists()


def test_a_trained_run_whose_checkpoint_is_gone_is_not_trained_anew(dataset, recipe, tmp_path):
    run = pipeline.resume(new_run(recipe, dataset, tmp_path / "runs", "train").folder, device="cpu", prove=False)
    for path in (*run.folder.glob("checkpoint*"), run.folder / "results.json"):  # without test stamps there are none
        path.unlink()
    before = {path.name: path.read_bytes() for path in run.folder.iterdir() if path.is_file()}
    with pytest.raises(RunError, match="was trained, and its checkpoint is gone, from which it would go on"):
        pipeline.resume(run.folder, device="cpu", prove=False)
    assert {path.name: path.read_bytes() for path in run.folder.iterdir() if path.is_file()} == before


def test_a_file_that_changes_after_it_was_compared_is_compared_again(dataset):
    dataset.verify()
    change_value(first_file(dataset))
    with pytest.raises(DatasetError, match="differs from the manifest"):
        read_resident(dataset)


# Manifests


def visit(content: Json) -> Json:
    return content["visits"][0]


def exposure(content: Json) -> Json:
    return visit(content)["record"]["exposures"][0]


def uses(content: Json) -> Json:
    return visit(content)["stamps"][0]


def again(content: Json) -> None:
    """The visit once more, for testing."""
    other = json.loads(json.dumps(visit(content)))
    other["record"]["key"], other["split"] = "elsewhere", "test"
    other["stamps"] = [{"test": numbers["train"]} for numbers in other["stamps"]]
    content["visits"].append(other)


MANIFESTS: dict[str, Callable[[Json], object]] = {
    "a format of the future": lambda one: one.update(format=3),
    "a file elsewhere": lambda one: exposure(one)["stamps"].update(name="../../../stolen.safetensors"),
    "an absolute file": lambda one: exposure(one)["stamps"].update(name="/dev/zero"),
    "the folder as a file": lambda one: exposure(one)["stamps"].update(name=".."),
    "no name": lambda one: exposure(one)["stamps"].update(name=""),
    "a truth elsewhere": lambda one: exposure(one).update(truth={**exposure(one)["stamps"], "name": "../x.safetensors"}),
    "a visit elsewhere": lambda one: visit(one)["record"].update(key="../datasets"),
    "an absolute visit": lambda one: visit(one)["record"].update(key="/tmp"),
    "no hash": lambda one: exposure(one)["stamps"].update(sha256=""),
    "a size below 0": lambda one: exposure(one)["stamps"].update(bytes=-1),
    "a stamp beyond the last": lambda one: uses(one).update(train=[0, 99]),
    "a stamp before the first": lambda one: uses(one).update(train=[-1]),
    "a stamp twice": lambda one: uses(one).update(train=[5, 5]),
    "a stamp for two uses": lambda one: uses(one).update(train=[5, 6], validation=[6]),
    "test stamps of a training visit": lambda one: uses(one).update(test=uses(one).pop("train")),
    "stamps of another number of exposures": lambda one: visit(one)["stamps"].pop(),
    "a visit for training and for testing": again,
    "stamps of no size": lambda one: (one.update(stamp_size=0), visit(one)["record"].update(stamp_size=0)),
    "stamps of absurd size": lambda one: (one.update(stamp_size=10**30), visit(one)["record"].update(stamp_size=10**30)),
    "stamps of another size": lambda one: visit(one)["record"].update(stamp_size=31),
    "a number of stamps below 0": lambda one: exposure(one).update(count=-1),
    "other counts": lambda one: one["counts"]["extragalactic"].update(train=10**6),
    "a sky beyond all light": lambda one: exposure(one).update(sky_electron=1e300),
    "a read noise below 0": lambda one: exposure(one).update(read_noise_electron=-4.0),
    "an exposure time below 0": lambda one: exposure(one).update(exposure_time_s=-1.0),
    "an outline without a point": lambda one: visit(one)["record"].update(outlines=[[]]),
    "an outline of single numbers": lambda one: visit(one)["record"].update(outlines=[[[1.0]]]),
    "an outline of uneven points": lambda one: visit(one)["record"].update(outlines=[[[1.0, 2.0], [3.0]]]),
    "an outline in no sky": lambda one: visit(one)["record"].update(outlines=[[[1e308, 1e308]] * 3]),
    "a sky that is no number": lambda one: exposure(one).update(sky_electron=float("nan")),
}


@pytest.mark.parametrize("attack", MANIFESTS.values(), ids=MANIFESTS)
def test_a_manifest_that_cannot_be_is_refused(dataset, attack):
    path = dataset.folder / MANIFEST_FILE
    content = json.loads(path.read_text())
    attack(content)
    path.write_text(json.dumps(content))
    with pytest.raises(DatasetError) as raised:
        Dataset.open(dataset.folder)
    (sentence,) = str(raised.value).splitlines()
    assert sentence.startswith(f"{path}: ")


@pytest.mark.parametrize("count", [0, 30])
def test_another_number_of_stamps_than_in_the_file_is_refused_when_that_is_opened(dataset, count):
    path = dataset.folder / MANIFEST_FILE
    content = json.loads(path.read_text())
    for number in range(2):
        content["visits"][0]["record"]["exposures"][number]["count"] = count
        content["visits"][0]["stamps"][number] = {"train": list(range(count))}
    content["counts"]["extragalactic"].update(train=2 * count, validation=0, guard=0)
    path.write_text(json.dumps(content))
    with pytest.raises(DatasetError, match=r"image: expected F32 of shape \(\d+, 32, 32\), got F32 of shape \(18, 32, 32\)"):
        Dataset.open(dataset.folder).verify()


def test_the_record_of_another_visit_is_refused(dataset):
    record = dataset.manifest.visits[0].record
    home = Home(dataset.home.root)
    write_document(home.visit("made-up") / VISIT_FILE, record.model_copy(update={"key": "for-testing"}))
    with pytest.raises(DatasetError, match=r"visit\.json: key: expected made-up, got for-testing"):
        home.finished_visit("made-up")


# Files whose hashes are right


def absent(tensors):
    del tensors["ignore"]


FILES: dict[str, Callable[[dict[str, np.ndarray]], object]] = {
    "image: expected F32": lambda one: one.update(image=one["image"].astype(np.float64)),
    r"cosmic_rays: expected U8 of shape \(\d+, 32, 32\)": lambda one: one.update(cosmic_rays=one["cosmic_rays"][:, :5]),
    "position: expected I32": lambda one: one.update(position=one["position"][:, :1]),
    "'ignore' is missing": absent,
    "'evil' is missing or not one of them": lambda one: one.update(evil=one["chip"]),
    r"image: expected values of at most 1e\+09 e-": lambda one: one["image"].__setitem__((-1, 3, 3), np.nan),
    "image: expected values of at most": lambda one: one["image"].__setitem__((0, 3, 3), 3e38),
    "corners: expected finite numbers": lambda one: one["corners"].__setitem__((0, 0), np.inf),
    "ignore: expected a mask of 0 and 1": lambda one: one["ignore"].__setitem__((2, 3, 3), 7),
}


@pytest.mark.parametrize(("problem", "attack"), FILES.items(), ids=FILES)
def test_tensors_that_training_and_judging_cannot_mean_are_refused(tmp_path, recipe, problem, attack):
    dataset = write_dataset(tmp_path / "home", recipe=recipe, change=lambda _, tensors: attack(tensors))
    for use in (read_resident, read_mapped, Dataset.verify):
        with pytest.raises(DatasetError, match=problem):
            use(dataset)


def test_what_is_no_safetensors_file_is_refused_though_its_hash_is_right(dataset):
    path, file = first_file(dataset), dataset.folder / MANIFEST_FILE
    data = safetensors.numpy.save({"x": np.zeros(3)})[:-5]
    path.write_bytes(data)
    content = json.loads(file.read_text())
    exposure(content)["stamps"].update(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))
    file.write_text(json.dumps(content))
    with pytest.raises(DatasetError, match=f"{path}: cannot be read: "):
        Dataset.open(dataset.folder).verify()


def test_positions_that_spread_stamps_over_more_than_memory_are_refused(tmp_path):
    def spread(_, tensors):
        tensors["position"][1:] = [[-(2**31), -(2**31)], [2**31 - 1, 2**31 - 1], [0, 0]]

    dataset = test_stamps.write_dataset(tmp_path, test_stamps.recipe_of(), (test_stamps.FIELD,), spread)
    group = next(dataset.exposures("test"))
    with pytest.raises(DatasetError, match=r"the stamps of chip 1 span 4,294,967,359 x 4,294,967,359 pixels"):
        lacosmic_masks(group, Lacosmic(2.0, 4.1), (4.0, 8.0))


def test_exposures_whose_stamps_lie_far_along_different_axes_are_refused():
    one, other = (ChipCounts(np.ones(shape, np.uint16), np.ones(shape, np.uint16)) for shape in ((1, 10**6), (10**6, 1)))
    with pytest.raises(DatasetError, match="the stamps of a chip lie within 1,000,000 x 1,000,000 pixels: expected a chip"):
        one + other


def test_records_whose_objects_would_not_fit_into_memory_are_not_read(dataset, tmp_path, monkeypatch):
    run = Run.open(write_run(tmp_path / "run"))
    (run.folder / "metrics.jsonl").write_bytes(b"{}" * 1000)
    monkeypatch.setattr(files, "SMALL_BYTES", 0)
    monkeypatch.setattr(files, "free_memory_bytes", lambda: 120 * 1000)
    manifest = dataset.folder / MANIFEST_FILE
    with pytest.raises(DatasetError, match=f"{manifest}: cannot be read: has .* bytes, at most 1,000 can be read"):
        Dataset.open(dataset.folder)
    with pytest.raises(RunError, match=r"metrics\.jsonl: cannot be read"):
        run.history()


# Masks of L.A.Cosmic on the disk


def an_array(shape: object, dtype: str = "|u1", body: bytes = b"") -> bytes:
    header = f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape!r}, }}".encode()
    return numpy_file(header + b" " * (-(len(header) + 11) % 64) + b"\n", body)


def numpy_file(header: bytes, body: bytes = b"") -> bytes:
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + body


def packed(data: bytes, name: str = "planes.npy") -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, data)
    return content.getvalue()


def in_directory(offset: int, value: int) -> bytes:
    """A byte of the archive's directory changed: 8 has the flags, 10 the method."""
    data = bytearray(packed(SOUND))
    data[data.find(b"PK\x01\x02") + offset] = value
    return bytes(data)


SHAPE = (1, test_stamps.STAMPS, test_stamps.SIDE, test_stamps.SIDE)
SOUND = an_array(SHAPE, body=bytes(math.prod(SHAPE)))
MASK_FILES = {
    "empty": b"",
    "no archive": b"junk",
    "half": packed(SOUND)[:-40],
    "an array alone": SOUND,
    "a pickle": b"\x80\x02K\x01.",
    "another name": packed(SOUND, "other.npy"),
    "a pickle inside": packed(an_array((1, 2), "|O", b"cos\nsystem\n(S'exit 1'\ntR.")),
    "larger than memory": packed(an_array((1, 3, 1 << 20, 1 << 20))),
    "longer than it says": packed(SOUND + bytes(10**7)),
    "shorter than it says": packed(SOUND[:-1]),
    "another size of stamps": packed(an_array((*SHAPE[:2], 1, 1), body=b"abc")),
    "other numbers": packed(an_array(SHAPE, "<f4", bytes(4 * math.prod(SHAPE)))),
    "a size below 0": packed(an_array((1, -3, 64, 64))),
    "no size": packed(an_array((), body=b"a")),
    "a header of brackets": packed(numpy_file(b"(" * 9000)),
    "a header without end": packed(b"\x93NUMPY\x01\x00\xff\xff("),
    "another version": packed(b"\x93NUMPY\x02\x00" + SOUND[8:]),
    "an unknown method": in_directory(10, 99),
    "encrypted": in_directory(8, 1),
}


@pytest.fixture(scope="module")
def to_mask(tmp_path_factory):
    return test_stamps.write_dataset(tmp_path_factory.mktemp("to-mask"), test_stamps.recipe_of(), (test_stamps.FIELD,))


@pytest.mark.parametrize("data", MASK_FILES.values(), ids=MASK_FILES)
def test_masks_that_are_damaged_or_hostile_are_not_used(to_mask, tmp_path, data):
    kept = MaskSet(tmp_path / "masks.npz", next(to_mask.exposures("test")), Lacosmic(2.0, 4.1), (4.0, 8.0))
    kept.path.write_bytes(packed(SOUND))
    assert kept.kept() is not None
    kept.path.write_bytes(data)
    assert kept.kept() is None


@pytest.mark.parametrize("put", [os.mkfifo, lambda path: path.symlink_to("/dev/zero")], ids=["a pipe", "a device"])
def test_masks_that_are_no_file_are_computed_again(to_mask, put, tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPCR_ZOO_DATA", str(tmp_path))
    group, method = next(to_mask.exposures("test")), Lacosmic(2.0, 4.1)
    first = lacosmic_masks(group, method, (4.0, 8.0))
    (path,) = Home.default().baselines.glob("*.npz")
    path.unlink()
    put(path)
    np.testing.assert_array_equal(lacosmic_masks(group, method, (4.0, 8.0)), first)
    assert path.is_file()
    assert not path.is_symlink()


def test_masks_of_lacosmic_beside_a_training_set_of_others_are_neither_believed_nor_written(to_mask, tmp_path, monkeypatch):
    """They could be all clean, so that any network beats them, or a link to a folder of the user."""
    monkeypatch.setenv("DEEPCR_ZOO_DATA", str(tmp_path / "own"))
    group, method = next(to_mask.exposures("test")), Lacosmic(2.0, 4.1)
    first = lacosmic_masks(group, method, (4.0, 8.0))
    assert first.any()
    (kept,) = Home.default().baselines.glob("*.npz")
    theirs = to_mask.home.baselines
    theirs.mkdir()
    np.savez_compressed(theirs / kept.name, planes=np.zeros((1, *first.shape[1:]), np.uint8))
    kept.unlink()
    np.testing.assert_array_equal(lacosmic_masks(group, method, (4.0, 8.0)), first)
    assert [path.name for path in theirs.iterdir()] == [kept.name]


def test_a_folder_with_a_run_json_of_another_program_is_no_run(tmp_path):
    (tmp_path / "run.json").write_text('{"id": 5}')
    (tmp_path / "results.json").write_text("mine")
    with pytest.raises(OutputError, match="exists and is not of deepcr-zoo bench"):
        output.check(tmp_path, ("results.json",))


# Checkpoints


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The folder of a run with a checkpoint in its second epoch, and its recipe."""
    recipe, folder = recipe_of("mask"), tmp_path_factory.mktemp("saved")
    dataset = write_dataset(folder / "home", recipe=recipe)
    training = new_training(recipe)
    stops = iter([False] * 4 + [True])
    fit(training, *feeds(recipe, dataset), should_stop=lambda: next(stops))
    assert (training.progress.epoch, training.progress.step) == (1, 2)
    (folder / "run").mkdir()
    checkpoints.save(training, folder / "run", "recipe")
    return folder / "run", recipe


@pytest.fixture
def forged(saved, tmp_path):
    """Change the JSON or the tensors of that checkpoint, whose hash is then right again, and restore it."""
    source, recipe = saved

    def restore(change_json=lambda content: None, change_tensors=lambda tensors: None, data=None):
        folder = tmp_path / "run"
        shutil.copytree(source, folder)
        path = folder / checkpoints.CHECKPOINT_FILE
        content = json.loads(path.read_text())
        tensors = safetensors.torch.load_file(folder / content["tensors"])
        change_tensors(tensors)
        data = safetensors.torch.save(tensors) if data is None else data
        (folder / content["tensors"]).write_bytes(data)
        content["sha256"] = hashlib.sha256(data).hexdigest()
        change_json(content)
        path.write_text(json.dumps(content))
        training = new_training(recipe)
        checkpoints.restore(training, folder, "recipe")
        return training

    return restore


def test_a_sound_checkpoint_is_restored(forged):
    assert forged().progress.epoch == 1


CHECKPOINTS: dict[str, Callable[[Json], object]] = {
    "tensors elsewhere": lambda one: one.update(tensors="../checkpoint-0001-000002.safetensors"),
    "an absolute file": lambda one: one.update(tensors="/dev/zero"),
    "a name with a zero byte": lambda one: one.update(tensors="a\0b"),
    "no hash": lambda one: one.update(sha256=""),
    "a learning rate below 0": lambda one: one.update(learning_rate=-1.0),
    "a learning rate of 0": lambda one: one.update(learning_rate=0.0),
    "a learning rate beyond the recipe's": lambda one: one.update(learning_rate=1e300),
    "a learning rate that is no number": lambda one: one.update(learning_rate=math.nan),
    "epochs without patience": lambda one: one.update(plateau_bad_epochs=-1),
    "an epoch below 0": lambda one: one["progress"].update(epoch=-5),
    "a batch below 0": lambda one: one["progress"].update(step=-1),
    "an epoch without its history": lambda one: one["progress"].update(epoch=3),
    "more epochs than the recipe has": lambda one: one["progress"].update(
        epoch=9, history=[{**one["progress"]["history"][0], "epoch": number} for number in range(1, 10)]
    ),
    "a sum that is no number": lambda one: one["progress"].update(loss_sum=math.inf),
    "a best epoch to come": lambda one: one["progress"].update(best_epoch=4),
    "no best epoch": lambda one: one["progress"].update(best_epoch=0, best_loss=None),
    "no best loss": lambda one: one["progress"].update(best_loss=None),
}


@pytest.mark.parametrize("attack", CHECKPOINTS.values(), ids=CHECKPOINTS)
def test_a_checkpoint_that_no_training_writes_is_refused(forged, attack):
    with pytest.raises(RunError) as raised:
        forged(attack)
    (sentence,) = str(raised.value).splitlines()
    assert re.search("checkpoint.json: .* train again without --resume", sentence)


WEIGHT = "head.weight"
VARIANCE = "encoder.0.norm1.running_var"
TENSORS: dict[str, Callable[[dict[str, torch.Tensor]], object]] = {
    f"exp_avg_sq/{WEIGHT}: expected a tensor, got none": lambda one: one.pop(f"exp_avg_sq/{WEIGHT}"),
    f"step/{WEIGHT}: expected a tensor, got none": lambda one: one.pop(f"step/{WEIGHT}"),
    f"best/{WEIGHT}: expected a tensor, got none": lambda one: one.pop(f"best/{WEIGHT}"),
    "evil/x: expected no such tensor in a training": lambda one: one.update({"evil/x": torch.zeros(1)}),
    f"exp_avg/{WEIGHT}: expected F32 of shape": lambda one: one.update({f"exp_avg/{WEIGHT}": torch.zeros(3, 7)}),
    f"network/{WEIGHT}: expected F32": lambda one: one.update({f"network/{WEIGHT}": one[f"network/{WEIGHT}"].long()}),
    f"step/{WEIGHT}: expected F32 of shape": lambda one: one.update({f"step/{WEIGHT}": torch.ones(2)}),
    f"network/{WEIGHT}: expected finite numbers": lambda one: one[f"network/{WEIGHT}"].fill_(math.nan),
    f"best/{WEIGHT}: expected finite numbers": lambda one: one[f"best/{WEIGHT}"].fill_(math.inf),
    f"exp_avg/{WEIGHT}: expected finite numbers": lambda one: one[f"exp_avg/{WEIGHT}"].fill_(math.nan),
    f"exp_avg_sq/{WEIGHT}: expected numbers of 0 or more": lambda one: one[f"exp_avg_sq/{WEIGHT}"].fill_(-1),
    f"step/{WEIGHT}: expected numbers of 0 or more": lambda one: one[f"step/{WEIGHT}"].fill_(-1),
    f"network/{VARIANCE}: expected numbers of 0 or more": lambda one: one[f"network/{VARIANCE}"].fill_(-1),
    f"best/{VARIANCE}: expected numbers of 0 or more": lambda one: one[f"best/{VARIANCE}"].fill_(-1),
}


@pytest.mark.parametrize(("problem", "attack"), TENSORS.items(), ids=TENSORS)
def test_tensors_that_are_of_no_training_are_refused(forged, problem, attack):
    with pytest.raises(RunError, match=rf"checkpoint-0001-000002\.safetensors: {problem}.*; train again without --resume"):
        forged(change_tensors=attack)


@pytest.mark.parametrize("data", [b"", b"x" * 100, b"\xff" * 8 + b"{}"])
def test_a_checkpoint_without_tensors_is_refused(forged, data):
    with pytest.raises(RunError, match=r"expected a safetensors file: .*; train again without --resume"):
        forged(data=data)


def test_a_refused_checkpoint_removes_no_other(forged, tmp_path):
    with pytest.raises(RunError):
        forged(lambda content: content.update(learning_rate=1e300))
    assert (tmp_path / "run" / "checkpoint-0001-000002.safetensors").exists()


@pytest.mark.parametrize(
    ("facts", "problem"),
    [
        ({"started": "yesterday"}, "expected the folder of a run"),
        ({"name": "x\x1b[31m/../.."}, r"run\.json: expected mask/"),
        ({"task": "inpaint"}, r"run\.json: expected mask/"),
    ],
)
def test_facts_of_a_run_that_cannot_be_are_refused(facts, problem, tmp_path):
    run = write_run(tmp_path / "run")
    path = run / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | facts))
    with pytest.raises(RunError, match=problem):
        deepcr_zoo.load(run)


def test_a_run_with_the_card_of_another_model_is_refused(tmp_path):
    run = write_run(tmp_path / "run")
    card = (run / "card.yaml").read_text()
    (run / "card.yaml").write_text(card.replace("name: ACS-WFC-F606W-2-4\n", "name: Other\n", 1))
    with pytest.raises(RunError, match=r"card\.yaml: identity: expected mask/ACS-WFC-F606W-2-4, as in run\.json"):
        deepcr_zoo.load(run)


@pytest.mark.parametrize("name", ["model.safetensors", "test_vector.safetensors"])
def test_an_empty_file_of_a_run_is_named(name, tmp_path):
    run = write_run(tmp_path / "run")
    (run / name).write_bytes(b"")
    with pytest.raises(RunError, match=f"{name}: is empty"):
        deepcr_zoo.load(run)


def _truth(**changed):
    layers = {name: np.ones((8, 9), np.float32) for name in ("cosmic_rays_1", "scene_1", "noise_1")}
    return {name: layer for name, layer in {**layers, **changed}.items() if layer is not None}


@pytest.mark.parametrize(
    "changed",
    [
        {"noise_1": np.ones((20_000, 1, 1), np.float32)},
        {"noise_1": np.ones(1, np.float32)},
        {"noise_1": np.full((8, 9), np.nan, np.float32)},
        {"noise_1": np.full((8, 9), -1, np.float32)},
        {"noise_1": np.zeros((8, 9), np.float32)},
        {"noise_1": None},
        {"cosmic_rays_1": np.ones((2, 8, 9), np.float32)},
        {"cosmic_rays_1": np.ones((1, 1), np.float32)},
        {"cosmic_rays_1": np.full((8, 9), -1, np.float32)},
        {"cosmic_rays_1": np.ones((8, 9), bool)},
        {"scene_1": np.full((8, 9), np.inf, np.float32)},
        {"scene_2": np.ones((8, 9), np.float32)},
    ],
)
def test_a_truth_that_no_simulation_writes_is_refused(changed, tmp_path):
    path = tmp_path / "x_truth.safetensors"
    safetensors.numpy.save_file(_truth(**changed), path)
    with pytest.raises(InvalidFileError, match="simulate the visit again"):
        read_truth(path)
    safetensors.numpy.save_file(_truth(), path)
    assert read_truth(path)[0].scene.shape == (8, 9)


def test_a_file_that_is_made_of_holes_is_not_hashed(tmp_path):
    with open(tmp_path / "holes", "wb") as file:
        file.truncate(3 * 10**12)
        file.write(b"data")
    with pytest.raises(OSError, match="is made of holes"):
        files.sha256_of(tmp_path / "holes")
    (tmp_path / "zeros").write_bytes(bytes(20_000_000))
    assert files.sha256_of(tmp_path / "zeros") == hashlib.sha256(bytes(20_000_000)).hexdigest()
