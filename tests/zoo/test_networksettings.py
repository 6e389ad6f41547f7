"""Proxies and certificates of the environment: what cannot be used is one sentence, and bundled models need none of it."""

from __future__ import annotations

import os
import socketserver
import subprocess
import sys
import threading
from collections.abc import Iterator

import huggingface_hub
import pytest

from deepcr_zoo.archive import mast
from deepcr_zoo.archive.listing import query_of
from deepcr_zoo.errors import ArchiveUnreachableError, HubUnreachableError
from deepcr_zoo.zoo.hub.downloads import download
from deepcr_zoo.zoo.registry import WEIGHTS_FILE
from tests.archive.fixtures import empty_archive
from tests.dataset.visits import shipped
from tests.registries import edit_entry
from tests.zoo.hub.published import VERSION, PublishedModel
from tests.zoo.test_hub import PULL, dead_host, run

pytest_plugins = ["tests.zoo.hub.fixtures"]
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")
__all__ = ["dead_host", "empty_archive"]

SOCKS = {"ALL_PROXY": "socks5://user:secret@127.0.0.1:9"}
NOWHERE = "/nonexistent/certificates.pem"


class _Refusal(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        while self.rfile.readline().strip():
            pass
        self.wfile.write(b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n")


@pytest.fixture
def refusing_proxy() -> Iterator[str]:
    """A proxy that wants a password."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Refusal) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://user:secret@127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture
def through_proxies(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """No host is reached without a proxy, and the client of the Hub is made anew before and after."""
    for name in ("NO_PROXY", "no_proxy", *(proxy for one in ("HTTP", "HTTPS", "ALL") for proxy in (f"{one}_PROXY",))):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    huggingface_hub.close_session()
    yield monkeypatch
    huggingface_hub.close_session()


def failure_of_the_hub(published: PublishedModel) -> str:
    with pytest.raises(HubUnreachableError) as caught:
        download(published.pin, WEIGHTS_FILE, 10_000)
    text = str(caught.value)
    assert text.startswith(f"{published.hub.url} cannot be used: ")
    assert "\n" not in text
    assert "secret" not in text
    return text


def failure_of_the_archive() -> str:
    with pytest.raises(ArchiveUnreachableError) as caught:
        mast.Archive().search(query_of(shipped()))
    text = str(caught.value)
    assert "\n" not in text
    assert "secret" not in text
    return text


def test_a_socks_proxy_names_the_package_that_the_client_of_the_hub_lacks(published, through_proxies):
    through_proxies.setenv("ALL_PROXY", SOCKS["ALL_PROXY"])
    assert failure_of_the_hub(published).endswith(
        "ALL_PROXY=socks5://127.0.0.1:9 needs the package socksio: run pip install socksio, or unset the proxy"
    )


def test_a_socks_proxy_names_the_package_that_the_client_of_the_archive_lacks(empty_archive, through_proxies):
    through_proxies.setenv("all_proxy", SOCKS["ALL_PROXY"])
    assert failure_of_the_archive().endswith(
        "cannot be reached: all_proxy=socks5://127.0.0.1:9 needs the package pysocks: run pip install pysocks, or unset the "
        "proxy"
    )


def test_a_proxy_that_is_not_there_is_named(published, empty_archive, through_proxies, dead_host):
    through_proxies.setenv("HTTP_PROXY", dead_host)
    for failure in (failure_of_the_hub(published), failure_of_the_archive()):
        assert failure.endswith(f"Connection refused (with HTTP_PROXY={dead_host} in the environment)")


def test_a_proxy_that_wants_a_password_is_named_without_one(published, empty_archive, through_proxies, refusing_proxy):
    through_proxies.setenv("HTTP_PROXY", refusing_proxy)
    shown = refusing_proxy.replace("user:secret@", "")
    for failure in (failure_of_the_hub(published), failure_of_the_archive()):
        assert failure.endswith(
            f"the proxy requires a name and a password (407) (with HTTP_PROXY={shown} in the environment)"
        )


@pytest.mark.parametrize("address", ["http://[::1", "http://127.0.0.1:port", "htp://127.0.0.1:9"])
def test_an_address_that_is_no_proxy_is_shown_with_its_variable(address, published, empty_archive, through_proxies):
    through_proxies.setenv("ALL_PROXY", address)
    for failure in (failure_of_the_hub(published), failure_of_the_archive()):
        assert failure.endswith(f"(with ALL_PROXY={address} in the environment)")


@pytest.mark.parametrize("letter", list("/?#[]\\ "))
def test_a_proxys_password_with_a_letter_that_no_address_has_is_refused_and_not_shown(
    letter, published, empty_archive, through_proxies
):
    through_proxies.setenv("HTTP_PROXY", f"http://user:secret{letter}2@127.0.0.1:9")
    with pytest.raises(HubUnreachableError) as of_hub:
        download(published.pin, WEIGHTS_FILE, 10_000)
    for failure in (str(of_hub.value), failure_of_the_archive()):
        assert failure.startswith("HTTP_PROXY: its name or password has a letter that no address has: write / as %2F")
        assert "secret" not in failure


def test_certificates_that_are_not_there_are_named(published, through_proxies):
    through_proxies.setenv("SSL_CERT_FILE", NOWHERE)
    assert failure_of_the_hub(published).endswith(
        f"SSL_CERT_FILE names {NOWHERE}, which does not exist: correct it, or unset it"
    )


def test_certificates_of_the_archive_that_are_not_there_are_named(through_proxies, dead_host):
    through_proxies.setenv("DEEPCR_ZOO_MAST", dead_host.replace("http:", "https:"))
    through_proxies.setenv("REQUESTS_CA_BUNDLE", NOWHERE)
    assert failure_of_the_archive().endswith(
        f"REQUESTS_CA_BUNDLE names {NOWHERE}, which does not exist: correct it, or unset it"
    )


@pytest.mark.parametrize(
    "setting", [SOCKS, {"HTTP_PROXY": "http://[::1"}, {"SSL_CERT_FILE": NOWHERE}], ids=lambda one: min(one)
)
def test_a_pinned_model_that_is_bundled_is_pulled_whatever_the_network_settings(setting, published):
    edit_entry(published.root, lambda entry: entry["versions"][VERSION]["sources"].update(seed=True))
    output, messages, status = run(PULL, published, **{"NO_PROXY": "", **setting})
    assert (output, messages, status) == ("seed", "", 0)


def test_an_update_through_a_socks_proxy_in_a_process_of_their_own(published):
    command = [sys.executable, "-m", "deepcr_zoo", "update"]
    done = subprocess.run(command, env={**os.environ, "NO_PROXY": "", **SOCKS}, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "run pip install socksio" in done.stderr
