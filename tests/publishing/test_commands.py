"""publish, update and check, as typed."""

import json
import os
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from deepcr_zoo.cli.main import app
from deepcr_zoo.errors import HubUnreachableError, RunError, UnknownModelError, UsageError
from deepcr_zoo.zoo.registry import read_registry
from tests.conftest import ALL_MODELS
from tests.registries import SMALL, copy_registry, edit_card, edit_entry

pytest_plugins = ["tests.zoo.hub.fixtures"]
pytestmark = [
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),
    pytest.mark.usefixtures("keeper"),
]


def typed(*arguments, status=0, **environment):
    """Run a command in a process of its own, which reads its registry and settings anew."""
    command = [sys.executable, "-m", "deepcr_zoo", *map(str, arguments)]
    done = subprocess.run(command, env=os.environ | environment, capture_output=True, text=True)
    assert done.returncode == status, done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def invoked(*arguments, **environment):
    """Run a command in this process."""
    return CliRunner().invoke(app, list(map(str, arguments)), env=environment)


def printed(*arguments, **environment):
    done = invoked(*arguments, **environment)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.mark.slow
def test_the_seed_goes_to_the_hub_in_one_go_and_again_changes_nothing(contract_hub, tmp_path):
    checkout = copy_registry(tmp_path / "all", *{name.partition("@")[0]: None for name in ALL_MODELS})
    first = typed("publish", "--seed", "--into", checkout)
    registry = read_registry(checkout)
    assert registry.references() == ALL_MODELS
    for reference in ALL_MODELS:
        model = registry.resolve(reference)
        pin = model.locked.sources.hub
        assert pin.repo == f"deepcr-zoo/{model.entry.task}-{model.entry.name}"
        assert contract_hub.repository(pin.repo).references("tags")[f"v{model.version}"] == pin.commit
    assert len(first.stdout.splitlines()) == len(ALL_MODELS)
    again = typed("publish", "--seed", "--into", checkout)
    assert again.stdout == ""
    assert again.stderr.count("was published before") == len(ALL_MODELS)


@pytest.mark.slow
def test_a_registry_is_published_fetched_listed_and_forgotten(contract_hub, checkout, tmp_path):
    user = {"DEEPCR_ZOO_DATA": str(tmp_path / "data")}
    (checkout / "zoo" / "mask" / "OTHER.yaml").write_text(
        (checkout / "zoo" / f"{SMALL}.yaml").read_text().replace("name: ACS-WFC-F606W-2-4", "name: OTHER")
    )
    card = checkout / "cards" / "mask" / "OTHER" / "1.0.yaml"
    card.parent.mkdir()
    text = (checkout / "cards" / SMALL / "1.0.yaml").read_text().replace("name: ACS-WFC-F606W-2-4", "name: OTHER")
    card.write_text(text)
    edit_card(checkout, lambda content: None, "mask/OTHER")
    pin = {"repo": "deepcr-zoo/mask-OTHER", "commit": "1" * 40}
    edit_entry(checkout, lambda entry: entry["versions"]["1.0"]["sources"].update(hub=pin), "mask/OTHER")
    assert "OTHER" in printed("publish", "--registry", "--dry-run", "--into", checkout)
    printed("publish", "--registry", "--into", checkout)
    assert typed("update", **user).stdout == "mask/OTHER@1.0\n"
    found = json.loads(typed("update", "--json", **user).stdout)
    assert (found["added"], found["is_new"]) == ([], False)
    listed = typed("list", "*OTHER*", **user).stdout
    assert f"update {found['commit'][:8]}" in listed
    assert json.loads(typed("list", "OTHER", "--json", **user).stdout)[0]["from"] == {"1.0": f"update {found['commit'][:8]}"}
    printed("update", "--forget", **user)
    typed("list", "*OTHER*", status=2, **user)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["publish"], "name the folder of a run, or NAME@VERSION, or give --seed or --registry"),
        (["publish", SMALL, "--seed"], "one of them"),
        (["publish", SMALL, "--pr", "--finish"], "exclude each other"),
        (["publish", SMALL, "--bundle", "--pr"], "exclude each other"),
        (["publish", "--seed", "--pr"], "are for one model"),
        (["publish", "--seed", "--bundle"], "are for one model"),
        (["publish", "--seed", "--repo", "a/b"], "expected ORG alone"),
        (["publish", SMALL, "--repo", "a/b"], "expected a/mask-ACS-WFC-F606W-2-4"),
        (["publish", SMALL, "--into", "/nowhere"], "expected a checkout of the repository"),
        (["check", "/nowhere"], "expected a checkout of the repository"),
        (["publish", "runs/NAME/*"], "no such folder: expected that of a run, which 'train' prints, or NAME@VERSION"),
        (["publish", "runs/NAME/nothere"], "no such folder: expected that of a run"),
        (["update", "--repo", "a/b/c"], "--repo a/b/c: expected ORG/NAME"),
    ],
)
def test_wrong_usage_is_one_sentence(arguments, message, contract_hub):
    error = invoked(*arguments).exception
    assert isinstance(error, UsageError)
    assert message in str(error)
    assert contract_hub.log == []


def test_wrong_usage_has_exit_code_2():
    assert "name the folder of a run, or NAME@VERSION" in " ".join(typed("publish", status=2).stderr.split())


def test_what_is_neither_a_run_nor_a_model_is_named(contract_hub, tmp_path):
    for given, kind, message in (
        ("NOTHING-2-4", UnknownModelError, "no such model"),
        (tmp_path, RunError, "expected the folder of a run"),
    ):
        error = invoked("publish", given).exception
        assert isinstance(error, kind)
        assert message in str(error)


def test_an_imported_model_shows_its_own_gates_in_a_dry_run(tmp_path):
    shown = printed("publish", "inpaint/ACS-WFC-F606W-2-32", "--dry-run", HF_HUB_OFFLINE="1")
    assert "gives what upstream's own code gives" in shown
    assert "deepcr-zoo/inpaint-ACS-WFC-F606W-2-32" in shown


def test_a_hub_that_does_not_answer_is_one_sentence(checkout):
    done = typed("publish", f"{SMALL}@1.0", "--into", checkout, status=1, HF_ENDPOINT="http://127.0.0.1:9")
    assert "http://127.0.0.1:9 cannot be used" in done.stderr
    error = invoked("update", HF_ENDPOINT="http://127.0.0.1:9").exception
    assert isinstance(error, HubUnreachableError)
    assert "cannot be used" in str(error)
