"""Full disks and names that are too long: nothing half-written stays, and the error says what, where and the way out."""

from __future__ import annotations

import pytest

from tests import forks
from tests.attack.targets import visible
from tests.fitsfiles import acs_flc
from tests.registries import SMALL

pytest_plugins = ["tests.zoo.hub.fixtures"]
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

FULL = forks.Limits(largest_file=2000)
"""As a full disk: a file of more bytes ends with an error in the middle of writing."""


@pytest.mark.parametrize(
    ("name", "way_out"),
    [
        ("pull", "DEEPCR_ZOO_CACHE"),
        pytest.param("clean", "make room there, or choose another --output-dir", marks=pytest.mark.slow),
        pytest.param("build", "DEEPCR_ZOO_DATA", marks=pytest.mark.slow),
        ("train", "make room there, or name another folder with --runs"),
        ("fetch", "make room there, or name another folder with DEEPCR_ZOO_CACHE"),
        ("update", "make room there, or name another folder with DEEPCR_ZOO_DATA"),
        ("publish", "make room there, or run the command again, with another --into"),
        pytest.param("bench", "make room there, or name another folder with --output-dir", marks=pytest.mark.slow),
    ],
)
def test_a_full_disk_is_said_with_its_place_and_the_way_out(name, way_out, request, tmp_path):
    target = request.getfixturevalue(name)
    target.prepare()
    before = visible(target.folder)
    log = tmp_path / "log"
    full = forks.start(target.arguments(), log, limits=forks.Limits(largest_file=500) if name == "publish" else FULL)
    assert full.wait() != 0
    assert "Traceback" not in full.said()
    assert str(target.folder) in full.said()
    assert way_out in full.said()
    target.check()
    assert not [
        name for name, data in visible(target.folder).items() if len(data) in (500, 2000) and before.get(name) != data
    ]
    assert not list(target.folder.rglob(".*-*.part"))
    again = forks.start(target.arguments(), log)
    assert again.wait() == 0, again.said()


@pytest.mark.parametrize("command", [["pull", SMALL, "--to"], ["recipe", "new", "X", "--output"]])
def test_a_full_disk_is_said_by_commands_that_write_where_they_are_told(command, tmp_path):
    place = tmp_path / "place"
    full = forks.start([*command, place], tmp_path / "log", limits=FULL)
    assert full.wait() == 1
    assert f"{place}: cannot be written: File too large; make room there, or choose another" in full.said()
    assert not place.is_file()


@pytest.mark.parametrize("letters", [200, 236])
def test_products_of_a_file_with_a_long_name_are_written(letters, tmp_path):
    night = tmp_path / "night"
    night.mkdir()
    acs_flc(night / f"{'j' * letters}.fits", 0)
    done = forks.start(["clean", night, "--model", SMALL, "--inpaint", "medmask"], tmp_path / "log")
    assert done.wait() == 0, done.said()


def test_a_name_that_is_too_long_for_its_products_is_named_as_the_problem(tmp_path):
    night = tmp_path / "night"
    night.mkdir()
    root = "j" * 245
    acs_flc(night / f"{root}.fits", 0)
    done = forks.start(["clean", night, "--model", SMALL, "--inpaint", "medmask"], tmp_path / "log")
    assert done.wait() == 1
    assert f"the name {root}_crclean.fits has 258 bytes: shorten it" in done.said()
    assert "--output-dir" not in done.said()
