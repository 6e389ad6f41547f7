"""The viewer, asked by other users of the machine, by pages of elsewhere, and with what its page would not send."""

import json

import pytest

from deepcr_zoo.exposures.viewer.server import MOST_BYTES
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


def test_a_request_without_end_is_refused_before_it_is_read(viewer):
    status, text, _ = own(viewer, "save", b"", **{"Content-Length": str(MOST_BYTES + 1)})
    assert status == 413
    assert "expected at most" in json.loads(text)["error"]
