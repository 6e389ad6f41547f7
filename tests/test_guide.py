"""The guide holds every page and every promised name; ``make docs`` builds it and runs its examples."""

import re

import pytest

from tests.conftest import CHECKOUT
from tests.test_api import LISTED, module_of

DOCS = CHECKOUT / "docs"
SECTIONS = ("use", "bring", "prove", "lookup", "develop")
NOT_PAGES = {DOCS / "index.md", *(DOCS / f"{name}.md" for name in SECTIONS), *(DOCS / "decisions").glob("2*.md")}


def entries(section):
    (listed,) = re.findall(r"```{toctree}\n(?::.*\n)*\n(.*?)```", (DOCS / f"{section}.md").read_text(), re.DOTALL)
    return [(DOCS / f"{name}.md").resolve() for name in listed.split() if not name.startswith("gallery")]


def test_every_page_stands_in_one_section():
    found = [path for section in SECTIONS for path in entries(section)]
    assert len(found) == len(set(found))
    assert {path for path in DOCS.rglob("*.md") if "gallery" not in path.parts} - NOT_PAGES <= set(found)
    for name in (
        "benchmarks/README.md",
        "cards/README.md",
        "recipes/README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "SECURITY.md",
    ):
        assert CHECKOUT / name in found


@pytest.mark.parametrize("module", sorted(set(LISTED) - {"deepcr_zoo.errors"}))
def test_the_reference_has_every_promised_name(module):
    shown = re.findall(r"^\.\. auto(?:class|function):: (\S+)\.(\w+)$", (DOCS / "reference.md").read_text(), re.MULTILINE)
    objects = [getattr(module_of("deepcr_zoo.plot" if place.endswith(".plot") else place), name) for place, name in shown]
    for name in LISTED[module] - {"__version__", "plot"}:
        assert any(getattr(module_of(module), name) is one for one in objects), name


def test_the_reference_has_every_error():
    classes = re.findall(r"^class (\w+)\(", (CHECKOUT / "deepcr_zoo" / "errors.py").read_text(), re.MULTILINE)
    assert classes == re.findall(r":: deepcr_zoo\.errors\.(\w+)$", (DOCS / "reference.md").read_text(), re.MULTILINE)
