"""The token goes to the configured endpoint alone, and is neither printed nor written."""

import logging
import os
import socket
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from deepcr_zoo.cli.main import app
from deepcr_zoo.errors import DeepcrZooError
from deepcr_zoo.publishing import workflow
from deepcr_zoo.publishing.upload import upload
from deepcr_zoo.zoo import updates
from deepcr_zoo.zoo.hub.connection import without_secrets
from deepcr_zoo.zoo.hub.downloads import download
from deepcr_zoo.zoo.hub.repositories import HubRepository
from deepcr_zoo.zoo.registry import WEIGHTS_FILE, HubPin, read_registry
from tests.publishing.releases import REPOSITORY
from tests.registries import SMALL
from tests.zoo.hub import faults
from tests.zoo.hub.server import serve

pytest_plugins = ["tests.zoo.hub.fixtures"]
pytestmark = [
    pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning"),
    pytest.mark.usefixtures("keeper"),
]
TOKEN = "hf_write"


@pytest.fixture
def elsewhere(tmp_path):
    """Another server, to which the answers of the first one point."""
    with serve(tmp_path / "elsewhere") as server:
        yield server


@pytest.mark.parametrize(
    ("method", "where"),
    [("GET", "/api/models/"), ("POST", "/commit/"), ("POST", "/tag/"), ("POST", "/preupload/"), ("POST", "/info/lfs/")],
)
def test_a_redirect_to_another_host_does_not_take_the_token_along(method, where, contract_hub, elsewhere, release):
    contract_hub.inject(faults.redirected(f"{elsewhere.url}/api/models/x/y"), method=method, where=where)
    with pytest.raises(DeepcrZooError):
        upload(release, HubRepository(REPOSITORY))
    assert any(request.authorised for request in contract_hub.log)
    assert [request for request in elsewhere.log if request.authorised] == []


def test_a_download_that_is_redirected_does_not_take_the_token_along(contract_hub, elsewhere, release, checkout):
    pin = workflow.publish(release, REPOSITORY, checkout).publication.pin
    contract_hub.inject(faults.redirected(f"{elsewhere.url}/x/y/resolve/main/z"), where="/resolve/")
    with pytest.raises(DeepcrZooError):
        download(pin, WEIGHTS_FILE, len(release.files[WEIGHTS_FILE]))
    assert [request for request in elsewhere.log if request.authorised] == []


def test_nothing_is_asked_but_the_endpoint_and_where_it_keeps_large_files(contract_hub, release, checkout, monkeypatch):
    asked, real = set(), socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *more, **named: asked.add(host) or real(host, *more, **named))
    workflow.publish(release, REPOSITORY, checkout)
    assert {host if isinstance(host, str) else host.decode() for host in asked} <= {"127.0.0.1", "localhost"}


def test_the_token_is_neither_printed_nor_logged_nor_written(contract_hub, release, checkout, tmp_path, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    workflow.publish(release, REPOSITORY, checkout)
    contract_hub.inject(faults.unavailable, method="POST", where="/api/", times=1)
    errors = []
    for work in (
        lambda: upload(release, HubRepository("nobody/mask-ACS-WFC-F606W-2-4")),
        lambda: updates.update("deepcr-zoo/nothing"),
        lambda: download(HubPin(repo="deepcr-zoo/nothing", commit="0" * 40), WEIGHTS_FILE, 10_000),
    ):
        with pytest.raises(DeepcrZooError) as error:
            work()
        errors.append(str(error.value))
    printed = "".join(capfd.readouterr())
    assert TOKEN not in caplog.text + printed
    written = [path for path in tmp_path.rglob("*") if path.is_file() and "hub" not in path.relative_to(tmp_path).parts[:1]]
    assert written
    assert [path for path in written if TOKEN.encode() in path.read_bytes()] == []


@pytest.mark.slow
def test_the_command_line_shows_results_and_errors_without_the_token(contract_hub, release, checkout):
    publish = ["publish", f"{SMALL}@1.0", "--into", str(checkout)]
    command, environment = [sys.executable, "-m", "deepcr_zoo", *publish], os.environ | {"HF_DEBUG": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert TOKEN not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == f"{checkout}/zoo/{SMALL}.yaml\n"
    assert "downloaded again and verified" in done.stderr
    assert read_registry(checkout).resolve(SMALL).locked.sources.hub.repo == REPOSITORY
    for more, endpoint in ((["--repo", "nobody"], contract_hub.url), ([], "http://u:secret@127.0.0.1:9")):
        refused = CliRunner().invoke(app, [*publish, *more], env={"HF_ENDPOINT": endpoint})
        assert isinstance(refused.exception, DeepcrZooError)
        for secret in (TOKEN, "u:secret"):
            assert secret not in f"{refused.exception}{refused.output}"


def test_passwords_and_tokens_are_taken_out_of_messages(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "a-token-of-another-kind")
    text = "http://user:secret@127.0.0.1/x refused hf_abcDEF123 and a-token-of-another-kind"
    assert without_secrets(text) == "http://127.0.0.1/x refused hf_... and ..."
