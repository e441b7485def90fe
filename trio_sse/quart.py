"""Event streams in Quart-Trio routes: what `Broadcaster.stream` and `sse_route` return.

Needs the extra ``quart``; those two import it when they are called. The body is a class, not an
asynchronous generator: Quart enters and leaves it in one task, so that a client is registered
exactly while its response is sent.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import ExitStack
from functools import partial
from types import TracebackType
from typing import Any, cast, final

import quart
import trio
from quart.wrappers.response import ResponseBody

from ._broadcaster import Broadcaster
from ._carried import Carried
from ._chunks import Chunks
from ._direct import EXTENSION, PROBE, DirectStream, Door, prove
from ._heartbeat import HEARTBEAT, Silence
from ._negotiation import negotiate
from ._subscription import Client


def view(broadcaster: Broadcaster) -> Callable[[], Awaitable[quart.Response]]:
    """Return a view function with an endpoint name of its own; `trio_sse.sse_route` is its door."""

    async def events() -> quart.Response:
        return await broadcaster.stream(quart.request)

    events.__name__ = f"events_{id(events):x}"
    return events


def stream_response(broadcaster: Broadcaster, request: quart.Request) -> quart.Response:
    """Return the answer to a request: an endless stream, unless negotiation says otherwise."""
    scope = cast("Mapping[str, Any]", request.scope)
    closing = broadcaster.closed or Carried.of(scope).closing
    answer = negotiate(request.method, request.headers.getlist("accept"), closing=closing)
    body = _StreamBody(broadcaster, scope) if answer.streams else answer.body or _Nothing()
    response = quart.Response(body, answer.status, dict(answer.headers))
    # Quart would cut the stream after RESPONSE_TIMEOUT, 60 seconds by default.
    response.timeout = None
    return response


@final
class _StreamBody(ResponseBody):
    """The body of one response; when the client leaves, Quart cancels the task that reads it."""

    def __init__(self, broadcaster: Broadcaster, scope: Mapping[str, Any]) -> None:
        self._interval = broadcaster.heartbeat_interval
        self._broadcaster = broadcaster
        self._carried = Carried.of(scope)
        self._door: Door | None = scope.get("extensions", {}).get(EXTENSION)
        self._exit_stack = ExitStack()
        self._client: Client
        self._chunks: Chunks
        self._probed = False
        self._attention = trio.lowlevel.ParkingLot()

    async def __aenter__(self) -> AsyncIterator[bytes]:
        await trio.lowlevel.checkpoint()
        # Here and not in the view: a view's response may never be sent.
        if self._broadcaster.closed:
            return _Nothing()
        self._client = self._exit_stack.enter_context(self._broadcaster.open_stream())
        self._carried.add(self._client)
        self._exit_stack.callback(self._carried.discard, self._client)
        self._client.cancel_scope = self._exit_stack.enter_context(trio.CancelScope())
        self._chunks = Chunks(self._client)
        return self

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._door is not None:
            if not self._probed:
                return await self._probe(self._door)
            await self._try_directly(self._door)
            self._door = None
        with trio.move_on_after(self._interval):
            return await anext(self._chunks)
        return HEARTBEAT.encode()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._exit_stack.__exit__(exc_type, exc, traceback):
            # Ended by force, perhaps amid a send: Quart would add a last chunk, and the client
            # would take a cut event for a clean end.
            if self._door is None:
                raise trio.BrokenResourceError("the stream was ended by force")
            self._door.abort()

    async def _probe(self, door: Door) -> bytes:
        await trio.lowlevel.checkpoint()
        self._probed = True
        door.expect(PROBE)
        return PROBE

    async def _try_directly(self, door: Door) -> None:
        """Deliver all past Quart if the door opens; else return."""
        if await prove(door):
            silence = Silence(self._interval, trio.current_time())
            direct = DirectStream(self._client, door, silence, self._attend_soon)
            try:
                await silence.watch(partial(self._attend, direct), direct.beat)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                door.abort()
            finally:
                direct.detach()
            raise StopAsyncIteration

    def _attend_soon(self) -> None:
        self._attention.unpark()

    async def _attend(self, direct: DirectStream) -> None:
        while not await direct.attend():
            await self._attention.park()


@final
class _Nothing(ResponseBody, AsyncIterator[bytes]):
    """The body that ends at once, and has no length: of a HEAD, or after the broadcaster's end."""

    async def __aenter__(self) -> AsyncIterator[bytes]:
        await trio.lowlevel.checkpoint()
        return self

    async def __anext__(self) -> bytes:
        await trio.lowlevel.checkpoint()
        raise StopAsyncIteration

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pass
