"""A running viewer of a small exposure, and what asks it."""

import http.client
import json

import pytest

from deepcr_zoo.exposures.options import CleanOptions
from deepcr_zoo.exposures.viewer.seen import LACOSMIC, look_at
from deepcr_zoo.exposures.viewer.server import ADDRESS, Viewer
from deepcr_zoo.progress import NullReporter
from tests.fitsfiles import acs_flc
from tests.registries import SMALL


def look(path, compared=None, **options):
    seen = look_at(path, CleanOptions(**{"model": SMALL, "inpaint": "medmask", **options}), compared)
    seen.find(NullReporter())
    return seen


def shown(seen, folder=None):
    """A viewer of an exposure that has been read."""
    server = Viewer(folder)
    server.show(seen)
    return server


@pytest.fixture
def flc(tmp_path):
    return acs_flc(tmp_path / "x_flc.fits")


@pytest.fixture
def viewer(flc):
    with shown(look(flc, LACOSMIC)) as server, server.serving():
        yield server


def ask(viewer, path, body=None, **headers):
    connection = http.client.HTTPConnection(ADDRESS, viewer.server_port, timeout=60)
    content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    connection.request("GET" if body is None else "POST", path, content, headers)
    answer = connection.getresponse()
    return answer.status, answer.read(), answer


def own(viewer, name, body=None, **headers):
    return ask(viewer, f"/{viewer.secret}/{name}", body, **headers)


def untouched(threshold=0.5, chips=2):
    return {"threshold": threshold, "chips": [{"added": [], "removed": []}] * chips}
