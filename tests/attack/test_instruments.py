"""Descriptions of cameras, of others or proposed from headers of others: no file is lost, no frame is misread in silence."""

from __future__ import annotations

import contextlib
import os
import time

import numpy as np
import pytest
import yaml
from astropy.io import fits
from typer.testing import CliRunner

from deepcr_zoo.cli.main import app
from deepcr_zoo.documents import parse_document
from deepcr_zoo.errors import DeepcrZooError, InvalidDocumentError, InvalidFileError, OutputError, UsageError
from deepcr_zoo.exposures.describing import describe_camera
from deepcr_zoo.exposures.reading import read_exposure
from deepcr_zoo.exposures.readingoptions import ReadingOptions
from deepcr_zoo.simulate.visits import visit_of, write
from deepcr_zoo.zoo.instrumentfiles import KnownInstrument, KnownInstruments, instruments_beside, read_instrument
from deepcr_zoo.zoo.instruments import Instrument
from deepcr_zoo.zoo.recipefiles import read_recipe
from tests.described import CAMERA, describe, settings_of, write_recipe
from tests.groundframes import OVERSCAN, SHAPE, counts, write_frame

LIGHT, DARK = f"[1:{SHAPE[1]},1:{SHAPE[0]}]", f"[{SHAPE[1] + 1}:{SHAPE[1] + OVERSCAN},1:{SHAPE[0]}]"


@pytest.fixture(autouse=True)
def settings(tmp_path, monkeypatch):
    return settings_of(tmp_path / "settings", monkeypatch)


def run(*arguments):
    return CliRunner().invoke(app, list(map(str, arguments)))


def test_a_description_is_written_to_a_file_of_its_kind_alone(tmp_path):
    write_frame(tmp_path / "frame.fits")
    before = (tmp_path / "frame.fits").read_bytes()
    for name in ("frame.fits", "instruments"):
        found = run("instrument", "new", tmp_path / "frame.fits", "--to", tmp_path / name, "--overwrite")
        assert isinstance(found.exception, UsageError)
        assert "expected the name of a file, such as" in str(found.exception)
    assert (tmp_path / "frame.fits").read_bytes() == before
    assert not (tmp_path / "instruments").exists()


@pytest.mark.parametrize("name", ["frame.yaml", "notes.yaml", "link.yaml"])
def test_a_description_replaces_only_a_description(name, tmp_path):
    write_frame(tmp_path / "frame.fits")
    write_frame(tmp_path / "frame.yaml")
    (tmp_path / "notes.yaml").write_text("mine: yes\n")
    (tmp_path / "link.yaml").symlink_to(tmp_path / "notes.yaml")
    before = (tmp_path / name).read_bytes()
    found = run("instrument", "new", tmp_path / "frame.fits", "--to", tmp_path / name, "--overwrite")
    assert isinstance(found.exception, OutputError)
    assert "exists and describes no instrument" in str(found.exception)
    assert (tmp_path / name).read_bytes() == before


def test_an_earlier_description_is_replaced_also_if_it_has_mistakes(tmp_path):
    write_frame(tmp_path / "frame.fits")
    describe(tmp_path / "my.yaml", gain_electron_per_count="a mistake")
    assert run("instrument", "new", tmp_path / "frame.fits", "--to", tmp_path / "my.yaml", "--overwrite").exit_code == 0
    assert read_instrument(tmp_path / "my.yaml").gain_keywords == ["GAIN"]


def test_a_name_that_is_too_long_for_a_file_is_one_sentence(tmp_path):
    write_frame(tmp_path / "frame.fits")
    found = run("instrument", "new", tmp_path / "frame.fits", "--name", "n" * 400)
    assert isinstance(found.exception, DeepcrZooError)
    assert "has 405 bytes: shorten it" in str(found.exception)


@pytest.mark.parametrize("stated", [{"BUNIT": "ELECTRONS"}, {"BLEVCORR": "COMPLETE"}])
def test_sections_of_frames_without_a_bias_level_describe_no_overscan(stated, tmp_path):
    write_frame(tmp_path / "frame.fits", BIASSEC=None, **stated)
    assert describe_camera([tmp_path / "frame.fits"]).instrument.instrument == "TestCam"


@pytest.mark.parametrize("hides", ["all but a column", "half of its values"])
def test_an_overscan_without_halves_is_not_parted(hides, tmp_path):
    frame = counts(np.full(SHAPE, 400.0), np.random.default_rng(1)).astype(np.float32)
    if hides == "half of its values":
        frame[:, -OVERSCAN // 2 :] = np.nan
    else:
        frame = frame[:, : SHAPE[1] + 1]
    header = fits.Header({"TELESCOP": "T", "INSTRUME": "I", "GAIN": 1.8, "BUNIT": "adu", "TRIMSEC": LIGHT})
    fits.PrimaryHDU(frame, header).writeto(tmp_path / "frame.fits")
    (amplifier,) = describe_camera([tmp_path / "frame.fits"]).instrument.amplifiers
    assert amplifier.image == "TRIMSEC"


def read(tmp_path, reading=ReadingOptions, **facts):
    write_frame(tmp_path / "frame.fits", GAINB=1e-30)
    described = read_instrument(describe(tmp_path / "my.yaml", **facts))
    return read_exposure(tmp_path / "frame.fits", reading(instrument=described))


@pytest.mark.parametrize("gain", ["GAINB", 1e30])
def test_a_gain_of_an_amplifier_that_no_camera_has_is_refused(gain, tmp_path):
    rest = f"[101:{SHAPE[1]},1:{SHAPE[0]}]"
    amplifiers = [{"image": f"[1:100,1:{SHAPE[0]}]", "bias": DARK}, {"image": rest, "bias": DARK, "gain": gain}]
    with pytest.raises(InvalidFileError, match=r"is 1e[+-]30 e- per count: expected 0\.001 to 1000: give --gain"):
        read(tmp_path, amplifiers=amplifiers)
    (chip,) = read(tmp_path, lambda **given: ReadingOptions(gain=(1.5,), **given), amplifiers=amplifiers).chips
    assert chip.gain.electron_per_count == 1.5


def test_an_overscan_over_all_of_the_light_is_refused(tmp_path):
    with pytest.raises(InvalidFileError, match="no pixel sees light outside of the overscan, as My camera is described"):
        read(tmp_path, amplifiers=[{"image": LIGHT, "bias": LIGHT}])


@pytest.mark.parametrize("first", [f"[1:100,1:{SHAPE[0]}]", "HALF"])
def test_amplifiers_that_share_pixels_are_refused_with_both_sections(first, tmp_path):
    write_frame(tmp_path / "frame.fits", HALF=f"[1:100,1:{SHAPE[0]}]")
    second = f"[100:{SHAPE[1]},1:{SHAPE[0]}]"
    amplifiers = [{"image": first, "bias": DARK}, {"image": second, "bias": DARK}]
    described = read_instrument(describe(tmp_path / "my.yaml", amplifiers=amplifiers))
    with pytest.raises(InvalidFileError, match="share pixels, as My camera is described") as refused:
        read_exposure(tmp_path / "frame.fits", ReadingOptions(instrument=described))
    assert f"{first} and {second}" in str(refused.value)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *(("cosmic_ray_bit", bit) for bit in (-5, 0, 10**14)),
        *(("usable_bits", [-1]), ("chip_shape", [-1, 10]), ("bias_count", 1e300)),
        *((name, 1e300) for name in ("read_noise_electron", "pixel_size_um", "gain_electron_per_count", "saturation_count")),
        ("time_keywords", ["A"] * 50_000),
        ("recognise", {f"A{number}": "x" for number in range(1000)}),
        ("refused_names", {f"*a*b{number}.fits": "x" for number in range(40_000)}),
        ("refused_when", {f"A{number}": {"x": "x"} for number in range(1000)}),
        ("refused_when", {"A": {f"x{number}": "x" for number in range(1000)}}),
        (
            "overscan",
            [
                {
                    "shape": [9, 9],
                    "bias": [{"level": [0, 1], "applies_to": [0, 1]}] * 5_000,
                    "image_columns": [0, 1],
                    "image_rows": {"*": [0, 1]},
                }
            ],
        ),
    ],
)
def test_facts_that_no_camera_can_have_are_refused(field, value):
    content = {**CAMERA, field: value, "sources": {**CAMERA["sources"], field: "header"}}
    with pytest.raises(InvalidDocumentError, match=f"mine: {field}"):
        parse_document(yaml.safe_dump(content), Instrument, "mine")


def test_thousands_of_descriptions_are_compared_within_seconds():
    one = parse_document(yaml.safe_dump(CAMERA), Instrument, "mine")
    many = [
        KnownInstrument(one.model_copy(update={"name": name, "detector": name, "recognise": {"DETECTOR": name}}), name)
        for name in map(str, range(3000))
    ]
    start = time.process_time()
    assert len(KnownInstruments.merged(many).known) == 3000
    assert time.process_time() - start < 5


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
def test_what_is_no_file_beside_a_recipe_is_no_description(make, tmp_path):
    describe(tmp_path / "camera.yaml")
    make(tmp_path / "x.yaml")
    assert CAMERA["name"] in [one.name for one in instruments_beside([tmp_path])]


@pytest.mark.parametrize(
    "changes",
    [
        {"recognise": {"TELESCOP": "Test 1.0m", "NAXIS1": "5"}},
        {"recognise": {"A\0B": "x"}},
        {"recognise": {"END": "x"}},
        {"recognise": {"A = B": "caf\u00e9"}},
        {"recognise": {"TELESCOP": "Test\n1.0m"}},
        {"amplifiers": [{"image": "[1:1,1:1]", "bias": "[2:2,1:1]"}]},
        {"pixel_scale_arcsec": 1e-5},
        {"pixel_scale_arcsec": 1e4},
    ],
)
def test_a_camera_of_which_no_frame_can_be_made_ends_in_frames_or_an_error(changes, settings, tmp_path):
    describe(settings / "my.yaml", **changes)
    with contextlib.suppress(DeepcrZooError):
        recipe = read_recipe(write_recipe(tmp_path / "r.yaml"))
        write(visit_of(recipe, "extragalactic", 5, 1, 60.0, 128), tmp_path / "visit")
