"""Event streams in Quart-Trio routes: what `Broadcaster.stream` and `sse_route` return.

Needs the extra ``quart``; those two import it when they are called. The body is a class, not an
asynchronous generator: Quart enters and leaves it in one task, so that a client is registered
exactly while its response is sent.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack
from types import TracebackType
from typing import final

import quart
import trio
from quart.wrappers.response import ResponseBody

from ._broadcaster import Broadcaster
from ._delivery import HEARTBEAT, Chunks
from ._negotiation import negotiate


def view(broadcaster: Broadcaster) -> Callable[[], Awaitable[quart.Response]]:
    """Return a view function with an endpoint name of its own; `trio_sse.sse_route` is its door."""

    async def events() -> quart.Response:
        return await broadcaster.stream(quart.request)

    events.__name__ = f"events_{id(events):x}"
    return events


def stream_response(broadcaster: Broadcaster, request: quart.Request) -> quart.Response:
    """Return the answer to a request: an endless stream, unless negotiation says otherwise."""
    answer = negotiate(
        request.method, request.headers.getlist("accept"), closing=broadcaster.closed
    )
    body = _StreamBody(broadcaster) if answer.streams else answer.body or None
    response = quart.Response(body, answer.status, dict(answer.headers))
    # Quart would cut the stream after RESPONSE_TIMEOUT, 60 seconds by default.
    response.timeout = None
    return response


@final
class _StreamBody(ResponseBody):
    """The body of one response; when the client leaves, Quart cancels the task that reads it."""

    def __init__(self, broadcaster: Broadcaster) -> None:
        self._broadcaster = broadcaster
        self._exit_stack = ExitStack()
        self._chunks: AsyncIterator[bytes]

    async def __aenter__(self) -> AsyncIterator[bytes]:
        await trio.lowlevel.checkpoint()
        # Here and not in the view: a view's response may never be sent.
        client = self._exit_stack.enter_context(self._broadcaster.open_stream())
        self._exit_stack.enter_context(client.cancel_scope)
        self._chunks = Chunks(client)
        return self

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        with trio.move_on_after(self._broadcaster.heartbeat_interval):
            return await anext(self._chunks)
        return HEARTBEAT.encode()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._exit_stack.__exit__(exc_type, exc, traceback):
            # The broadcaster's forced end came amid a send: without an error, Quart would add a
            # last chunk, and the client would take a cut event for a clean end.
            raise trio.BrokenResourceError("cut: aclose() of the broadcaster was cancelled")
