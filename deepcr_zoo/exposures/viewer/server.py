"""The server of the viewer: on 127.0.0.1 alone, behind an address that nobody else knows."""

from __future__ import annotations

import json
import re
import secrets
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, wait
from contextlib import contextmanager, suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from importlib import resources
from pathlib import Path
from threading import BoundedSemaphore, Lock, Thread
from typing import Any

import numpy as np
from numpy.typing import NDArray

from deepcr_zoo.errors import DeepcrZooError, UsageError
from deepcr_zoo.exposures.pictures import zscale, zscale_interval
from deepcr_zoo.exposures.viewer import corrections
from deepcr_zoo.exposures.viewer.corrections import Corrections, SavedMask
from deepcr_zoo.exposures.viewer.seen import Seen, SeenChip

ADDRESS = "127.0.0.1"
MOST_BYTES = 50_000_000
"""Largest request: corrections of five million pixels."""

MOST_CONNECTIONS = 32
"""At a time; a browser opens six. A further one takes the place of the oldest that has not shown the secret yet, so that
other users of the machine neither take memory nor keep the page out."""

FREED_WITHIN_S = 1.0

LONGEST_WAIT_S = 20.0
"""For an exposure that is being read, or cosmic rays that are being found; browsers give up an answer after minutes."""

_SCRIPT = "text/javascript"
_PAGE = {"": "text/html", "viewer.js": _SCRIPT, "painter.js": _SCRIPT, "viewer.css": "text/css"}
_LAYERS = ("image", "scores", "other")
_SAMPLE_SIDE = 500  # pixels of a chip from which stretches are found, along each side
_WIDE_PERCENT = 99.9  # of the pixels are below the upper limit of the asinh stretch


class Viewer(ThreadingHTTPServer):
    """A server of one exposure; `address` is that of its page, which waits until `show` gives what it shows."""

    daemon_threads = True

    def __init__(self, folder: Path | None, port: int = 0) -> None:
        self._shown: Future[Seen] = Future()
        self.folder = folder
        self.saving = Lock()
        self.saves = 0
        self.last: tuple[Corrections, SavedMask] | None = None  # what was saved last
        self._free = BoundedSemaphore(MOST_CONNECTIONS)
        self._strangers: dict[Any, None] = {}  # connections that have not shown the secret, the oldest first
        self._meeting = Lock()
        self.secret = secrets.token_urlsafe(16)  # other users of the machine can connect too
        try:
            super().__init__((ADDRESS, port), _Answer)
        except OSError as error:
            raise UsageError(f"port {port} of {ADDRESS} cannot be used: {error.strerror}: leave out --port") from None

    @property
    def address(self) -> str:
        """URL of the page."""
        return f"http://{ADDRESS}:{self.server_port}/{self.secret}/"

    def show(self, seen: Seen) -> None:
        """Let the page show an exposure, once."""
        self._shown.set_result(seen)

    @property
    def cautions(self) -> list[str]:
        """Of the mask, and of the folder for corrected ones."""
        return [*self.seen.selection.cautions, *corrections.cautions_of_folder(self.seen, self.folder)]

    @contextmanager
    def serving(self) -> Iterator[None]:
        """Answer requests in a thread."""
        Thread(target=self.serve_forever, daemon=True).start()
        try:
            yield
        finally:
            self.shutdown()

    @property
    def seen(self) -> Seen:
        """The exposure."""
        if not self._shown.done():
            raise UsageError("the exposure is not read yet")
        return self._shown.result()

    def is_shown_within(self, seconds: float) -> bool:
        """True as soon as there is an exposure."""
        return bool(wait([self._shown], seconds).done)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Answer a connection in a thread of its own; if there are too many, another one is closed for it."""
        if not self._free.acquire(blocking=False):
            self._close_a_stranger()
            if not self._free.acquire(timeout=FREED_WITHIN_S):
                self.shutdown_request(request)
                return
        with self._meeting:
            self._strangers[request] = None
        super().process_request(request, client_address)

    def _close_a_stranger(self) -> None:
        with self._meeting, suppress(OSError, StopIteration):
            oldest = next(iter(self._strangers))
            del self._strangers[oldest]
            oldest.shutdown(socket.SHUT_RDWR)

    def welcome(self, request: Any) -> None:
        """Keep a connection that has shown the secret."""
        with self._meeting:
            self._strangers.pop(request, None)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """Answer a connection."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.welcome(request)
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of a page that was closed in the midst of an answer."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)

    def save(self, given: Corrections) -> SavedMask:
        """Save corrections: over the last save that they go on from, else in a file of their own."""
        with self.saving:
            before = self.last[1] if self.last and given.saved == self.saves else None
            saved = corrections.save(self.seen, given, before, self.folder)
            self.saves, self.last = self.saves + 1, (given, saved)
            return saved

    def description(self) -> dict[str, Any]:
        """Return what the page shows beside the pixels, and the corrections that were saved last."""
        chosen = self.seen.selection
        last = self.last[0] if self.last else None
        file = self.last[1].path if self.last else corrections.new_file(self.seen, self.folder)
        return {
            "file": self.seen.exposure.path.name,
            "camera": self.seen.exposure.description,
            "model": chosen.mask_reference.partition("/")[2],
            "compared": self.seen.compared,
            "threshold": chosen.threshold if last is None else last.threshold,
            "corrections": None if last is None else [one.model_dump() for one in last.chips],
            "saved": self.saves,
            "inpaint": chosen.inpaint_reference.removeprefix("inpaint/"),
            "saved_as": file.name,
            "remarks": [*chosen.reasons, *self.cautions],
            "chips": [_described(chip) for chip in self.seen.chips],
        }


def _described(seen: SeenChip) -> dict[str, Any]:
    height, width = seen.chip.pixels.shape
    part = seen.chip.part(np.s_[:: 1 + height // _SAMPLE_SIDE, :: 1 + width // _SAMPLE_SIDE])
    sample = part.pixels[~part.bad]
    low, high = zscale(sample)
    wide = max(high, float(np.percentile(sample, _WIDE_PERCENT))) if sample.size else high
    return {
        "label": seen.chip.label,
        "unit": f"{seen.chip.unit.quantity}{'/s' if seen.chip.unit.per_second else ''}",
        "height": height,
        "width": width,
        "zscale": [low, high],
        "wide": [low, wide],
    }


class _Answer(BaseHTTPRequestHandler):
    """Answers one request."""

    server: Viewer
    protocol_version = "HTTP/1.1"
    timeout = 60.0

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_POST(self) -> None:
        self._answer(self._post)

    def log_message(self, *_: Any) -> None:
        """Say nothing of requests."""

    def _answer(self, answer: Callable[[str], None]) -> None:
        secret, _, name = self.path.lstrip("/").partition("/")
        # a page of elsewhere that leads here names another host
        if self.headers.get("Host") != f"{ADDRESS}:{self.server.server_port}" or not secrets.compare_digest(
            secret.encode(), self.server.secret.encode()
        ):
            self._refuse(HTTPStatus.NOT_FOUND, "no such page: the address is that which deepcr-zoo view printed")
            return
        self.server.welcome(self.connection)
        try:
            answer(name)
        except DeepcrZooError as error:
            self._refuse(HTTPStatus.BAD_REQUEST, str(error))
        except (BrokenPipeError, ConnectionResetError):
            self.close_connection = True

    def _get(self, name: str) -> None:
        if name in _PAGE:
            page = resources.files(__package__) / "page" / (name or "viewer.html")
            self._send(page.read_bytes(), f"{_PAGE[name]}; charset=utf-8")
        elif name == "exposure.json":
            zscale_interval()  # loaded while the exposure is read
            if self.server.is_shown_within(LONGEST_WAIT_S):
                self._send_json(self.server.description())
            else:
                self._send_json({}, HTTPStatus.ACCEPTED)  # the page asks again
        elif found := re.fullmatch(rf"chips/(\d{{1,4}})/({'|'.join(_LAYERS)})", name):
            if found[2] == "image" or self._are_found([self._chip(int(found[1]))]):
                self._send_pixels(self._layer(int(found[1]), found[2]))
        else:
            self._refuse(HTTPStatus.NOT_FOUND, f"no such page: {name}")

    def _layer(self, number: int, layer: str) -> NDArray[Any]:
        seen = self._chip(number)
        found = seen.chip.pixels if layer == "image" else seen.scores if layer == "scores" else seen.other
        if found is None:
            raise UsageError("there is no other method: give --compare")
        return found

    def _post(self, name: str) -> None:
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch(r"\d{1,9}", length, re.ASCII) or int(length) > MOST_BYTES:
            self._refuse(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"expected at most {MOST_BYTES:,} bytes")
            return
        given = corrections.read_corrections(self.rfile.read(int(length)), self.server.seen)
        if name == "save":
            if not self._are_found(self.server.seen.chips):
                return
            saved = self.server.save(given)
            self._send_json({"path": str(saved.path), "pixels": saved.pixels, "saved": self.server.saves})
        elif found := re.fullmatch(r"chips/(\d{1,4})/(cleaned|detections)", name):
            number = int(found[1])
            seen = self._chip(number)
            if not self._are_found([seen]):
                return
            mask = corrections.corrected(seen, given.threshold, given.chips[number])
            if found[2] == "cleaned":
                self._send_pixels(self.server.seen.repainted(seen.chip, mask))
            else:
                count, places = corrections.detections(seen, mask)
                self._send_json({"count": count, "pixels": int(mask.sum()), "places": places.tolist()})
        else:
            self._refuse(HTTPStatus.NOT_FOUND, f"no such page: {name}")

    def _are_found(self, chips: Sequence[SeenChip]) -> bool:
        """True if the cosmic rays of chips are found; else the page is told to ask again."""
        if all(chip.is_found_within(LONGEST_WAIT_S) for chip in chips):
            return True
        self._send_json({}, HTTPStatus.ACCEPTED)
        return False

    def _chip(self, number: int) -> SeenChip:
        chips = self.server.seen.chips
        if number >= len(chips):
            raise UsageError(f"chip {number}: expected one of {len(chips)}")
        return chips[number]

    def _send_pixels(self, pixels: NDArray[Any]) -> None:
        self._send(np.ascontiguousarray(pixels, "<f4").data.cast("B"), "application/octet-stream")

    def _send_json(self, content: dict[str, Any], status: HTTPStatus = HTTPStatus.OK) -> None:
        self._send(json.dumps(content).encode(), "application/json", status)

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        self.close_connection = True  # what was not read of the request is no further one
        self._send_json({"error": reason}, status)

    def _send(self, content: bytes | memoryview, kind: str, status: HTTPStatus = HTTPStatus.OK) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.send_header("Cache-Control", "no-store")
        self.send_header("Content-Security-Policy", "default-src 'self'; img-src data:")
        self.send_header("Referrer-Policy", "no-referrer")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        self.wfile.write(content)
