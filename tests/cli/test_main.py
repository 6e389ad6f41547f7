import gzip
import json
import logging
import os
import re
import signal
import subprocess
import sys
import warnings
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

import pytest
from astropy.io import fits

from deepcr_zoo._version import __version__
from deepcr_zoo.cli import console
from deepcr_zoo.cli.main import main
from deepcr_zoo.zoo.registries import default_registry
from tests.conftest import ALL_MODELS, CHECKOUT
from tests.fitsfiles import DECAM, acs_flc, scene, write
from tests.processes import start
from tests.registries import SMALL


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    """No command may depend on where it is given, or leave anything in the checkout."""
    monkeypatch.chdir(tmp_path)


def run(*arguments, columns=100):
    """Run the command in this process, with what it prints and its exit code."""
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as out, redirect_stderr(StringIO()) as errors:
        patch.setattr(sys, "argv", ["deepcr-zoo", *arguments])
        patch.setenv("COLUMNS", str(columns))
        patch.setattr(console.output, "width", columns)
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
    return subprocess.CompletedProcess(arguments, code, out.getvalue(), errors.getvalue())


def is_one_sentence_without_traceback(text):
    return "Traceback" not in text and text.startswith("error ")


def test_list_shows_every_model_and_its_aliases():
    done = run("list")
    assert done.returncode == 0
    for entry in default_registry().find():
        assert entry.reference in done.stdout
    assert "alias decam" in done.stdout
    assert "1.0 (default)" in done.stdout


def test_list_takes_wildcards_and_prints_json():
    done = run("list", "inpaint/*", "--json")
    entries = json.loads(done.stdout)
    assert [entry["name"] for entry in entries] == ["ACS-WFC-F606W-2-32", "ACS-WFC-F606W-3-32", "CCD-ANY-3-16"]
    assert entries[0]["hub_repository"] == "deepcr-zoo/inpaint-ACS-WFC-F606W-2-32"
    assert entries[0]["versions"]["1.0"]["weights"]["size"] == 413124


def test_list_of_nothing_is_wrong_usage():
    done = run("list", "xyz*")
    assert done.returncode == 2
    assert is_one_sentence_without_traceback(done.stderr)


def test_info_shows_the_card_and_says_what_was_chosen():
    done = run("info", "ACS-WFC-F606W-2-32")
    assert done.returncode == 0
    assert "ACS-WFC-F606W-2-32 -> mask/ACS-WFC-F606W-2-32@1.0" in done.stderr
    assert "version 1.0 is the default (there is also 2.0)" in done.stderr
    for text in ("electron (divided by 100 inside)", "10.3847/1538-4357/ab3fa6", "BSD-3-Clause", "98.7"):
        assert text in done.stdout


def test_info_prints_json():
    card = json.loads(run("info", "decam", "--json").stdout)
    assert card["input"]["unit"] == "adu"
    assert card["locked"]["warning"].startswith("preliminary")


def test_pull_prints_the_verified_path_alone_on_stdout():
    done = run("pull", "ACS-WFC-F606W-2-32")
    assert done.returncode == 0
    path = done.stdout.strip()
    assert path.endswith("zoo/weights/mask/ACS-WFC-F606W-2-32/1.0/model.safetensors")
    assert default_registry().resolve("ACS-WFC-F606W-2-32").locked.weights.mismatch(Path(path).read_bytes()) is None
    assert "mask/ACS-WFC-F606W-2-32@1.0: sha256 and size verified, from the seed" in done.stderr


def test_pull_all_to_a_mirror_and_from_it_again(tmp_path):
    done = run("pull", "--all", "--to", str(tmp_path), "--json")
    assert [row["model"] for row in json.loads(done.stdout)] == ALL_MODELS
    again = run("pull", "--all", "--from", f"file://{tmp_path}", "--json")
    assert {row["source"] for row in json.loads(again.stdout)} == {"mirror"}
    assert {row["source"] for row in json.loads(run("pull", "--all", "--json").stdout)} == {"cache"}


def test_one_bad_name_does_not_stop_the_others_and_is_named():
    done = run("pull", SMALL, "ACS-WFC-F606W-2-5", "decam")
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 2
    assert "did you mean" in done.stderr
    assert "1 of 3 failed: ACS-WFC-F606W-2-5" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("pull",), "name one model or more, or give --all"),
        (("pull", SMALL, "--all"), "name one model or more, or give --all"),
        (("pull", SMALL, "--source", "ftp"), "--source ftp: expected one of cache, mirror, seed, hub"),
        (("pull", SMALL, "--source", "mirror"), "or set DEEPCR_ZOO_MIRROR"),
        (("pull", SMALL, "--sauce", "hub"), "No such option"),
        (("convert", "--card", str(CHECKOUT / "README.md")), "--card makes one new model"),
        (("verify", SMALL, "--device", "tpu"), "device 'tpu' does not exist here"),
        (("verify", SMALL, "--source", "mirror"), "or set DEEPCR_ZOO_MIRROR"),
        (("convert", "--card", "nowhere.yaml"), "does not exist"),
    ],
)
def test_wrong_usage_ends_with_2_and_a_sentence(arguments, message, tmp_path):
    done = run(*arguments)
    assert done.returncode == 2
    assert message in re.sub(r"[\s│]+", " ", done.stderr)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "arguments", [("info", "nothing"), ("pull", "a b"), ("verify", "x@1.2.3"), ("pull", SMALL, "--source", "hub")]
)
def test_a_model_that_cannot_be_had_ends_with_1_and_a_sentence(arguments):
    done = run(*arguments)
    assert done.returncode == 1
    assert is_one_sentence_without_traceback(done.stderr.split("\n", 1)[-1] if "->" in done.stderr else done.stderr)


def test_verify_shows_the_verdict_of_each_model():
    done = run("verify", "decam", "inpaint/ACS-WFC-F606W-2-32@1")
    assert done.returncode == 0
    assert done.stdout.count("reproduces") == 2
    assert done.stderr.count("preliminary") == 1
    rows = json.loads(run("verify", SMALL, "--json").stdout)
    assert rows[0]["verdict"] == "reproduces"
    assert rows[0]["flipped_pixels"] == 0


def test_verify_shows_the_verdicts_that_it_has_when_one_name_is_wrong():
    done = run("verify", SMALL, "nope")
    assert done.returncode == 1
    assert "reproduces" in done.stdout
    assert "1 of 2 failed: nope" in done.stderr


@pytest.mark.parametrize("command", ["info", "pull", "verify", "convert"])
def test_the_help_shows_the_grammar_of_names(command):
    assert "[mask/|inpaint/]NAME[@VERSION]" in " ".join(run(command, "--help").stdout.split())


@pytest.mark.parametrize("columns", [30, 80])
def test_numbers_in_a_table_stay_whole_in_a_narrow_terminal(columns, monkeypatch, capsys):
    numbers = [f"{3860 + index}" for index in range(12)]
    columns_of_numbers = [console.whole(f"many stamps {index}") for index in range(12)]
    monkeypatch.setattr(console.output, "width", columns)
    console.print_table(["split", "field type", *columns_of_numbers], [("train", "extragalactic " * 5, *numbers)])
    words = capsys.readouterr().out.split()
    assert [word for word in words if word.isdigit() and len(word) == 4] == numbers


def test_a_narrow_terminal_still_shows_verdicts_and_aliases():
    assert "reproduces" in run("verify", SMALL, columns=60).stdout
    listed = "".join(run("list", "ACS-WFC-F606W", columns=60).stdout.split())
    assert "aliasACS-WFC-F606W(=2.0)" in listed


@pytest.mark.parametrize("name", ["[/x]", "a[red]b"])
def test_brackets_in_a_name_are_shown_as_they_are(name):
    done = run("pull", name)
    assert done.returncode == 1
    assert f"1 of 1 failed: {name}" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_reader_that_closes_the_pipe_gets_no_traceback():
    command = f"{sys.executable} -m deepcr_zoo list --json | head -1"
    done = subprocess.run(command, shell=True, capture_output=True, text=True)
    assert done.stdout == "[\n"
    assert "Traceback" not in done.stderr
    assert "BrokenPipe" not in done.stderr


@pytest.mark.parametrize("sdists", ["a-file", "a-file/below"])
def test_convert_refuses_a_folder_of_releases_that_is_none(sdists):
    Path("a-file").write_text("")
    done = run("convert", SMALL, "--sdists", sdists)
    assert done.returncode == 1
    assert f"{sdists}/deepCR-0.3.1.tar.gz: cannot be read: Not a directory" in done.stderr
    assert "Traceback" not in done.stderr


def test_verify_fails_with_1_when_a_copy_is_bad(tmp_path):
    run("pull", SMALL, "--to", str(tmp_path))
    weights = tmp_path / SMALL / "1.0" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[::-1])
    done = run("verify", SMALL, "--source", "mirror", "--from", str(tmp_path))
    assert done.returncode == 1
    assert "fails" in done.stdout
    assert "is not what the registry locked" in done.stderr


@pytest.mark.network
def test_convert_compares_with_the_registry(upstream_sdists, tmp_path):
    done = run("convert", SMALL, "--sdists", str(upstream_sdists), "--to", str(tmp_path))
    assert done.stdout == f"{SMALL}@1.0: matches the registry\n"
    assert (tmp_path / SMALL / "1.0" / "model.safetensors").is_file()


def test_convert_refuses_an_upstream_release_with_another_hash(tmp_path):
    (tmp_path / "deepCR-0.3.1.tar.gz").write_bytes(b"not the release")
    done = run("convert", SMALL, "--sdists", str(tmp_path))
    assert done.returncode == 1
    assert "expected sha256 ae38876514e8a44e5e96ee7edf6609a4baf25bc5c442363628b162d46f982e94" in done.stderr


def test_the_version_is_printed_by_a_process_of_its_own():
    done = subprocess.run([sys.executable, "-m", "deepcr_zoo", "--version"], capture_output=True, text=True)
    assert done.stdout.strip() == __version__


def test_a_start_file_of_a_shell_that_is_no_utf8_stays_as_it_is(tmp_path):
    start = tmp_path / ".bashrc"
    start.write_bytes(b"# M\xfcller\n")
    command = [sys.executable, "-m", "deepcr_zoo", "--install-completion", "bash"]
    told = {"HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}  # the shell is the one named
    done = subprocess.run(command, env={**os.environ, **told}, capture_output=True, text=True)
    assert done.returncode == 1
    assert "is no UTF-8, and stays as it is" in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert start.read_bytes() == b"# M\xfcller\n"


def test_a_command_changes_neither_warnings_nor_log_handlers_for_good():
    logger = logging.getLogger("deepcr_zoo")
    before = warnings.showwarning, list(warnings.filters), list(logger.handlers), logger.level
    assert run("list").returncode == 0
    assert (warnings.showwarning, list(warnings.filters), list(logger.handlers), logger.level) == before


def test_without_a_command_the_help_is_shown():
    done = run()
    assert "Usage" in done.stdout + done.stderr
    for command in ("list", "info", "pull", "verify", "convert"):
        assert command in done.stdout + done.stderr


def test_commands_that_run_no_network_do_not_import_torch():
    code = "import sys, deepcr_zoo.cli.main as c; c.app(['list'], standalone_mode=False); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


# clean


@pytest.fixture
def night(tmp_path):
    """Two good exposures and one that is none."""
    acs_flc(tmp_path / "a_flc.fits")
    acs_flc(tmp_path / "b_flc.fits", seed=2)
    (tmp_path / "c_flc.fits").write_text("no FITS file")
    return tmp_path


def test_clean_chooses_a_model_says_why_and_sums_up(night):
    done = run("clean", "a_flc.fits", "b_flc.fits", columns=200)
    assert done.returncode == 0
    assert "chosen mask/ACS-WFC-2-32@1.0: first choice for HST ACS/WFC F606W" in done.stderr
    assert "chosen inpainting: inpaint/ACS-WFC-F606W-2-32@1.0, first choice" in done.stderr
    assert done.stderr.count("threshold 0.5: the card's") == 1
    assert re.search(r"cleaned a_flc\.fits: \d\.\d\d% masked, ", done.stderr)
    assert "advice run AstroDrizzle with resetbits=0" in done.stderr
    assert re.search(r"a_flc\.fits +cleaned +\d+ +\d\.\d\d +\d+\.\d\d", done.stdout)
    assert (night / "b_flc_crclean.fits").exists()


def test_clean_goes_on_after_a_failure_names_it_and_ends_with_1(night):
    done = run("clean", ".", "--model", SMALL, "--jobs", "1", "--json")
    assert done.returncode == 1
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(line["path"], line["status"]) for line in lines] == [
        ("a_flc.fits", "cleaned"),
        ("b_flc.fits", "cleaned"),
        ("c_flc.fits", "failed"),
    ]
    assert lines[2]["error"] == ("c_flc.fits: is a text, not a FITS file: expected SIMPLE as its first keyword")
    assert lines[0]["error"] is None
    assert {"pixels", "fraction", "rate", "seconds"} <= lines[0].keys() == lines[2].keys()
    assert "1 of 3 failed: c_flc.fits" in done.stderr
    assert "Traceback" not in done.stderr
    again = run("clean", "*_flc.fits", "--model", SMALL, "--json")
    assert [json.loads(line)["status"] for line in again.stdout.splitlines()] == ["finished", "finished", "failed"]


def test_clean_warns_of_a_model_for_another_instrument_once(night):
    done = run("clean", "a_flc.fits", "--model", "WFC3-UVIS-2-32", "--inpaint", "none")
    assert done.returncode == 0
    assert done.stderr.count("was made for HST WFC3/UVIS, this is HST ACS/WFC F606W") == 1


@pytest.mark.parametrize(
    ("arguments", "message", "code"),
    [
        (("c_flc.fits",), "c_flc.fits: is a text, not a FITS file", 1),
        (("a_flc.fits[1]",), "a_flc.fits[1]: give the file and --extension 1", 1),
        (("gone.fits",), "gone.fits: cannot be read: No such file or directory", 1),
        (("a_flc.fits", "--fpr", "0.005"), "--allow-synthetic accepts those from synthetic data", 1),
        (("a_flc.fits", "--model", "WFC3-UVIS-2-32", "--fpr", "0.005"), "it has none yet: give --threshold instead", 1),
        (("a_flc.fits", "--model", "ACS-WFC-2-31"), "did you mean", 1),
        (("a_flc.fits", "--inpaint", "medmsk"), "also expected here: auto, none, medmask, biharmonic", 1),
        (("a_flc.fits", "--device", "gpu"), "device 'gpu' does not exist here", 2),
        (("a_flc.fits", "--threshold", "1.5"), "expected a probability between 0 and 1", 2),
        (("a_flc.fits", "--threshold", "0.5", "--fpr", "0.1"), "expected one of the two", 2),
        (("a_flc.fits", "--jobs", "0"), "jobs is 0", 2),
        (("*.fit",), "*.fit: nothing matches", 1),
        (("@gone.txt",), "the list cannot be read", 2),
        ((), "Missing argument", 2),
    ],
)
def test_clean_refuses_in_one_sentence(arguments, message, code, night):
    before = sorted(path.name for path in night.iterdir())
    done = run("clean", *arguments)
    assert done.returncode == code
    assert message in re.sub(r"[\s│]+", " ", done.stderr)
    assert "Traceback" not in done.stderr
    assert sorted(path.name for path in night.iterdir()) == before


def test_clean_skips_what_is_no_exposure_in_a_folder_but_not_what_is_named(night):
    acs_flc(night / "a_drc.fits")
    acs_flc(night / "a_asn.fits")
    (night / "c_flc.fits").unlink()
    done = run("clean", ".", "--model", SMALL)
    assert done.returncode == 0
    assert "skipped a_asn.fits: is no single exposure (association table)" in done.stderr
    assert "skipped a_drc.fits: is no single exposure (drizzled image)" in done.stderr
    assert "error a_drc.fits" in (named := run("clean", "a_drc.fits", "--model", SMALL)).stderr
    assert named.returncode == 1


def test_clean_names_files_in_a_folder_that_it_leaves_out(night):
    (night / "a_flc.fits").rename(night / "a_flc.fits.Z")
    (night / "c_flc.fits").rename(night / "c_flc.fits.html")
    done = run("clean", ".", "--model", SMALL)
    assert done.returncode == 0
    left_out = "left out .: 2 files left out, not FITS by their names: a_flc.fits.Z, c_flc.fits.html; unpack or rename them"
    assert done.stderr.count(left_out) == 1


def test_clean_goes_on_where_two_files_would_become_the_same_products(night):
    (night / "a_flc.fits.gz").write_bytes(gzip.compress((night / "a_flc.fits").read_bytes()))
    done = run("clean", "a_flc.fits", "a_flc.fits.gz", "./a_flc.fits", "b_flc.fits", "--model", SMALL, "nothing*")
    assert done.returncode == 1
    assert "error a_flc.fits.gz: would become the same products as a_flc.fits" in done.stderr
    assert "error nothing*: nothing matches" in done.stderr
    assert "2 of 4 failed" in done.stderr
    assert (night / "b_flc_crmask.fits").exists()


def test_clean_goes_on_where_an_option_does_not_suit_one_of_the_files(night):
    write(night / "d_ooi.fits", fits.ImageHDU(scene()[0], name="S29"), **DECAM, GAINA=4.0)
    done = run("clean", "d_ooi.fits", "a_flc.fits", "--dq-only")
    assert done.returncode == 1
    assert "error d_ooi.fits: the DQ of DECam g is not known to hold bits" in done.stderr
    assert (night / "a_flc_crclean.fits").exists()
    done = run("clean", "d_ooi.fits", "a_flc.fits", "--inpaint", "ACS-WFC-F606W-2-32", "--output-dir", "out")
    assert done.returncode == 1
    assert "error d_ooi.fits: inpaint/ACS-WFC-F606W-2-32@1.0 takes electron, the mask model adu" in done.stderr
    assert (night / "out" / "a_flc_crclean.fits").exists()


@pytest.mark.slow
def test_clean_can_be_interrupted_and_leaves_nothing_half_written(night):
    for index in range(30):
        acs_flc(night / f"{index:02}_flc.fits", shape=(256, 256))
    command = [sys.executable, "-m", "deepcr_zoo", "clean", str(night), "--output-dir", "out", "--jobs", "2", "--json"]
    process = start(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert process.stdout is not None
    process.stdout.readline()
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert "warning waiting for the files that are being worked on; interrupt again to stop at once" in errors
    assert "interrupted the same command goes on where this one ended" in errors
    written = sorted(os.listdir(night / "out"))
    assert 2 <= len(written) < 60
    assert not [name for name in written if name.startswith(".")]
