"""Names and texts of others cannot obey a terminal, hide text or fake a line; JSON keeps them as they are."""

from __future__ import annotations

import ast
import io
import json
import logging
import os
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from rich.console import Console

import deepcr_zoo.cli
from deepcr_zoo.cli import console
from deepcr_zoo.errors import DataError, DeepcrZooError, SourceWarning, printable, warn
from deepcr_zoo.progress import logger
from tests.fitsfiles import acs_flc
from tests.registries import SMALL

EVIL = "x\x1b[31m\x1b]0;title\x07\n\rerror all is well\u202egnp.\u2066\x9b2J\x7f\u2028y"
SHOWN = r"x\x1b[31m\x1b]0;title\x07\n\rerror all is well\u202egnp.\u2066\x9b2J\x7f\u2028y"
OBEYED = {
    chr(code) for code in (*range(9), *range(11, 32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A))
}


@pytest.fixture
def shown(monkeypatch):
    """What commands print, on stdout and stderr."""
    text = io.StringIO()
    for name in ("output", "notes"):
        monkeypatch.setattr(console, name, Console(file=text, width=1000, soft_wrap=True, markup=False, highlight=False))
    return text


def test_characters_that_a_terminal_obeys_or_hides_are_escaped():
    assert printable(EVIL) == SHOWN
    assert printable("\ud8ff\udcff") == r"\ud8ff\udcff"
    for text in ("5\u00a0\u03c3", "\u2192 \u03a9\u00e9 \u661f \u2265 0.5 \u00b5m \u2013 \u201cx\u201d"):
        assert printable(text) == text


@pytest.mark.parametrize(
    "arguments", [["info", "x", EVIL], ["pull", f"--{EVIL}"], [EVIL]], ids=["extra", "option", "command"]
)
def test_a_mistake_in_the_arguments_is_repeated_with_escapes(arguments):
    done = subprocess.run([sys.executable, "-m", "deepcr_zoo", *arguments], capture_output=True, text=True)
    assert done.returncode == 2
    assert "Usage:" in done.stderr
    assert "Error: " in done.stderr.splitlines()[-1]
    assert not OBEYED & set(done.stderr)


def test_every_way_to_print_escapes(shown):
    console.message("chosen", EVIL)
    console.print_note(EVIL)
    console.print_line(EVIL)
    console.print_error(DataError(EVIL, f"  {EVIL}"))
    console.print_table(["file", console.whole("n")], [[EVIL, "1"], [[EVIL, "two"], "2"]])
    console.print_facts([(EVIL, EVIL.replace("\n", ""))])
    with console.TerminalReporter().amount(EVIL) as show:
        show(0, 1)
    assert not OBEYED & set(shown.getvalue())
    assert not [line for line in shown.getvalue().splitlines() if line.startswith("error all is well")]
    assert SHOWN in shown.getvalue()


def test_only_the_lines_of_an_error_are_lines(shown):
    error = pickle.loads(pickle.dumps(DataError("first", "  second\nfake")))
    assert str(error) == "first\n  second\nfake"
    console.print_error(error)
    assert shown.getvalue().splitlines() == ["error first", r"  second\nfake"]


def test_json_keeps_the_real_text(capsys):
    console.print_json({"path": EVIL})
    written = capsys.readouterr().out
    assert not OBEYED & set(written)
    assert json.loads(written) == {"path": EVIL}


def test_lines_of_logs_and_warnings_are_escaped(caplog):
    for name in ("deepcr_zoo", "deepcr_zoo.exposures.cleaning"):
        logger(name).warning("%s: %s", EVIL, "text")
    assert [record.getMessage() for record in caplog.records] == [f"{SHOWN}: text"] * 2
    with pytest.warns(SourceWarning) as caught:
        warn(EVIL, SourceWarning)
    assert str(caught[0].message) == SHOWN


def test_all_loggers_of_the_library_escape():
    import deepcr_zoo.exposures.cleaning
    import deepcr_zoo.models.model  # noqa: F401

    ours = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] == "deepcr_zoo"]
    used = [logging.getLogger(name) for name in ours if logging.getLogger(name).filters]
    assert {log.name for log in used} >= {"deepcr_zoo", "deepcr_zoo.exposures.cleaning"}


def test_commands_print_through_the_console_alone():
    for path in Path(deepcr_zoo.cli.__file__).parent.glob("*.py"):
        if path.name == "console.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in ("typer.echo", "print", "notes.print", "output.print", "sys.stdout.write"), path.name


def test_a_file_with_a_hostile_name_is_cleaned_and_refused_in_escaped_lines(tmp_path):
    good = acs_flc(tmp_path / f"{EVIL}_flc.fits")
    bad = tmp_path / f"{EVIL}.fits"
    bad.write_bytes(b"<html>")
    bytes_of_name = os.fsencode(tmp_path) + b"/\xff\xfe.fits"
    Path(os.fsdecode(bytes_of_name)).write_bytes(b"")
    command = [sys.executable, "-m", "deepcr_zoo", "clean", "--json", "--model", SMALL, "--inpaint", "none"]
    done = subprocess.run([*command, good, bad, bytes_of_name], capture_output=True, timeout=120, check=False)
    text = done.stdout.decode() + done.stderr.decode()
    assert done.returncode == 1
    assert "Traceback" not in text
    assert not OBEYED & set(text)
    assert not [line for line in text.splitlines() if line.lstrip().startswith("error all is well")]
    paths = [json.loads(line)["path"] for line in done.stdout.splitlines()]
    assert paths == [str(good), str(bad), os.fsdecode(bytes_of_name)]


def test_paths_for_scripts_are_real_in_a_pipe_and_escaped_on_a_terminal(capfdbinary, monkeypatch):
    console.print_result(Path(EVIL))
    assert capfdbinary.readouterr().out == os.fsencode(EVIL) + b"\n"
    monkeypatch.setattr(console, "output", Console(force_terminal=True))
    console.print_result(Path(EVIL))
    assert capfdbinary.readouterr().out.decode() == SHOWN + "\n"


def test_an_error_of_one_line_is_what_it_was():
    assert str(DeepcrZooError("one")) == "one"
    assert str(DeepcrZooError()) == ""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert DeepcrZooError("a", "b").args == ("a", "b")
