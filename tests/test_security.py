"""SECURITY.md and tests/attack/ name the same threats."""

import re

from tests.conftest import CHECKOUT

PAGE = (CHECKOUT / "SECURITY.md").read_text()
ROWS = [line for line in PAGE.splitlines() if line.startswith("| **")]


def test_each_threat_has_one_file_that_attacks_and_each_such_file_has_one_threat():
    attacks = [re.findall(r"\]\(tests/attack/(\w+\.py)\)", row) for row in ROWS]
    assert all(len(one) == 1 for one in attacks)
    assert sorted(name for (name,) in attacks) == sorted(path.name for path in (CHECKOUT / "tests/attack").glob("test_*.py"))


def test_the_modules_that_the_checks_name_exist():
    named = {name for row in ROWS for name in re.findall(r"`([\w/]+(?:\.py|/))`", row)}
    assert named
    assert [name for name in sorted(named) if not (CHECKOUT / "deepcr_zoo" / name).exists()] == []
