"""Settings, options and names as users mistype them: one sentence, and exit code 1 or 2, never a traceback."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import deepcr_zoo
from deepcr_zoo import batch, locations
from deepcr_zoo.cli.main import _check_surroundings
from deepcr_zoo.errors import DeepcrZooError, HubUnreachableError, InvalidFileError, SourceError, UsageError
from deepcr_zoo.exposures.options import CleanOptions
from deepcr_zoo.exposures.reading import read_exposure
from deepcr_zoo.zoo import sources
from deepcr_zoo.zoo.hub import connection
from deepcr_zoo.zoo.registries import default_registry
from deepcr_zoo.zoo.registry import WEIGHTS_FILE
from tests.fitsfiles import acs_flc
from tests.registries import SMALL

LONG = "y" * 300
NOBODY = "~nosuchuser/x"
MODEL = default_registry().resolve(SMALL)


def test_the_command_line_answers_wrong_settings_in_one_sentence(tmp_path):
    wrong = {"SOURCE_DATE_EPOCH": "inf", "HF_ENDPOINT": "http://[::1", "DEEPCR_ZOO_DATA": NOBODY, "DEEPCR_ZOO_CONFIG": LONG}
    for name, value in wrong.items():
        command = [sys.executable, "-m", "deepcr_zoo", *(["update"] if name == "HF_ENDPOINT" else ["list"])]
        done = subprocess.run(
            command, capture_output=True, text=True, env=os.environ | {name: value}, timeout=120, cwd=tmp_path, check=False
        )
        assert done.returncode in (1, 2)
        assert done.stderr.startswith("error "), name
        assert len(done.stderr.splitlines()) == 1


def test_an_empty_moment_of_writing_is_none(tmp_path):
    command = [sys.executable, "-m", "deepcr_zoo", "clean", str(acs_flc(tmp_path / "x_flc.fits")), "--model", SMALL]
    done = subprocess.run(command, env=os.environ | {"SOURCE_DATE_EPOCH": ""}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "x_flc_crclean.fits").is_file()


def test_a_present_folder_that_was_removed_is_named(tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    code = (
        "import os, sys; os.rmdir(os.getcwd()); sys.argv = ['deepcr-zoo', 'list']; import deepcr_zoo.cli.main as m; m.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=gone, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr.splitlines()) == (
        2,
        ["error the present folder was removed: change to one that exists"],
    )


@pytest.mark.slow
def test_a_name_that_the_locale_cannot_write_loses_that_file_alone(tmp_path):
    acs_flc(tmp_path / "\N{LATIN SMALL LETTER A WITH DIAERESIS}_flc.fits")
    acs_flc(tmp_path / "b_flc.fits")
    plain = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    command = [sys.executable, "-m", "deepcr_zoo", "clean", str(tmp_path), "--model", SMALL]
    done = subprocess.run(command, env=plain, capture_output=True, check=False)
    assert done.returncode in (0, 1)
    assert b"report this" not in done.stderr
    assert (tmp_path / "b_flc_crclean.fits").is_file()


@pytest.mark.parametrize("name", ["DEEPCR_ZOO_CACHE", "DEEPCR_ZOO_DATA", "DEEPCR_ZOO_CONFIG", "DEEPCR_ZOO_MIRROR"])
def test_a_folder_of_an_unknown_user_is_named(name, monkeypatch):
    monkeypatch.setenv(name, NOBODY)
    roots = [locations.cache_root, locations.user_data_root, locations.configuration_file, locations.mirror_root]
    with pytest.raises(UsageError, match="~nosuchuser/x: no such user's home folder"):
        [root() for root in roots]


@pytest.mark.parametrize("seconds", ["inf", "nan", "-1", "0", "1e300", "x", ""])
def test_a_waiting_time_that_cannot_be_waited_is_refused(seconds, monkeypatch):
    monkeypatch.setenv("DEEPCR_ZOO_HUB_TIMEOUT", seconds)
    with pytest.raises(UsageError, match=r"DEEPCR_ZOO_HUB_TIMEOUT is .*: expected a number of seconds, at most 3600"):
        connection.patience()


@pytest.mark.parametrize("address", ["http://[::1", "http://127.0.0.1:99999999", "x", "http://", "ftp://x", "file:///x"])
def test_an_address_of_the_hub_that_is_none_is_refused(address, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", address)
    with pytest.raises(HubUnreachableError, match=r"HF_ENDPOINT is .*: expected an address, https://HOST"):
        connection.client()


def test_a_password_in_a_malformed_address_is_not_shown(monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", "http://user:secret@[::1")
    with pytest.raises(HubUnreachableError) as raised:
        connection.client()
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("mirror", "error"),
    [
        (LONG, SourceError),
        (NOBODY, UsageError),
        ("file://[::1/x", UsageError),
        ("file:///%00", SourceError),
        ("x\0y", SourceError),
    ],
)
def test_a_mirror_that_cannot_be_a_folder_is_named(mirror, error):
    with pytest.raises(error):
        sources.fetch(MODEL, WEIGHTS_FILE, mirror=mirror)


def test_a_mirror_of_the_environment_that_cannot_be_a_folder_is_a_warning(monkeypatch):
    monkeypatch.setenv("DEEPCR_ZOO_MIRROR", LONG)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert sources.fetch(MODEL, WEIGHTS_FILE).source == "seed"
    assert str(caught[0].message).startswith(f"DEEPCR_ZOO_MIRROR: {LONG} is not a folder")


@pytest.mark.parametrize(
    "options",
    [
        {"grow": 10**9},
        {"grow": 10**30},
        {"grow": -1},
        {"threshold": float("nan")},
        {"gain": "1e300"},
        {"gain": "1e400"},
        {"gain": "nan"},
        {"gain": "²"},
        {"bias": 1e300},
        {"bias": "inf"},
        {"exposure_time": float("inf")},
        {"ignore_dq": "9" * 5000},
        {"ignore_dq": "²"},
    ],
    ids=str,
)
def test_options_that_no_exposure_can_need_are_refused(options):
    with pytest.raises(UsageError, match="expected"):
        CleanOptions(**options).check()


@pytest.mark.parametrize(
    "wish", ["²", "SCI,²", "9" * 5000, "SCI," + "9" * 5000, "[", "y" * 10_000], ids=lambda wish: wish[:9]
)
def test_an_extension_that_is_none_is_named(wish, tmp_path):
    path = acs_flc(tmp_path / "x_flc.fits")
    options = CleanOptions(extension=wish)
    with pytest.raises(InvalidFileError, match="has no extension"):
        read_exposure(path, options.reading)


def test_a_list_with_a_nul_loses_that_file_alone(tmp_path):
    listed = tmp_path / "list.txt"
    listed.write_bytes(b"a.fits\nb\0.fits\n" + LONG.encode() + b".fits\nc.fits\n")
    request = batch.expand([f"@{listed}"])
    assert request.paths == ["a.fits", f"{LONG}.fits", "c.fits"]
    assert request.empty == {"b\0.fits": "no file can have this name"}


@pytest.mark.parametrize(
    "make", [os.mkfifo, lambda path: path.symlink_to("/dev/zero"), Path.mkdir], ids=["pipe", "zero", "folder"]
)
def test_a_list_that_is_no_file_is_refused_at_once(make, tmp_path):
    make(tmp_path / "list.txt")
    with pytest.raises(UsageError, match=r"the list cannot be read: is a (pipe|folder)|is a link that leads out"):
        batch.expand([f"@{tmp_path / 'list.txt'}"])


WRONG_TYPES = [
    *({name: "no"} for name in ("overwrite", "dq_only", "prob", "preview", "allow_synthetic")),
    *({name: None} for name in ("model", "inpaint", "device", "engine")),
    *({name: "2"} for name in ("threshold", "fpr", "exposure_time", "grow")),
    *({"threshold": True}, {"grow": 1.5}, {"grow": True}, {"unit": 5}, {"output_dir": 5}, {"output_dir": b"x"}),
]


@pytest.mark.parametrize("options", WRONG_TYPES, ids=str)
def test_an_option_of_a_wrong_type_is_one_sentence(options):
    with pytest.raises(UsageError, match=f"^{next(iter(options))} is "):
        CleanOptions(**options).check()


def test_scalars_of_numpy_are_numbers_and_switches():
    options = CleanOptions(
        grow=np.int64(1), gain=np.float32(2), bias=np.float32(3), extension=np.int64(1), exposure_time=np.float32(3),
        threshold=np.float32(0.5), overwrite=np.bool_(True), ignore_dq=np.int16(16),
    )  # fmt: skip
    options.check()
    assert options == CleanOptions(
        grow=1, gain=2.0, bias=3.0, extension=1, exposure_time=3.0, threshold=0.5, overwrite=True, ignore_dq=16
    )
    assert type(options.overwrite) is bool


@pytest.mark.parametrize("call", [deepcr_zoo.load, deepcr_zoo.pull, deepcr_zoo.list_models])
@pytest.mark.parametrize("given", [None, 5, ["a"]])
def test_what_is_no_name_is_refused_in_one_sentence(call, given):
    with pytest.raises(DeepcrZooError, match=r"is (NoneType|int|list): expected"):
        call(given)


def test_a_folder_with_a_nul_is_refused(tmp_path):
    with pytest.raises(UsageError, match="holds no NUL"):
        deepcr_zoo.pull(SMALL, to="a\0b")
    with pytest.raises(UsageError, match="holds no NUL"):
        deepcr_zoo.clean_file(acs_flc(tmp_path / "x_flc.fits"), output_dir="a\0b")


def test_a_model_may_be_the_path_of_a_run(tmp_path):
    assert CleanOptions(model=tmp_path / "run").model == str(tmp_path / "run")


def test_a_user_without_a_home_folder_is_told_to_name_one(monkeypatch):
    def unknown(number):
        raise KeyError(number)

    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr("pwd.getpwuid", unknown)  # as in a container that runs as any number
    with pytest.raises(UsageError, match=r"this user has no home folder.*: set HOME to a folder"):
        _check_surroundings()
