"""The package as a whole: instant import, one direction of imports, complete wheel, no pickle."""

import ast
import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
import yaml

import deepcr_zoo
from deepcr_zoo import paths
from tests.conftest import CHECKOUT
from tests.exposures import ACS, STIS, scene, science, write
from tests.registries import SMALL

PICKLE = re.compile(
    r"(?<!safetensors\.)torch\.load\b|\b(un)?pickle(d|r|s)?\b|\bc?[pP]ickle\b|joblib|\bdill\b|shelve|marshal|allow_pickle=True"
    r"|yaml\.(unsafe_|full_)?load\("
)
# each module imports from the layers before its own alone
LAYERS = [
    {"errors", "tiling"},
    {"names", "paths", "files", "documents", "neighbours", "batch", "console", "extras", "machine"}
    | {"simulate", "simulate.truth", "training"}
    | {f"training.{name}" for name in ("randomness", "distributed", "interruption")},
    {"registry", "images", "instruments", "pictures", "provenance", "training.environment", "lockfiles", "tensorfiles"}
    | {"hub", "hub.connection", "hub.frontmatter"},
    {"cards", "nets", "baselines", "fitsfiles", "recipe", "merging", "configuration", "hub.downloads", "hub.repositories"},
    {"updates", "archive", "archive.products", "archive.pace", "archive.watching"},
    {"registries", "archive.mast", "archive.manifest", "archive.comparison"},
    {"cluster", "dataset.ways"},
    {"archive.downloads"}
    | {"sources", "weights", "engines", "results", "frames", "recipefile", "bench", "dataset"}
    | {f"dataset.{name}" for name in ("alignment", "coverage", "drizzle", "footprints", "ignore", "quality", "sky")}
    | {"dataset.stamps", "dataset.store"}
    | {f"simulate.{name}" for name in ("cameras", "charge", "detector", "scenes")},
    {
        "recipecheck",
        "rendering",
        "testvectors",
        "models",
        "selection",
        "products",
        "bench.roc",
        "bench.results",
        "bench.residuals",
        "bench.shading",
    }
    | {"dataset.crsplit", "dataset.exposures", "dataset.reading", "dataset.splits", "training.frozen", "training.state"}
    | {f"simulate.{name}" for name in ("optics", "pointing", "tracks")},
    {"dataset.darks", "dataset.labelling", "dataset.wording"}
    | {"convert", "cleaning", "verification", "plan", "bench.lacosmic", "bench.summary", "bench.judged", "simulate.flc"}
    | {"bench.blocks", "bench.tally", "bench.grouped", "bench.wording", "bench.mosaic"}
    | {"simulate.rendering", "dataset.report", "dataset.visits"}
    | {f"training.{name}" for name in ("stamps", "start", "checkpoints")},
    {"compat", "filecleaning", "simulate.visits", "training.augmentation", "training.runs", "training.draftcard"}
    | {f"bench.{name}" for name in ("masks", "bootstrap", "lacosmicmasks", "resampled", "tracks", "stars", "figures")},
    {"demo", "cleanreport", "archive.fetch", "dataset.planned", "dataset.rehearsal", "training.objectives"}
    | {f"bench.{name}" for name in ("inpainting", "runtime", "detections", "tables", "worst")},
    {"dataset.backgrounds", "dataset.darkpaste", "dataset.drizzled", "dataset.repeats"},
    {"dataset.labels"},
    {"dataset.build", "training.loop", "training.pictures"}
    | {f"bench.{name}" for name in ("photometry", "detectionresults", "operating", "inshort", "leaderboard")},
    {"training.watch"}
    | {f"bench.{name}" for name in ("testdata", "subjects", "maskbenchmark", "inpaintbenchmark", "exclusions", "report")},
    {"training.trainingsets", "bench.gates", "publishing", "publishing.release", "publishing.page", "checking"},
    {"bench.benchmark", "bench.benchdata"}
    | {f"publishing.{name}" for name in ("fromrun", "fromzoo", "upload", "readback", "entries")},
    {"bench.proof", "publishing.pullrequests", "publishing.registryfiles"},
    {"publishing.steps"},
    {"training.products"},
    {"training.pipeline"},
    {"cli_toolkit"},
    {"cli_bench", "cli_archive"},
    {"cli_publish"},
    {"cli_training"},
    {"cli"},
]
LIGHT = {
    "names",
    "errors",
    "paths",
    "files",
    "documents",
    "registry",
    "cards",
    "sources",
    "rendering",
    "cli",
    "console",
    "hub",
    "hub.connection",
    "hub.downloads",
    "hub.repositories",
    "merging",
    "configuration",
    "updates",
    "registries",
    "cli_publish",
    "cli_archive",
}
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


def test_importing_the_package_loads_neither_torch_nor_anything_that_touches_network_or_disk():
    code = "import sys; before = set(sys.modules); import deepcr_zoo; print(*set(sys.modules) - before)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
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
    code = "import time; start = time.perf_counter(); import deepcr_zoo; print(time.perf_counter() - start)"
    times = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)
        for _ in range(3)
    ]
    assert min(times) < 0.15


def test_every_public_name_can_be_had():
    for name in deepcr_zoo.__all__:
        assert getattr(deepcr_zoo, name) is not None
        assert name in dir(deepcr_zoo)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = deepcr_zoo.nothing


def test_every_module_has_a_place_in_the_order_of_imports():
    assert {dotted(path) for path in MODULES} - {"__init__", "__main__"} == {name for layer in LAYERS for name in layer}


@pytest.mark.parametrize("path", [path for path in MODULES if not dotted(path).startswith("__")], ids=dotted)
def test_imports_run_one_way(path):
    level = {name: index for index, layer in enumerate(LAYERS) for name in layer}
    everything = imports(path, top_level_only=False)
    ours = {name.removeprefix("deepcr_zoo.") for name in everything} & level.keys()
    assert all(level[name] < level[dotted(path)] for name in ours)
    if not dotted(path).startswith("hub."):
        assert not any(name.startswith("huggingface_hub") for name in everything)
    if dotted(path) != "archive.mast":
        assert not any(name.startswith(("astroquery", "requests")) for name in everything)
    if dotted(path) in LIGHT:
        assert not {name.partition(".")[0] for name in imports(path, top_level_only=True)} & {"torch", "astropy", "scipy"}


@pytest.mark.parametrize("path", MODULES, ids=dotted)
def test_nothing_is_unpickled_outside_of_convert(path):
    if dotted(path) != "convert":
        assert not PICKLE.search(path.read_text())


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
            str(path.relative_to(paths.data_root())) for path in (paths.data_root() / part).rglob("*.*") if path.is_file()
        }
        assert here <= carried
    assert "zoo/weights/LICENSE.deepCR" in carried
    assert (installed / "deepcr_zoo/_data/LICENSE").read_bytes() == (CHECKOUT / "LICENSE").read_bytes()
    assert len(list(installed.glob("*.dist-info/licenses/**/LICENSE*"))) == 2


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
    done = subprocess.run([sys.executable, "-m", "deepcr_zoo.demo", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("reproduces its test vector") == 2
    assert done.stderr == ""
    return done.stdout, Path(done.stdout.splitlines()[-1].removeprefix("picture: "))


def test_the_demo_cleans_an_exposure_says_what_it_found_and_draws_it(tmp_path):
    text, picture = run_demo(str(tmp_path), "--side", "512")
    found, hit = map(int, re.search(r"(\d+) of the (\d+) pixels that a simulated cosmic ray hit", text).groups())
    assert 0.8 < found / hit < 1
    assert "marked as cosmic ray" in text
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert len(list(tmp_path.glob("*_flc_crclean.fits"))) == 1


def test_the_demo_takes_an_exposure_of_the_user_even_one_that_the_zoo_has_no_network_for(tmp_path):
    stis = {**STIS, "BLEVCORR": "COMPLETE"}
    for name, keywords, model in (
        ("x_flt", ACS, "first choice for HST ACS/WFC"),
        ("y_flt", stis, "the demo takes mask/ACS"),
    ):
        path = write(tmp_path / f"{name}.fits", science(scene()[0], "COUNTS"), **keywords)
        text, picture = run_demo(str(tmp_path / "out"), "--fits", str(path))
        assert model in text
        assert picture == tmp_path / "out" / f"{name}_crpreview.png"
        assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_pull_request_is_tested_and_its_registry_is_checked():
    workflow = yaml.safe_load((CHECKOUT / ".github" / "workflows" / "check.yml").read_text())
    typed = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    targets = {line.split()[1] for line in typed if line.startswith("make ")}
    assert targets == {"lint", "test", "check"}
    assert targets <= set(re.findall(r"^(\w+):", (CHECKOUT / "Makefile").read_text(), re.MULTILINE))
    assert "pull_request" in workflow[True]  # YAML reads "on" so
    forms = sorted((CHECKOUT / ".github" / "ISSUE_TEMPLATE").glob("*.yml"))
    assert len(forms) == 4
    for form in forms:
        assert yaml.safe_load(form.read_text())
