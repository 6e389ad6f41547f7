"""The promised API: docs/api.md lists exactly what each `__all__` promises, and each name is documented."""

import importlib
import inspect
import re

import pytest

import deepcr_zoo
from tests.conftest import CHECKOUT

PAGE = (CHECKOUT / "docs" / "api.md").read_text()
SECTIONS = dict(re.findall(r"^## (deepcr_zoo\S*)\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE))
ROOMS = {f"deepcr_zoo.{path.parent.name}" for path in (CHECKOUT / "deepcr_zoo").glob("*/__init__.py")}
LISTED = {module: set(re.findall(r"^\| `(\w+)`", text, re.MULTILINE)) for module, text in SECTIONS.items()}
UNCALLED = ("__version__", "plot")
PROMISED = [(module, name) for module, names in LISTED.items() for name in sorted(names) if name not in UNCALLED]


def module_of(name):
    """Rooms and flat files are modules; the plot module has a short name."""
    return deepcr_zoo.plot if name == "deepcr_zoo.plot" else importlib.import_module(name)


def test_the_page_has_a_section_for_every_room():
    assert set(SECTIONS) == {"deepcr_zoo", "deepcr_zoo.plot", "deepcr_zoo.progress", "deepcr_zoo.errors"} | ROOMS


@pytest.mark.parametrize("module", sorted(set(SECTIONS) - {"deepcr_zoo.errors"}))
def test_the_page_lists_what_all_promises(module):
    assert LISTED[module] == set(getattr(module_of(module), "__all__", []))


@pytest.mark.parametrize(("module", "name"), PROMISED)
def test_a_promised_name_can_be_imported_and_is_documented(module, name):
    promised = getattr(module_of(module), name)
    assert inspect.getdoc(promised)
    assert not inspect.ismodule(promised)
    if inspect.isfunction(promised):
        text = inspect.getdoc(promised)
        assert all(parameter in text for parameter in inspect.signature(promised).parameters)
        assert "Returns\n-------" in text


def test_no_submodule_hides_a_promised_name():
    for module, name in PROMISED:
        package = module_of(module)
        paths = getattr(package, "__path__", [])
        assert not any((CHECKOUT / "deepcr_zoo" / path / f"{name}.py").exists() for path in paths), f"{module}.{name}"


def test_every_error_has_a_sentence_and_one_base():
    errors = importlib.import_module("deepcr_zoo.errors")
    found = [one for one in vars(errors).values() if inspect.isclass(one) and one.__module__ == errors.__name__]
    assert found
    for one in found:
        assert inspect.getdoc(one)
        assert issubclass(one, (errors.DeepcrZooError, Warning))


def test_the_root_promises_what_users_type_most():
    assert set(deepcr_zoo.__all__) >= {"load", "pull", "clean", "clean_file", "list_models", "train", "resume", "deepCR"}
