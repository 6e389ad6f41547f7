"""The whole path of a network for any unit: raw frames, recipe, training, proof, a raw file, and out and in again."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from typer.testing import CliRunner

import deepcr_zoo
from deepcr_zoo.bench import runtime
from deepcr_zoo.bench.runs import Run
from deepcr_zoo.cli.main import app
from deepcr_zoo.publishing.releases import release_of_run
from tests.described import RECIPE, describe, settings_of, write_recipe
from tests.publishing.test_page import code_blocks

TRAIN = {
    **RECIPE["train"],
    "input": {"normalization": "noise"},
    "augmentation": {"sky": [-0.5, 2.0], "shot_noise": True, "flips": True},
    "schedule": {"max_epochs": 2, "freeze_after_epochs": 1},
}
DATA = {"source": "own", "visits": {"any": {"field_type": "extragalactic", "test_fraction": 0.5}}}
SHORT = {"lacosmic_sigclips": [5.0, 10.0], "lacosmic_objlims": [5.0], "bootstrap_blocks": 100}


def typed(*words, status=0):
    done = CliRunner().invoke(app, [str(word) for word in words])
    assert done.exit_code == status, f"{words}\n{done.output}"
    return done.stdout.split()


@pytest.mark.slow
def test_a_recipe_in_units_of_noise_becomes_a_network_that_cleans_raw_files(tmp_path, monkeypatch):
    describe(settings_of(tmp_path / "settings", monkeypatch) / "my.yaml")
    monkeypatch.setenv("DEEPCR_ZOO_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(runtime, "measure", partial(runtime.measure, side=128, repeats=1))
    recipe = write_recipe(tmp_path / "r.yaml", train=TRAIN, benchmark=SHORT, data=DATA)
    field = ["--field-type", "extragalactic", "--side", 160, "--exposures", 3, "--exposure-time", 3600]
    frames = typed("simulate", recipe, "--visits", 2, *field, "--output-dir", tmp_path / "raw")
    folder = typed("train", recipe, "--data", tmp_path / "raw", "--runs", tmp_path / "runs", "--no-prove")[-1]
    typed("bench", folder, status=1)  # two epochs pass no gate
    run = Run.open(tmp_path / folder)
    assert (run.card().input.unit, run.card().input.normalisation) == ("any", "noise")
    assert run.results().data.pixels
    assert run.recipe.train.input.normalisation == "noise"

    # a raw file of the camera, and one that says nothing of itself, give the same
    with fits.open(frames[0]) as hdus:
        counts = hdus[0].data[:, :160]
    fits.writeto(tmp_path / "bare.fits", counts)
    fits.writeto(tmp_path / "other.fits", (counts * 3.0 + 5000).astype(np.float32))
    found = {}
    for name in (frames[0], tmp_path / "bare.fits", tmp_path / "other.fits"):
        typed("clean", name, "--model", folder, "--prob", "--output-dir", tmp_path / "out")
        with fits.open(tmp_path / "out" / f"{Path(name).stem}_crmask.fits") as hdus:
            found[name] = hdus["CRPROB"].data[:, :160], hdus["CRMASK"].header
        copy = fits.getdata(tmp_path / "out" / f"{Path(name).stem}_crclean.fits")
        assert copy.dtype == fits.getdata(name).dtype
    (of_camera, header), (of_bare, _), (of_other, changed) = found.values()
    np.testing.assert_allclose(of_bare[:, :152], of_camera[:, :152], atol=1e-3)
    searched = of_bare > 0  # not beside pixels at the end of the converter, which the floats do not show
    assert searched.mean() > 0.95
    np.testing.assert_allclose(of_other[searched], of_bare[searched], atol=1e-3)
    assert changed["CRNOIS1"] == pytest.approx(3 * header["CRNOIS1"], rel=0.02)

    # out: what another program needs; and in again: a model of this user
    files = release_of_run(run).files
    for name in ("config.json", "model.safetensors", "test_vector.safetensors"):
        (tmp_path / name).write_bytes(files[name])
    assert json.loads(files["config.json"])["input"]["unit"] == "any"
    [example] = [code for code in code_blocks(files["README.md"]) if "safetensors" in code]
    alone = ["import sys", "sys.modules['deepcr_zoo'] = None", example]
    subprocess.run([sys.executable, "-c", "\n".join(alone)], cwd=tmp_path, check=True, timeout=120)
    typed("import", tmp_path / "model.safetensors", "--name", "MINE-2-4", "--unit", "any")
    with pytest.warns(deepcr_zoo.errors.ModelWarning, match="imported from a file"):
        again = deepcr_zoo.load("local:MINE-2-4", "cpu", engine="torch")
    np.testing.assert_array_equal(again.predict(counts), run.model("cpu", "torch").predict(counts))
