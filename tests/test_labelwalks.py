"""From raw frames of a camera that nothing describes to a judged network, with each label method that needs no dithers."""

import shutil

import numpy as np
import pytest
from astropy.io import fits

from deepcr_zoo.bench.runs import Run
from deepcr_zoo.simulate.truth import read_truth, truth_path
from tests.newcomers import Newcomer

SIDE, STAMP, GAIN, READ_NOISE = 192, 32, 1.8, 6.0
SMALL = [
    f"build.stamps={{size: {STAMP}, border: 4}}",
    "train.schedule={max_epochs: 2, freeze_after_epochs: 1}",
    "benchmark.lacosmic_objlims=[2]",
    "benchmark.lacosmic_sigclips=[4, 10]",
]

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    """Three fields of three repeats each, a dark for each of six other exposures, and the description of the camera."""
    made = Newcomer(tmp_path_factory.mktemp("walks"))
    sizes = ["--side", str(SIDE), "--set", "build.labels=cr_split"]
    made.type("simulate", "practice-ccd", "--visits", "3", "--exposures", "3", *sizes, "--output-dir", "nights")
    made.type("simulate", "practice-ccd", "--seed", "2000", "--exposures", "6", *sizes, "--output-dir", "others")
    for number, path in enumerate(frames(made.folder / "others")):
        write_dark(path, made.folder / "darks" / f"dark{number}.fits")
    facts = [word for one in ("pixel_scale_arcsec=0.4", "pixel_size_um=13.5") for word in ("--set", one)]
    made.type("instrument", "new", *map(str, frames(made.folder / "nights")), "--name", "My camera", *facts)
    return made


def frames(folder):
    return sorted(path for path in folder.rglob("*.fits") if not path.stem.endswith("_mask"))


def write_dark(exposure, dark):
    """Write the cosmic rays of an exposure as those of a dark of the same camera."""
    (truth,) = read_truth(truth_path(exposure))
    with fits.open(exposure) as hdus:
        header, whole = hdus[0].header, hdus[0].data.astype(float)
    rows, columns = truth.cosmic_rays.shape
    random = np.random.default_rng(int(exposure.stem[-2:]))
    counts = np.median(whole[:, columns:]) + random.normal(0, READ_NOISE / GAIN, whole.shape)
    counts[:rows, :columns] += truth.cosmic_rays / GAIN
    header.update({"IMAGETYP": "dark", "TARGET": "dark", "ROOTNAME": dark.stem})
    dark.parent.mkdir(exist_ok=True)
    fits.writeto(dark, np.clip(np.rint(counts), 0, 65_535).astype(np.uint16), header)


def walk(bench, labels, data, *settings):
    """Type the walk; return the run, and stamps of all exposures with their truth, in electrons."""
    name = f"WALK-{labels.replace('_', '')}-2-4"
    recipe = f"{name.lower()}.yaml"
    changes = [word for one in (*SMALL, *settings) for word in ("--set", one)]
    bench.type("recipe", "new", name, "--instrument", "My camera", "--filter", "R", "--labels", labels)
    said = bench.type("train", recipe, "--data", data, "--jobs", "1", *changes)
    (run,) = (bench.folder / "runs" / name).glob("*")
    (verdict,) = Run.open(run).results().verdicts
    assert all(check.verdict in ("passes", "fails") for check in verdict.gates)
    assert verdict.reference in said
    first = frames(bench.folder / data)[0]
    bench.type("clean", str(first), "--model", str(run), "--output-dir", f"cleaned-{labels}")
    (cleaned,) = (bench.folder / f"cleaned-{labels}").rglob("*clean.fits")
    assert fits.getdata(cleaned).shape == fits.getdata(first).shape
    return Run.open(run).dataset(), said


def judged(dataset, folder):
    """Each layer of all stamps with the electrons of true cosmic rays, the scene and its noise, in one array each."""
    files = {path.stem: path for path in frames(folder)}
    layers = {name: [] for name in ("image", "cosmic_rays", "ignore", "struck", "scene", "noise")}
    for split in ("train", "validation", "test"):
        for group in dataset.exposures(split):
            (truth,) = read_truth(truth_path(files[group.exposure.name]))
            found = group.read("image", "cosmic_rays", "ignore", "position")
            for name in ("image", "cosmic_rays", "ignore"):
                layers[name] += list(found[name])
            for row, column in found["position"]:
                part = np.s_[row : row + STAMP, column : column + STAMP]
                layers["struck"].append(truth.cosmic_rays[part])
                layers["scene"].append(truth.scene[part])
                layers["noise"].append(truth.noise[part])
    return {name: np.array(layer) for name, layer in layers.items()}


def rates(found):
    """TPR of the labels above 3 sigma, and their FPR."""
    counted, marked = found["ignore"] == 0, found["cosmic_rays"] > 0
    hit = counted & (found["struck"] > 3 * found["noise"])
    clean = counted & (found["struck"] == 0)
    assert hit.sum() > 60
    assert counted.mean() > 0.9
    return marked[hit].mean(), marked[clean].mean()


def test_repeats_on_the_same_pixels_label_each_other(bench):
    dataset, _ = walk(bench, "cr_split", "nights")
    tpr, fpr = rates(judged(dataset, bench.folder / "nights"))
    assert tpr > 0.8
    assert fpr < 0.0002


def test_masks_of_ones_own_are_the_labels(bench):
    shutil.copytree(bench.folder / "nights", bench.folder / "masked")
    for path in frames(bench.folder / "masked"):
        (truth,) = read_truth(truth_path(path))
        fits.writeto(path.with_name(f"{path.stem}_mask.fits"), (truth.cosmic_rays > 3 * truth.noise).astype(np.uint8))
    dataset, said = walk(bench, "given", "masked")
    assert rates(judged(dataset, bench.folder / "masked")) == (1.0, 0.0)
    assert "rejected" not in said


def test_cosmic_rays_of_darks_are_the_labels_and_those_of_the_exposure_are_ignored(bench):
    dataset, _ = walk(bench, "dark_paste", "nights", "build.dark_paste.darks=[darks]")
    found = judged(dataset, bench.folder / "nights")
    counted, marked = found["ignore"] == 0, found["cosmic_rays"] > 0
    pasted = (found["image"] - found["scene"] - found["struck"]) / found["noise"]
    own = (found["struck"] > 10 * found["noise"]) & (pasted < 5)
    assert own.sum() > 30
    assert (~counted)[own].mean() > 0.8
    ordinary = counted & (found["struck"] == 0) & (found["scene"] < 5000)
    added = ordinary & (pasted > 8)
    assert added.sum() > 40
    assert marked[added].mean() > 0.95
    assert marked[ordinary & (pasted < 1)].mean() < 0.0005
