"""What can go wrong on the way from a Hub to its user: each fault turns a good answer into a bad one."""

from __future__ import annotations

import asyncio
import gzip
import json
from collections.abc import Callable
from typing import Any

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

Fault = Callable[[Response], Response]


def corrupted(response: Response) -> Response:
    """The right number of bytes, one of them wrong: what a failing disk or memory does."""
    body = bytes(response.body)
    return _with_body(response, body[:-1] + bytes([body[-1] ^ 0xFF]))


def truncated(response: Response) -> Response:
    """Half of the bytes, as if that were all."""
    return _with_body(response, bytes(response.body[: len(response.body) // 2]))


def login_page(_: Response) -> Response:
    """What a captive portal does: it answers everything, and with a page of its own."""
    return Response("<html>Please log in to this network.</html>", media_type="text/html")


def unavailable(_: Response) -> Response:
    return Response(status_code=503)


def forbidden(_: Response) -> Response:
    """What the client does not try again."""
    return Response(status_code=403)


class with_headers:  # noqa: N801 - used as a function, like the others
    """The answer has other headers besides, as a hostile Hub or one between could send them."""

    def __init__(self, **headers: str) -> None:
        self._headers = {name.replace("_", "-"): value for name, value in headers.items()}

    def __call__(self, response: Response) -> Response:
        response.headers.update(self._headers)
        return response


class edited:  # noqa: N801 - used as a function, like the others
    """What the answer says in JSON is changed in place."""

    def __init__(self, change: Callable[[Any], object]) -> None:
        self._change = change

    def __call__(self, response: Response) -> Response:
        content = json.loads(response.body)
        self._change(content)
        return _with_body(response, json.dumps(content).encode())


class answering:  # noqa: N801 - used as a function, like the others
    """Another answer altogether."""

    def __init__(self, content: bytes, status: int = 200, **headers: str) -> None:
        self._content, self._status = content, status
        self._headers = {name.replace("_", "-"): value for name, value in headers.items()}

    def __call__(self, response: Response) -> Response:
        kept = {"X-Repo-Commit": response.headers["X-Repo-Commit"]} if "X-Repo-Commit" in response.headers else {}
        return Response(self._content, self._status, kept | self._headers)


def packed(response: Response) -> Response:
    """The body as gzip, although that was not asked for."""
    other = _with_body(response, gzip.compress(bytes(response.body)))
    other.headers["Content-Encoding"] = "gzip"
    return other


class redirected:  # noqa: N801 - used as a function, like the others
    """The answer is elsewhere, with the same path."""

    def __init__(self, url: str) -> None:
        self._url = url

    def __call__(self, response: Response) -> Response:
        return Response(status_code=307, headers={"Location": self._url})


class _Interrupted(Response):
    """Sends the head of an answer and half of its body."""

    def __init__(self, response: Response) -> None:
        self._whole = response

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        whole = self._whole
        await send({"type": "http.response.start", "status": whole.status_code, "headers": whole.raw_headers})
        await send({"type": "http.response.body", "body": bytes(whole.body[: len(whole.body) // 2]), "more_body": True})


class broken_off(_Interrupted):  # noqa: N801 - used as a function, like the others
    """The connection breaks in the middle."""


class stalled(_Interrupted):  # noqa: N801 - used as a function, like the others
    """Nothing more comes after the middle, until the client goes away."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await super().__call__(scope, receive, send)
        while (await receive())["type"] != "http.disconnect":
            pass


class _Silent(Response):
    """Sends nothing at all, until the client goes away."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await _disconnected(receive)


def silent(_: Response) -> Response:
    """No answer."""
    return _Silent()


class _Endless(Response):
    """Sends a body without a size and without an end, a piece at a time, until the client goes away."""

    def __init__(self, piece: bytes, pause_s: float) -> None:
        self._piece, self._pause_s = piece, pause_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        gone = asyncio.ensure_future(_disconnected(receive))
        while not gone.done():
            await send({"type": "http.response.body", "body": self._piece, "more_body": True})
            await asyncio.sleep(self._pause_s)


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def endless(_: Response) -> Response:
    """More and more bytes."""
    return _Endless(bytes(100_000), 0.001)


def dripping(_: Response) -> Response:
    """A byte now and then."""
    return _Endless(b"x", 0.05)


class Together:
    """No fault, but the worst timing: answers wait until as many clients have asked."""

    def __init__(self, clients: int) -> None:
        self._barrier = asyncio.Barrier(clients)

    def __call__(self, response: Response) -> Response:
        return _Held(response, self._barrier)


class _Held(Response):
    def __init__(self, response: Response, barrier: asyncio.Barrier) -> None:
        self._response = response
        self._barrier = barrier

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._barrier.wait()
        await self._response(scope, receive, send)


def _with_body(response: Response, body: bytes) -> Response:
    headers = {name: value for name, value in response.headers.items() if name != "content-length"}
    return Response(body, response.status_code, headers)
