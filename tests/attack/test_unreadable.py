"""Files and folders that cannot be read: they are named, and never look empty."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from deepcr_zoo.documents import as_yaml
from deepcr_zoo.errors import InvalidDocumentError
from deepcr_zoo.zoo import sources
from deepcr_zoo.zoo.registry import read_registry
from tests import forks
from tests.dataset import repeated
from tests.registries import SMALL, copy_registry

DENIED = "Permission denied"


@contextmanager
def unreadable(path: Path) -> Iterator[None]:
    """Nobody may look into a folder, or read a file."""
    mode = path.stat().st_mode
    path.chmod(0)
    try:
        yield
    finally:
        path.chmod(mode)


def run(tmp_path: Path, *arguments: object) -> tuple[int, str]:
    """Run a command for which modes count; return its exit status and what it printed."""
    started = forks.start(arguments, tmp_path / "log", limits=forks.Limits(obeys_modes=True))
    status = started.wait()
    assert "Traceback" not in started.said()
    return status, started.said()


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The settings name another registry."""
    root, file = copy_registry(tmp_path / "keck"), tmp_path / "home" / "deepcr-zoo" / "config.yaml"
    file.parent.mkdir(parents=True)
    file.write_text(f"registries: {{keck: {{root: {root}}}}}\n")
    monkeypatch.delenv("DEEPCR_ZOO_CONFIG", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "home"))
    return file


@pytest.fixture
def mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A mirror of a small network, and an empty cache."""
    sources.pull(SMALL, to=tmp_path / "all" / "mirror")
    monkeypatch.setenv("DEEPCR_ZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "all" / "mirror"


@pytest.mark.parametrize("place", ["../mirror", "mask", f"{SMALL}/1.0", f"{SMALL}/1.0/model.safetensors", ".."])
def test_a_mirror_that_cannot_be_read_is_named_and_others_supply_the_model(place, mirror, tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPCR_ZOO_MIRROR", str(mirror))
    with unreadable(mirror / place):
        status, said = run(tmp_path, "verify", SMALL)
        assert status == 0
        assert "reproduces" in said
        assert "warning" in said
        assert "cannot be read" in said
        status, said = run(tmp_path, "verify", SMALL, "--from", mirror)
        assert status == 1
        assert str(mirror) in said
        assert "cannot be read" in said


@pytest.mark.parametrize("place", ["", "zoo", "zoo/mask", f"zoo/{SMALL}.yaml", "cards", f"cards/{SMALL}"])
def test_a_registry_that_cannot_be_read_is_left_out_and_named_and_never_looks_empty(place, settings, tmp_path):
    with unreadable(tmp_path / "keck" / place):
        status, said = run(tmp_path, "list", "*-2-4")
        assert status == 0
        assert SMALL in said
        assert "keck:" not in said
        assert place in said
        assert f": cannot be read: {DENIED}" in said
        status, said = run(tmp_path, "check", tmp_path / "keck")
        assert status != 0
        assert DENIED in said or "is not readable" in said


def test_settings_that_cannot_be_read_are_left_out_unless_they_are_named(settings, tmp_path, monkeypatch):
    for place in (settings, settings.parent, settings.parents[1]):
        with unreadable(place):
            status, said = run(tmp_path, "list", "*-2-4")
            assert status == 0
            assert f"warning the settings are not used: {settings}: cannot be read: {DENIED}" in said
            monkeypatch.setenv("DEEPCR_ZOO_CONFIG", str(settings))
            status, said = run(tmp_path, "list", "*-2-4")
            assert status == 1
            assert "cannot be read" in said
            monkeypatch.delenv("DEEPCR_ZOO_CONFIG")


def test_an_update_that_cannot_be_read_is_named_and_the_shipped_registry_is_used(tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPCR_ZOO_DATA", str(tmp_path / "data"))
    (tmp_path / "data" / "registry").mkdir(parents=True)
    (tmp_path / "data" / "registry" / "current.json").write_text("{}")
    for place in (tmp_path / "data" / "registry" / "current.json", tmp_path / "data"):
        with unreadable(place):
            status, said = run(tmp_path, "list", "*-2-4")
            assert status == 0
            assert f"current.json cannot be read: {DENIED}" in said


def exposures(tmp_path: Path) -> Sequence[object]:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_bytes(as_yaml(repeated.recipe_of()))
    return ["build", recipe, "--jobs", 1, "--data", tmp_path / "night"]


def test_exposures_and_runs_that_cannot_be_read_are_named(tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPCR_ZOO_DATA", str(tmp_path / "data"))
    inner = tmp_path / "night" / "visit"
    inner.mkdir(parents=True)
    commands: list[tuple[Path, Sequence[object]]] = [
        (inner.parent, exposures(tmp_path)),
        (inner, exposures(tmp_path)),
        (inner, ["clean", inner]),
        (inner, ["train", "--resume", inner]),
        (inner, ["bench", inner]),
        (inner, ["publish", inner, "--dry-run"]),
        (tmp_path / "recipe.yaml", ["recipe", "check", tmp_path / "recipe.yaml"]),
        (inner, ["recipe", "check", inner / "recipe.yaml"]),
        (inner, ["fetch", "--manifest", inner / "manifest.json"]),
    ]
    for place, command in commands:
        with unreadable(place):
            status, said = run(tmp_path, *command)
            assert status, command
            assert str(place) in said, command
            assert DENIED in said or "is not readable" in said, (command, said)


def test_wildcards_pass_over_no_folder_that_cannot_be_read(tmp_path):
    for night in "ab":
        (tmp_path / night / "raw").mkdir(parents=True)
        (tmp_path / night / "raw" / f"{night}.fits").touch()
    for place, pattern in (("b/raw", "*/raw/*.fits"), ("b/raw", "**/*.fits"), ("b", "*/*/*.fits"), ("b", "b/*/*.fits")):
        with unreadable(tmp_path / place):
            status, said = run(tmp_path, "clean", tmp_path / pattern)
        assert status, pattern
        assert f"{place} cannot be read: {DENIED}" in said.replace("/ cannot", " cannot"), pattern


def test_modes_count_in_these_tests(tmp_path):
    with unreadable(tmp_path):
        child = os.fork()
        if child == 0:
            forks.Limits(obeys_modes=True).impose()
            try:
                os.listdir(tmp_path)
            except PermissionError:
                os._exit(0)
            os._exit(1)
        assert os.waitpid(child, 0)[1] == 0


def test_a_ranking_that_is_no_file_is_named(tmp_path):
    root = copy_registry(tmp_path)
    ranking = root / "zoo" / "preferences.yaml"
    ranking.unlink(missing_ok=True)
    os.mkfifo(ranking)
    with pytest.raises(InvalidDocumentError, match=r"preferences\.yaml.*pipe"):
        read_registry(root)
