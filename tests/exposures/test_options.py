"""Options in messages: as Python spells them in Python, and as the command line does there."""

import ast
import pickle
import re

import numpy as np
import pytest
from astropy.io import fits
from typer.testing import CliRunner

import deepcr_zoo
from deepcr_zoo.cli.main import app
from deepcr_zoo.errors import DeepcrZooError
from deepcr_zoo.exposures.options import in_python
from tests.conftest import CHECKOUT
from tests.fitsfiles import ACS, acs_flc, scene, science, write
from tests.registries import SMALL

COUNTS = scene()[0].astype(np.uint16)
SOURCES = [*(CHECKOUT / "deepcr_zoo" / "exposures").glob("*.py"), CHECKOUT / "deepcr_zoo" / "zoo" / "records.py"]
OPTION = re.compile(r"(?<![\w-])--[a-z]")


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("give --unit counts (or electron) --bias LEVEL", 'give unit="counts" (or electron) bias=LEVEL'),
        ("give --bias overscan --gain E_PER_COUNT; best", 'give bias="overscan", gain=E_PER_COUNT; best'),
        ("give --extension 'VidInp*' --model ACS-WFC-2-32", 'give extension="VidInp*", model="ACS-WFC-2-32"'),
        ("choose with --extension NUMBER", "choose with extension=NUMBER"),
        ("give --extension 2", "give extension=2"),
        (
            "give --overwrite to replace it, or another --output-dir",
            "give overwrite=True to replace it, or another output_dir",
        ),
        ("without it if you give --ignore-dq all", 'without it if you give ignore_dq="all"'),
        ("give --threshold instead", "give threshold instead"),
        ("; --allow-synthetic accepts those", "; allow_synthetic=True accepts those"),
    ],
)
def test_options_are_spelled_as_arguments(message, expected):
    assert in_python(message) == expected


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_every_option_in_a_text_has_its_argument(path):
    texts = [node.value for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.Constant)]
    for text in texts:
        if isinstance(text, str):
            assert not OPTION.search(in_python(text)), text


def no_unit(path):
    return write(path, science(COUNTS.astype(np.float32), None)), ("--model", SMALL)


def raw(path):
    return write(path, science(COUNTS, "COUNTS")), ("--model", SMALL)


def two_images(path):
    return write(path, *(fits.ImageHDU(COUNTS, name=name) for name in ("LEFT", "RIGHT"))), ()


def not_ours(path):
    path.with_name(f"{path.stem}_crmask.fits").touch()
    return acs_flc(path), ("--model", SMALL)


def no_operating_point(path):
    return write(path, science(scene()[0]), **ACS), ("--fpr", "0.005")


@pytest.mark.parametrize("case", [no_unit, raw, two_images, not_ours, no_operating_point])
def test_an_error_names_arguments_in_python_and_options_on_the_command_line(case, tmp_path):
    path, given = case(tmp_path / "x.fits")
    arguments = {name.removeprefix("--"): value for name, value in zip(given[::2], given[1::2], strict=True)}
    arguments = {name: float(value) if name == "fpr" else value for name, value in arguments.items()}
    with pytest.raises(DeepcrZooError) as caught:
        deepcr_zoo.clean_file(path, **arguments)
    message = str(caught.value)
    assert not OPTION.search(message)
    assert str(pickle.loads(pickle.dumps(caught.value))) == message
    done = CliRunner().invoke(app, ["clean", str(path), *given])
    told = " ".join(done.output.split())
    assert OPTION.search(told)
    assert in_python(told).count(" ".join(message.split()).removeprefix(f"{path}: ")) == 1
