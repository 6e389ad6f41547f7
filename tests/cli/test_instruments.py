"""``deepcr-zoo instrument``: a camera is described, checked, listed and used, as a newcomer types it."""

import json
from pathlib import Path

import pytest
from astropy.io import fits
from typer.testing import CliRunner

from deepcr_zoo.cli.main import app
from deepcr_zoo.dataset.store import MANIFEST_FILE
from deepcr_zoo.zoo.instrumentfiles import default_instruments, read_instrument
from deepcr_zoo.zoo.recipefiles import read_recipe
from tests.described import describe, settings_of
from tests.fitsfiles import acs_flc
from tests.groundframes import OVERSCAN, SHAPE, write_frame


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """The folder of descriptions in the settings."""
    return settings_of(tmp_path / "settings", monkeypatch)


@pytest.fixture
def raw(tmp_path):
    """Three targets with two exposures each."""
    for target in (1, 2, 3):
        for number in (0, 1):
            write_frame(tmp_path / "raw" / f"{target}-{number}.fits", target, number)
    return tmp_path / "raw"


def run(*arguments):
    return CliRunner().invoke(app, [*map(str, arguments)])


@pytest.mark.slow
def test_the_way_from_raw_frames_to_a_training_set_needs_no_option(folder, raw, tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPCR_ZOO_DATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    done = run("instrument", "new", raw, "--set", "pixel_scale_arcsec=0.4", "--set", "pixel_size_um=13.5")
    assert done.exit_code == 0, done.output
    path = Path(done.stdout.split()[-1])
    assert path == folder / "test-1.0m-testcam.yaml"
    assert "saturation_count: the largest number of 16 bits" in done.stderr
    assert "missing" not in done.stderr
    listed = run("instrument", "list")
    assert "Test 1.0m TestCam" in listed.stdout
    assert str(path) in listed.stdout
    checked = run("instrument", "check", path, raw / "1-0.fits")
    assert checked.exit_code == 0, checked.output
    for shown in ("1.8 e- per count (GAIN); the noise implies", f"{SHAPE[0] * SHAPE[1]:,} see light", "counts, subtracted"):
        assert shown in checked.stdout
    picture = Path(checked.stdout.split()[-1])
    assert picture == raw / "1-0_instrument.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    cleaned = run("clean", raw / "1-0.fits", "--model", "ACS-WFC-F606W-2-4")
    assert cleaned.exit_code == 0, cleaned.output
    assert "AstroDrizzle" not in cleaned.output
    mask = fits.getdata(raw / "1-0_crmask.fits", "CRMASK")
    assert 0.0005 < mask.mean() < 0.02
    assert not mask[:, -OVERSCAN:].any()
    made = run(
        "recipe", "new", "TESTCAM-R-2-4", "--instrument", "test 1.0m TESTCAM", "--filter", "R", "--labels", "cr_split"
    )
    assert made.exit_code == 0, made.output
    small = ("--set", "build.stamps={size: 32, border: 4}", "--set", "data.visits.any.test_fraction=0.34")
    built = run("build", made.stdout.strip(), "--data", raw, "--jobs", 1, *small)
    assert built.exit_code == 0, built.output
    manifest = json.loads(Path(built.stdout.split()[-1]).read_text())
    assert built.stdout.split()[-1].endswith(MANIFEST_FILE)
    assert sorted(visit["split"] for visit in manifest["visits"]) == ["test", "train", "train"]
    assert {visit["record"]["instrument"] for visit in manifest["visits"]} == {"Test 1.0m TestCam/CCD"}


def test_a_changed_description_makes_finished_products_be_made_again(folder, tmp_path):
    write_frame(tmp_path / "a.fits")
    describe(folder / "my.yaml")
    clean = ("clean", tmp_path / "a.fits", "--model", "ACS-WFC-F606W-2-4", "--inpaint", "none")
    assert run(*clean).exit_code == 0
    assert "finished" in run(*clean).output
    describe(folder / "my.yaml", sources={"gain_keywords": "another source, the same facts"})
    assert "finished" in run(*clean).output
    describe(folder / "my.yaml", saturation_count=50_000.0)
    again = run(*clean)
    assert again.exit_code == 1
    assert "was made otherwise (CROPTION is 'instrument " in again.output


def test_a_description_is_never_replaced_unasked(folder, raw):
    describe(folder / "mine.yaml", name="Other", detector="B", recognise={"INSTRUME": "Other"})
    before = (folder / "mine.yaml").read_text()
    refused = run("instrument", "new", raw, "--to", folder / "mine.yaml")
    assert refused.exit_code == 1 or refused.exception is not None
    assert "exists: give --overwrite" in str(refused.exception)
    assert (folder / "mine.yaml").read_text() == before
    assert run("instrument", "new", raw, "--to", folder / "mine.yaml", "--overwrite").exit_code == 0
    assert read_instrument(folder / "mine.yaml").name == "Test 1.0m TestCam"


def test_a_known_camera_is_not_described_again_and_nothing_is_written(folder, tmp_path):
    refused = run("instrument", "new", acs_flc(tmp_path / "x_flc.fits"))
    assert "is of HST ACS/WFC, which zoo/instruments.yaml describes" in str(refused.exception)
    assert not folder.exists()


def test_the_commands_print_json(folder, raw):
    made = json.loads(run("instrument", "new", raw, "--json", "--name", "My camera").stdout)
    assert (made["instrument"]["name"], made["path"]) == ("My camera", str(folder / "my-camera.yaml"))
    assert sorted(made["missing"]) == ["pixel_scale_arcsec", "pixel_size_um"]
    listed = json.loads(run("instrument", "list", "--json").stdout)
    assert [one["name"] for one in listed] == [one.name for one in default_instruments()]
    checked = json.loads(run("instrument", "check", "My camera", raw / "1-0.fits", "--json").stdout)
    assert checked["chips"][0]["background"]["level"] == pytest.approx(222, abs=4)


def test_an_exposure_of_another_camera_is_not_checked(folder, tmp_path):
    path = describe(tmp_path / "my.yaml")
    write_frame(tmp_path / "a.fits", INSTRUME="Other", BUNIT="adu")
    refused = run("instrument", "check", path, tmp_path / "a.fits")
    assert "is of Test 1.0m Other, not of My camera: expected TELESCOP Test 1.0m, INSTRUME TestCam" in str(refused.exception)
    assert "expected a file, or one of HST ACS/WFC" in str(
        run("instrument", "check", "x.yaml", tmp_path / "a.fits").exception
    )


def test_what_a_description_lacks_is_said_with_the_way_to_add_it(folder, tmp_path):
    path = describe(tmp_path / "my.yaml", amplifiers=[])
    write_frame(tmp_path / "a.fits", BIASSEC=None, TRIMSEC=None)
    refused = str(run("instrument", "check", path, tmp_path / "a.fits").exception)
    assert "add it to the description, or give it to 'deepcr-zoo instrument new'" in refused
    assert "as in --set bias_count=200" in refused


def test_a_picture_of_the_users_own_is_not_replaced(folder, tmp_path):
    path = describe(tmp_path / "my.yaml")
    write_frame(tmp_path / "a.fits")
    (tmp_path / "a_instrument.png").write_bytes(b"mine")
    refused = run("instrument", "check", path, tmp_path / "a.fits")
    assert "exists and is no picture of this file" in str(refused.exception)
    assert (tmp_path / "a_instrument.png").read_bytes() == b"mine"


def test_a_recipe_for_a_described_camera_names_it(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    describe(folder / "my.yaml")
    assert "expected one of HST ACS/WFC" in str(run("recipe", "new", "CAM-R-2-4", "--instrument", "x").exception)
    assert "needs --filter NAME" in str(run("recipe", "new", "CAM-R-2-4", "--instrument", "My camera").exception)
    named = ("recipe", "new", "CAM-R-2-4", "--instrument", "My camera", "--filter", "R")
    assert "--labels guessed: expected one of astrodrizzle" in str(run(*named, "--labels", "guessed").exception)
    assert "--labels are for --instrument" in str(run("recipe", "new", "CAM-R-2-4", "--labels", "dithers").exception)
    made = run("recipe", "new", "CAM-RV-3-16", "--instrument", "my camera", "--filter", "R", "--filter", "V")
    recipe = read_recipe(Path(made.stdout.strip()))
    assert (recipe.name, recipe.instrument.filters, recipe.build.labels) == ("CAM-RV-3-16", ["R", "V"], "dithers")
    assert (recipe.train.architecture.depth, recipe.train.architecture.hidden) == (3, 16)


def test_the_camera_to_practise_with_can_be_described_and_simulated_again(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    simulate = ("simulate", "practice-ccd", "--side", 128, "--exposures", 1, "--output-dir")
    (first,) = run(*simulate, "first").stdout.split()
    facts = ("--set", "pixel_scale_arcsec=0.4", "--set", "pixel_size_um=13.5")
    assert run("instrument", "new", first, "--name", "My camera", *facts).exit_code == 0
    again = run(*simulate, "again")
    assert again.exit_code == 0, again.exception
