"""The package as a whole: instant import, one direction of imports, complete wheel, no pickle."""

import ast
import os
import re
import subprocess
import sys
import tomllib
import zipfile
from functools import cache
from pathlib import Path

import pytest
import yaml

import deepcr_zoo
from deepcr_zoo import locations
from deepcr_zoo.cli.demo import RECIPE, _write_visit
from deepcr_zoo.errors import OutputError
from deepcr_zoo.exposures.cleaning import clean_file
from deepcr_zoo.simulate.cameras import simulated
from deepcr_zoo.simulate.simulation import SimulatedVisit
from deepcr_zoo.zoo.recipefiles import find_recipe, read_recipe
from tests.conftest import CHECKOUT
from tests.fitsfiles import ACS, STIS, scene, science, write
from tests.registries import SMALL

PICKLE = re.compile(
    r"(?<!safetensors\.)torch\.load\b|\b(un)?pickle(d|r|s)?\b|\bc?[pP]ickle\b|joblib|\bdill\b|shelve|marshal|allow_pickle=True"
    r"|yaml\.(unsafe_|full_)?load\("
)
# a room imports from the rooms below it; rooms of one floor do not import each other
FLOORS = [
    {"cli"},
    {"training", "publishing"},
    {"bench"},
    {"dataset"},
    {"archive", "simulate", "exposures"},
    {"models"},
    {"zoo"},
    {"flat files"},
]
FACES = {"__init__", "__main__"}
ALONE = {  # packages that one place imports alone
    "huggingface_hub": "zoo.hub.",
    "astroquery": "archive.mast",
    "requests": "archive.mast",
    "urllib3": "archive.mast",
    "drizzlepac": "dataset.drizzle",
    "openvino": "models.",
    "distributed": "cli.cluster",
    "dask": "cli.cluster",
}
HEAVY = {"torch", "astropy", "scipy", "openvino", "matplotlib", "distributed", "astroquery", "drizzlepac"}
CHEAP = ["zoo", "zoo.sources", "zoo.rendering", "zoo.updates", "zoo.recipefiles", "zoo.hub.downloads", "cli.main", "errors"]
MODULES = sorted((CHECKOUT / "deepcr_zoo").rglob("*.py"))


def dotted(path):
    """Name of a module within the package: ``models``, ``dataset.stamps``; a folder's ``__init__`` is the folder."""
    parts = path.relative_to(CHECKOUT / "deepcr_zoo").with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


def imports(path, top_level_only):
    tree = ast.parse(path.read_text())
    nodes = tree.body if top_level_only else ast.walk(tree)
    found = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


@cache
def loaded_by_the_import():
    """Names of the modules that are loaded by `import deepcr_zoo`."""
    code = "import sys; before = set(sys.modules); import deepcr_zoo; print(*set(sys.modules) - before)"
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()


def test_importing_the_package_loads_neither_torch_nor_anything_that_touches_network_or_disk():
    loaded = loaded_by_the_import()
    packages = {name.partition(".")[0] for name in loaded}
    assert "deepcr_zoo" in packages
    assert not packages & {
        "torch",
        "numpy",
        "huggingface_hub",
        "pydantic",
        "yaml",
        "astropy",
        "scipy",
        "typer",
        "httpx",
        "openvino",
    }


def test_importing_the_package_is_instant():
    loaded = loaded_by_the_import()
    assert "deepcr_zoo" in loaded
    assert len(loaded) <= 120  # counted, since a time depends on what else runs; astropy alone loads more than a thousand


def test_every_public_name_can_be_had():
    for name in deepcr_zoo.__all__:
        assert getattr(deepcr_zoo, name) is not None
        assert name in dir(deepcr_zoo)
    with pytest.raises(AttributeError, match="attribute nothing"):
        _ = deepcr_zoo.nothing


def room_of(name):
    """The room of a module: its folder, or the flat files."""
    room, dot, _ = name.partition(".")
    return room if dot or (CHECKOUT / "deepcr_zoo" / room).is_dir() else "flat files"


def test_there_are_ten_rooms_and_at_most_ten_flat_files():
    rooms = {path.parent.name for path in (CHECKOUT / "deepcr_zoo").glob("*/__init__.py")}
    assert rooms == {room for floor in FLOORS for room in floor} - {"flat files"}
    assert len({path.stem for path in (CHECKOUT / "deepcr_zoo").glob("*.py")} - FACES) <= 10


@pytest.mark.parametrize("path", [path for path in MODULES if dotted(path) not in FACES], ids=dotted)
def test_imports_run_one_way(path):
    floor = {room: index for index, rooms in enumerate(FLOORS) for room in rooms}
    everything = imports(path, top_level_only=False)
    known = {dotted(path) for path in MODULES}
    ours = {name.removeprefix("deepcr_zoo.") for name in everything if name.startswith("deepcr_zoo.")} & known
    here = room_of(dotted(path))
    assert [name for name in ours if room_of(name) != here and floor[room_of(name)] <= floor[here]] == []
    assert not {f"deepcr_zoo.{name}" for name in deepcr_zoo.__all__} & everything
    for package, place in ALONE.items():
        if not dotted(path).startswith(place):
            assert not any(name.partition(".")[0] == package for name in everything)


@pytest.mark.parametrize("name", CHEAP)
def test_cheap_modules_load_nothing_heavy(name):
    code = f"import sys, deepcr_zoo.{name}; print(*sys.modules)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {module.partition(".")[0] for module in loaded} & HEAVY


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_nothing_is_unpickled_outside_of_one_module(path):
    if dotted(path) != "models.pthfiles":
        assert not PICKLE.search(path.read_text())


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_no_property_holds_a_lock_that_a_fork_would_copy(path):
    assert "functools.cached_property" not in imports(path, top_level_only=False)  # Python 3.11 locks them


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """The wheel, unpacked into a folder of its own."""
    folder = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(CHECKOUT)]
    subprocess.run(build, check=True, capture_output=True)
    (wheel,) = folder.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(folder / "site")
    return folder / "site"


def test_the_wheel_carries_the_registry_the_cards_the_seed_and_both_licences(installed):
    carried = {
        str(path.relative_to(installed / "deepcr_zoo/_data")) for path in (installed / "deepcr_zoo/_data").rglob("*.*")
    }
    for part in ("zoo", "cards", "recipes"):
        here = {
            str(path.relative_to(locations.data_root()))
            for path in (locations.data_root() / part).rglob("*.*")
            if path.is_file()
        }
        assert here <= carried
    assert "zoo/weights/LICENSE.deepCR" in carried
    assert (installed / "deepcr_zoo/_data/LICENSE").read_bytes() == (CHECKOUT / "LICENSE").read_bytes()
    assert len(list(installed.glob("*.dist-info/licenses/**/LICENSE*"))) == 2


@pytest.mark.slow
def test_the_wheel_works_without_a_checkout_and_without_a_network(installed, tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(installed), "HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "http://127.0.0.1:9"}
    code = f"import deepcr_zoo, numpy; print(deepcr_zoo.__file__); deepcr_zoo.load('{SMALL}').mask(numpy.zeros((9, 9)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(str(installed))
    done = subprocess.run(
        [sys.executable, "-m", "deepcr_zoo", "verify", "--all"], cwd=tmp_path, env=environment, capture_output=True
    )
    assert done.returncode == 0


def run_demo(*arguments):
    done = subprocess.run([sys.executable, "-m", "deepcr_zoo.cli.demo", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("reproduces its test vector") == 2
    assert done.stderr == ""
    return done.stdout, Path(done.stdout.splitlines()[-1].removeprefix("picture: "))


@pytest.mark.slow
def test_the_demo_cleans_an_exposure_says_what_it_found_and_draws_it(tmp_path):
    text, picture = run_demo(str(tmp_path), "--side", "512")
    found, hit = map(int, re.search(r"(\d+) of the (\d+) pixels that a simulated cosmic ray hit", text).groups())
    assert 0.8 < found / hit < 1
    assert "marked as cosmic ray" in text
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert len(list(tmp_path.glob("*_flc_crclean.fits"))) == 1


@pytest.mark.slow
def test_the_demo_takes_an_exposure_of_the_user_even_of_a_camera_without_a_network_of_its_own(tmp_path):
    stis = {**STIS, "BLEVCORR": "COMPLETE"}
    for name, keywords, model in (
        ("x_flt", ACS, "first choice for HST ACS/WFC"),
        ("y_flt", stis, "mask/CCD-ANY-3-16@2.0: first choice for HST STIS/CCD"),
    ):
        path = write(tmp_path / f"{name}.fits", science(scene()[0], "COUNTS"), **keywords)
        text, picture = run_demo(str(tmp_path / "out"), "--fits", str(path))
        assert model in text
        assert picture == tmp_path / "out" / f"{name}_crpreview.png"
        assert picture.read_bytes().startswith(b"\x89PNG")


def test_the_demo_replaces_no_products_of_the_user_that_were_made_otherwise(tmp_path):
    path = write(tmp_path / "x_flt.fits", science(scene()[0], "COUNTS"), **ACS)
    clean_file(path, output_dir=tmp_path, threshold=0.9)
    before = {one: one.read_bytes() for one in tmp_path.iterdir()}
    command = [sys.executable, "-m", "deepcr_zoo.cli.demo", str(tmp_path), "--fits", str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert "x_flt.fits that were made otherwise, which the demo does not replace" in " ".join(done.stderr.split())
    assert {one: one.read_bytes() for one in tmp_path.iterdir()} == before


def test_the_demo_replaces_no_exposure_of_the_name_that_it_writes(tmp_path):
    visit = SimulatedVisit(simulated(read_recipe(find_recipe(RECIPE)).instrument), "extragalactic", 1, 1, 500.0, side=128)
    exposure = _write_visit(visit, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert _write_visit(visit, tmp_path) == exposure  # the same bytes are left
    exposure.write_bytes(b"mine")
    with pytest.raises(OutputError, match="is not what the demo writes"):
        _write_visit(visit, tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == {**before, exposure: b"mine"}


def test_a_pull_request_is_tested_and_its_registry_is_checked():
    workflow = yaml.safe_load((CHECKOUT / ".github" / "workflows" / "check.yml").read_text())
    typed = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    targets = {line.split()[1] for line in typed if line.startswith("make ")}
    assert targets == {"lint", "docs", "test-all", "check"}
    assert targets <= set(re.findall(r"^([\w-]+):", (CHECKOUT / "Makefile").read_text(), re.MULTILINE))
    assert "pull_request" in workflow[True]  # YAML reads "on" so
    forms = sorted((CHECKOUT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
    assert len(forms) == 4
    for form in forms:
        assert yaml.safe_load(form.read_text())


def test_the_conda_recipe_needs_what_the_package_needs():
    recipe = yaml.safe_load((CHECKOUT / "packaging" / "recipe.yaml").read_text())
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]
    named = {"pytorch": "torch", "huggingface_hub": "huggingface-hub"}
    run = [one.replace(" ", "") for one in recipe["requirements"]["run"] if not one.startswith("python ")]
    for conda, ours in named.items():
        run = [one.replace(conda, ours) for one in run]
    assert sorted(run) == sorted(project["dependencies"])
    assert recipe["context"]["version"] == deepcr_zoo.__version__
    assert recipe["build"]["python"]["entry_points"] == [f"{name} = {call}" for name, call in project["scripts"].items()]


def test_the_workflow_covers_every_supported_python_and_three_systems():
    workflow = yaml.safe_load((CHECKOUT / ".github" / "workflows" / "check.yml").read_text())
    matrix = workflow["jobs"]["platforms"]["strategy"]["matrix"]
    supported = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["classifiers"]
    assert {f"Programming Language :: Python :: {one}" for one in matrix["python"]} == {
        one for one in supported if one.startswith("Programming Language :: Python :: 3.")
    }
    assert {name.partition("-")[0] for name in matrix["os"]} == {"ubuntu", "macos", "windows"}


def test_citation_and_tools_name_the_versions_in_use():
    assert yaml.safe_load((CHECKOUT / "CITATION.cff").read_text())["version"] == deepcr_zoo.__version__
    (ruff,) = re.findall(r"^ruff==(.*)$", (CHECKOUT / "constraints.txt").read_text(), re.MULTILINE)
    hooks = {
        repo["repo"].rpartition("/")[2]: repo
        for repo in yaml.safe_load((CHECKOUT / ".pre-commit-config.yaml").read_text())["repos"]
    }
    assert hooks["ruff-pre-commit"]["rev"] == f"v{ruff}"
