"""Tables of the command line, at any width: names fold, numbers stay whole."""

import os
import re
import subprocess
import sys
from io import StringIO

import pytest
from astropy.io import fits
from rich.console import Console

from deepcr_zoo.cli import console
from deepcr_zoo.cli.console import print_table, whole
from tests.conftest import CHECKOUT
from tests.fitsfiles import acs_flc
from tests.registries import SMALL

NAME = "/data/hst/programs/13671/visit44/a_name_that_does_not_fit_into_one_line_jcdm44c0q_flc.fits"
CLEAN = (
    ["file", "", *(whole(header, "right") for header in ("masked pixels", "%", "per cm2 s", "s"))],
    [NAME, "cleaned", "3860", "0.92", "1.23", "12.4"],
    3,
)
BENCH = (
    ["field type", "method", *map(whole, ("TPR at FPR 0.05 %", "TPR at FPR 0.5 %", "95 % interval"))],
    ["extragalactic", f"mask/{'A' * 60}@1.0", "94.0 %", "98.5 %", "93.1 to 94.8 %"],
    2,
)
VERIFY = (
    ["model", *map(whole, ("verdict", "max difference", "allowed", "flipped"))],
    [f"mask/{'A' * 60}@1.0", "runs but differs", "1.2e-05", "1e-05", "1024"],
    1,
)
FETCH = (["product", whole("proposal"), "visit", "filter", whole("MB")], [NAME, "13671", "44", "F606W", "168.1"], 1)


def run(arguments, columns, **options):
    """Output of the command line in a process of its own, through a pipe."""
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}
    environment |= {} if columns is None else {"COLUMNS": str(columns)}
    command = [sys.executable, "-m", "deepcr_zoo", *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, env=environment, check=True, timeout=120, **options
    ).stdout


@pytest.mark.parametrize("table", [CLEAN, BENCH, VERIFY, FETCH], ids=["clean", "bench", "verify", "fetch"])
@pytest.mark.parametrize("columns", [20, 40, 60, 80, 120, console.UNLIMITED])
def test_names_fold_and_numbers_do_not(table, columns, monkeypatch):
    headers, row, first_number = table
    text = StringIO()
    monkeypatch.setattr(console, "output", Console(file=text, width=columns, soft_wrap=True, highlight=False))
    print_table(headers, [row])
    shown = text.getvalue()
    for number in row[first_number:]:
        assert re.search(rf"(^|\s){re.escape(number)}(\s|$)", shown), number
    assert row[0] in shown or max(map(len, shown.splitlines())) <= columns
    if columns == console.UNLIMITED:
        assert len([line for line in shown.splitlines() if line.strip()]) == 3  # header, rule and one line for the row


@pytest.mark.slow
def test_clean_shows_the_whole_number_of_pixels_in_80_columns(tmp_path):
    exposure = acs_flc(tmp_path / "an_exposure_with_a_very_long_name_that_needs_most_of_a_line_flc.fits")
    shown = run(["clean", str(exposure), "--model", SMALL.partition("/")[2], "--inpaint", "medmask"], 80)
    [product] = tmp_path.glob("*_crmask.fits")
    with fits.open(product) as hdus:
        pixels = sum(int((hdu.data > 0).sum()) for hdu in hdus if hdu.data is not None)
    assert pixels >= 10
    assert re.search(rf" {pixels} ", shown)


@pytest.mark.parametrize("columns", ["", "0"])
def test_a_console_without_columns_is_taken_for_none(columns):
    assert run(["list", "*F606W*"], columns) == run(["list", "*F606W*"], None)


def test_a_name_with_colons_holds_no_pictures(capsys):
    console.message("caution", "m31:star:1.fits")
    print_table(["file"], [["m31:star:1.fits"]])
    assert "".join(capsys.readouterr()).count("m31:star:1.fits") == 2


def test_an_interruption_while_the_command_is_imported_is_no_traceback(tmp_path):
    (tmp_path / "typer.py").write_text("raise KeyboardInterrupt\n")  # as if it came in this moment
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), str(CHECKOUT)])}
    command = [sys.executable, "-m", "deepcr_zoo", "list"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_a_command_ends_as_ever_where_its_caller_has_closed_the_streams(closed, tmp_path):
    command = f"exec {sys.executable} -m deepcr_zoo pull {SMALL} --to {tmp_path} {closed}"
    done = subprocess.run(["sh", "-c", command], cwd=CHECKOUT, capture_output=True, text=True)
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)
    assert [path for path in tmp_path.rglob("*.safetensors") if path.stat().st_size]


@pytest.mark.parametrize("columns", [40, 60, 80])
def test_the_list_of_models_fits_the_console(columns):
    lines = run(["list", "*F606W*"], columns).splitlines()
    assert max(map(len, lines)) <= columns or any(line.startswith("model: ") for line in lines)


def test_in_a_pipe_each_model_has_its_whole_name_in_one_line():
    assert re.search(r"mask/ACS-WFC-F606W-2-4 +1\.0", run(["list"], None))
