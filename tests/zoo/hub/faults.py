"""What can go wrong on the way from a Hub to its user: each fault turns a good answer into a bad one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

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


def size_not_announced(response: Response) -> Response:
    """What a mirror does that leaves out the header from which the client would notice a truncated file."""
    del response.headers["X-Linked-Size"]
    return response


def login_page(_: Response) -> Response:
    """What a captive portal does: it answers everything, and with a page of its own."""
    return Response("<html>Please log in to this network.</html>", media_type="text/html")


def unavailable(_: Response) -> Response:
    return Response(status_code=503)


def forbidden(_: Response) -> Response:
    """What the client does not try again."""
    return Response(status_code=403)


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
