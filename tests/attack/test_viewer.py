"""The viewer, asked by other users of the machine, by pages of elsewhere, and with what its page would not send."""

import http.client
import json
import os
import signal
import socket
import stat
import struct
import subprocess
import sys
import threading
import time
from contextlib import suppress

import pytest

from deepcr_zoo.exposures.viewer.server import ADDRESS, MOST_BYTES, MOST_CONNECTIONS
from tests.clusters import wait_for
from tests.conftest import CHECKOUT
from tests.registries import SMALL
from tests.viewers import ask, flc, own, untouched, viewer

__all__ = ["flc", "viewer"]


def test_only_its_own_address_on_this_machine_is_answered(viewer):
    assert viewer.server_address[0] == "127.0.0.1"
    for path in ("/", "/exposure.json", "/x/exposure.json", f"/{viewer.secret[:-1]}/exposure.json", f"/{viewer.secret}x/"):
        assert ask(viewer, path)[0] == 404
    status, _, answer = own(viewer, "")
    assert status == 200
    assert answer.getheader("Content-Security-Policy").startswith("default-src 'self'")
    assert own(viewer, "", Host="elsewhere.example")[0] == 404
    assert own(viewer, "../../server.py")[0] == 404


@pytest.mark.parametrize(
    ("name", "body", "status", "reason"),
    [
        ("save", b"{", 400, "corrections: "),
        ("save", untouched(chips=1), 400, "of 1 chips: expected 2"),
        ("save", untouched(threshold=2), 400, "corrections: "),
        ("save", {**untouched(), "chips": [{"added": [10**9], "removed": []}] * 2}, 400, "expected pixels of SCI,1"),
        ("save", {**untouched(), "chips": [{"added": [-1], "removed": []}] * 2}, 400, "corrections: "),
        ("chips/7/cleaned", untouched(), 400, "chip 7: expected one of 2"),
        ("chips/0/nothing", untouched(), 404, "no such page"),
    ],
)
def test_what_the_page_would_not_ask_is_refused_with_a_reason_and_nothing_is_written(
    viewer, flc, name, body, status, reason
):
    found, text, _ = own(viewer, name, body)
    assert found == status
    assert reason in json.loads(text)["error"]
    assert [path.name for path in flc.parent.iterdir()] == ["x_flc.fits"]


def test_what_a_refused_request_holds_is_no_further_request(viewer):
    hidden = f"GET /{viewer.secret}/ HTTP/1.1\r\nHost: {ADDRESS}:{viewer.server_port}\r\n\r\n"
    head = f"POST /x HTTP/1.1\r\nHost: {ADDRESS}:{viewer.server_port}\r\nContent-Length: {len(hidden)}\r\n\r\n"
    with socket.create_connection(viewer.server_address) as connection:
        connection.sendall((head + hidden).encode())
        answers = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answers.startswith(b"HTTP/1.1 404")
    assert answers.count(b"HTTP/1.1") == 1


def test_a_request_without_end_is_refused_before_it_is_read(viewer):
    for length in (str(MOST_BYTES + 1), "9" * 5000, "\u00b2".encode("latin-1"), "-1", "+1", "", "1e3"):
        status, text, _ = own(viewer, "save", b"", **{"Content-Length": length})
        assert status == 413
        assert "expected at most" in json.loads(text)["error"]


@pytest.mark.slow
def test_connections_of_others_take_few_threads_and_do_not_keep_the_page_out(viewer):
    before = threading.active_count()
    opened = [socket.create_connection((ADDRESS, viewer.server_port), timeout=10) for _ in range(3 * MOST_CONNECTIONS)]
    try:
        for one in opened:
            with suppress(OSError):  # closed already
                one.sendall(b"GET / HTTP/1.1\r\nX: " + b"a" * 60_000 + b"\r\n")
        for _ in range(5):
            assert own(viewer, "")[0] == 200
            assert threading.active_count() - before <= MOST_CONNECTIONS
    finally:
        for one in opened:
            one.close()
    assert own(viewer, "")[0] == 200


def test_connections_that_have_shown_the_secret_are_not_closed_for_others(viewer):
    page = http.client.HTTPConnection(ADDRESS, viewer.server_port, timeout=60)
    page.request("GET", f"/{viewer.secret}/")
    page.getresponse().read()
    opened = [socket.create_connection((ADDRESS, viewer.server_port), timeout=10) for _ in range(2 * MOST_CONNECTIONS)]
    try:
        page.request("GET", f"/{viewer.secret}/exposure.json")  # on the connection that is open
        assert page.getresponse().status == 200
    finally:
        for one in opened:
            one.close()


def test_a_connection_that_breaks_is_not_told_in_the_terminal(viewer, capsys):
    before = threading.active_count()
    for _ in range(5):
        with socket.create_connection((ADDRESS, viewer.server_port), timeout=10) as one:
            one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # its end is a reset
            one.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")
    wait_for(lambda: threading.active_count() <= before)
    assert own(viewer, "")[0] == 200
    assert capsys.readouterr().err == ""


@pytest.mark.slow
def test_the_arguments_of_the_browser_do_not_hold_the_secret_and_its_file_is_for_the_user_alone(flc, tmp_path):
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/arguments\ncp -p "${{1#file://}}" {tmp_path}/page\n')
    browser.chmod(0o755)
    environment = {**os.environ, "BROWSER": str(browser), "PYTHONPATH": str(CHECKOUT), "TMPDIR": str(tmp_path)}
    command = [sys.executable, "-m", "deepcr_zoo", "view", str(flc), "--model", SMALL, "--inpaint", "medmask"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as running:
        address = running.stdout.readline().strip()
        while not (tmp_path / "page").exists():
            time.sleep(0.1)
        time.sleep(0.2)
        (folder,) = tmp_path.glob("deepcr-zoo-*")
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        running.send_signal(signal.SIGINT)
        assert running.wait(30) == 0
    arguments = (tmp_path / "arguments").read_text()
    assert arguments.startswith("file://")
    assert address.rstrip("/").rpartition("/")[2] not in arguments
    assert f'url={address}"' in (tmp_path / "page").read_text()
    assert not folder.exists()
