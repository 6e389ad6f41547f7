"""Commands that are attacked: what each may write, and what must hold of it at any moment."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from astropy.io import fits

from deepcr_zoo.bench.runs import Run
from deepcr_zoo.dataset.reading import Dataset
from deepcr_zoo.documents import as_yaml
from deepcr_zoo.publishing.registryfiles import publish_registry
from deepcr_zoo.zoo import updates
from deepcr_zoo.zoo.registry import read_registry
from tests.bench import stamps as test_stamps
from tests.dataset import repeated
from tests.fitsfiles import acs_flc
from tests.publishing.releases import REPOSITORY, contents
from tests.registries import SMALL, copy_registry
from tests.training import stamps as training_stamps
from tests.zoo.test_hub_judges import git

Content = dict[str, str]
"""Paths below a folder, and hashes of the files; those of files with times in them are left out."""


@dataclass(frozen=True)
class Target:
    """A command to attack.

    Attributes
    ----------
    arguments : callable
        What to type; it may depend on what an earlier command has left.
    folder : Path
        Everything that it may write, and nothing else; hidden files too.
    prepare : callable
        Make the folder as it is before the first command.
    check : callable
        Raise an error if something that can be seen is half-written.
    content : callable
        What is there when all is done; it must always be the same.
    """

    arguments: Callable[[], Sequence[object]]
    folder: Path
    prepare: Callable[[], object]
    check: Callable[[], None]
    content: Callable[[], Content]


def content(folder: Path, has_times: Sequence[str] = ()) -> Content:
    """Everything below a folder; files of some names are listed without their content."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_file():
            timeless = not any(path.match(pattern) for pattern in has_times)
            found[name] = hashlib.sha256(path.read_bytes()).hexdigest() if timeless else ""
    return found


def visible(folder: Path) -> dict[str, bytes]:
    """Files that a user sees: none of their folders is hidden either."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    names = {path.relative_to(folder): path for path in paths}
    return {str(name): path.read_bytes() for name, path in names.items() if not any(part[0] == "." for part in name.parts)}


def emptied(folder: Path) -> None:
    """Remove a folder, and make it again."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder that a target writes to."""
    return tmp_path / "written"


@pytest.fixture
def pull(published, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Target:
    """A model from the Hub."""
    settings = tmp_path / "settings.yaml"
    settings.write_text(f"registries: {{here: {{root: {published.root}}}}}\n")
    monkeypatch.setenv("DEEPCR_ZOO_CONFIG", str(settings))
    monkeypatch.setenv("DEEPCR_ZOO_CACHE", str(folder))

    def check() -> None:
        for name, data in visible(folder).items():
            assert data == published.files[Path(name).name], name

    return Target(
        lambda: ["pull", f"here:{SMALL}", "--source", "hub"],
        folder,
        lambda: emptied(folder),
        check,
        lambda: content(folder),
    )


@pytest.fixture
def clean(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Target:
    """Three exposures, all products."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "1700000000")
    night = tmp_path / "night"
    night.mkdir()
    for seed in range(3):
        acs_flc(night / f"j{seed}_flc.fits", seed)
    originals = visible(night)

    def check() -> None:
        assert visible(night) == originals
        for name in visible(folder):
            if name.endswith(".fits"):
                with fits.open(folder / name, checksum=True, disable_image_compression=True) as hdus:
                    assert len(hdus) > 1
                    assert all(hdu._checksum_valid and hdu._datasum_valid for hdu in hdus), name

    options = ("--output-dir", folder, "--model", SMALL, "--inpaint", "medmask", "--prob", "--preview", "--engine", "torch")
    return Target(lambda: ["clean", night, *options], folder, lambda: emptied(folder), check, lambda: content(folder))


@pytest.fixture
def build(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Target:
    """The training set of three observations of two exposures each, with its report."""
    monkeypatch.setenv("DEEPCR_ZOO_DATA", str(folder))
    for number in (1, 2, 4):
        repeated.write_observation(tmp_path / "observations", number)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_bytes(as_yaml(repeated.recipe_of()))

    def check() -> None:
        for manifest in folder.glob("datasets/*/*/manifest.json"):
            dataset = Dataset.open(manifest.parent)
            assert len(list(dataset.stamps("train"))) > 0
        for visit in folder.glob("visits/[!.]*"):
            assert (visit / "visit.json").is_file(), visit

    command = ["build", recipe, "--data", tmp_path / "observations", "--report", "--jobs", 1]
    return Target(lambda: command, folder, lambda: emptied(folder), check, lambda: content(folder))


@pytest.fixture
def train(folder: Path, tmp_path: Path) -> Target:
    """A small network, from the first step to its card; a run that exists is resumed."""
    settings = ("train.schedule.max_epochs=8", "train.schedule.freeze_after_epochs=4")
    recipe = training_stamps.recipe_of("mask", *settings)
    dataset = training_stamps.write_dataset(tmp_path / "home", recipe=recipe)
    file = tmp_path / "recipe.yaml"
    file.write_bytes(as_yaml(recipe))

    def run() -> Path | None:
        return max((path.parent for path in folder.glob("*/[!.]*/run.json")), default=None)

    def arguments() -> Sequence[object]:
        begun = (
            ["train", file, "--data", dataset.folder, "--runs", folder] if run() is None else ["train", "--resume", run()]
        )
        return [*begun, "--no-prove", "--device", "cpu"]

    def check() -> None:
        if (found := run()) is not None:
            assert Run.open(found).history() is not None
            assert training_stamps.read_progress(found).epoch >= 0

    def trained() -> Content:
        (found,) = folder.glob("*/[!.]*")
        return content(
            found, has_times=("metrics.jsonl", "run.json", "card.yaml", "environment.json", "checkpoint.json", "*.png")
        )

    return Target(arguments, folder, lambda: emptied(folder), check, trained)


@pytest.fixture
def fetch(archive, recipe_file: Path, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Target:
    """Nine exposures from the archive."""
    monkeypatch.setenv("DEEPCR_ZOO_CACHE", str(folder))

    def check() -> None:
        for name, data in visible(folder).items():
            if name.endswith(".fits"):
                assert data == archive.files[Path(name).name].data, name
            elif name.endswith(".json"):
                json.loads(data)

    return Target(
        lambda: ["fetch", recipe_file, "--jobs", 2], folder, lambda: emptied(folder), check, lambda: content(folder)
    )


@pytest.fixture
def update(contract_hub, keeper, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Target:
    """The registry from the Hub, in place of an older update."""
    monkeypatch.setenv("DEEPCR_ZOO_DATA", str(folder))
    root = copy_registry(tmp_path / "keepers")
    shutil.copy(updates.locations.data_root() / "LICENSE", root / "LICENSE")
    shutil.copy(updates.locations.data_root() / "zoo" / "training_visits.yaml", root / "zoo")
    publish_registry(root, updates.REPOSITORY)

    def check() -> None:
        if updates.current() is not None:
            kept = updates.with_update(updates.shipped_registry())  # a damaged one would warn, and warnings are errors
            assert f"{SMALL}@1.0" in kept.references()

    return Target(
        lambda: ["update"], folder, lambda: emptied(folder), check, lambda: content(folder, has_times=("current.json",))
    )


@pytest.fixture
def publish(contract_hub, keeper, release, folder: Path) -> Target:
    """A model to the Hub, and its entry to a checkout."""
    repository = contract_hub.repository(REPOSITORY).folder

    def prepare() -> None:
        emptied(folder)
        shutil.rmtree(repository, ignore_errors=True)
        copy_registry(folder)

    def check() -> None:
        contract_hub.wait_until_idle()
        pin = read_registry(folder).resolve(SMALL).locked.sources.hub  # the entry is whole, whatever happened
        tag = contract_hub.repository(REPOSITORY).references("tags").get("v1.0") if repository.exists() else None
        for commit in filter(None, (tag, pin and pin.commit)):
            assert contents(contract_hub, commit) == dict(release.files)
        if tag:
            assert git("-C", repository, "fsck", "--strict").returncode == 0
        if tag and shutil.which("git-lfs"):
            assert git("-C", repository, "lfs", "fsck", "v1.0").stdout == "Git LFS fsck OK\n"

    command = ["publish", f"{SMALL}@1.0", "--repo", REPOSITORY, "--into", folder]
    entry = f"zoo/{SMALL}.yaml"
    return Target(lambda: command, folder, prepare, check, lambda: content(folder, has_times=(entry, "README.md")))


@pytest.fixture
def bench(folder: Path, tmp_path: Path) -> Target:
    """A model on test data, with its report."""
    dataset = test_stamps.write_dataset(tmp_path / "home", test_stamps.recipe_of(), ("globular_cluster",))

    def check() -> None:
        for results in folder.rglob("[!.]*/results.json"):
            json.loads(results.read_bytes())

    command = ["bench", SMALL, "--data", dataset.folder, "--against", "none", "--no-runtime", "--output-dir", folder / "out"]
    return Target(
        lambda: command,
        folder,
        lambda: emptied(folder),
        check,
        lambda: content(folder, has_times=("report.html", "results.json", "*.png")),
    )


COMMANDS = ("pull", "fetch", "update", "publish", "train", "clean", "build", "bench")
