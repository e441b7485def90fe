"""Event streams in Quart-Trio routes: what `Broadcaster.stream` and `sse_route` return.

Needs the extra ``quart``; those two import it when they are called. The body is a class, not an
asynchronous generator: Quart enters and leaves it in one task, so that a client is registered
exactly while its response is sent.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from types import TracebackType
from typing import Any, cast, final

import quart
import trio
from quart.wrappers.response import ResponseBody

from ._broadcaster import Broadcaster
from ._core.client import Client
from ._core.heartbeat import Silence, come_back, retirement
from ._core.options import check_interval
from ._core.relay import Recalled
from ._delivery.active_streams import Carried
from ._delivery.chunks import Chunks
from ._delivery.direct import EXTENSION, PROBE, DirectStream, Door, prove
from ._http.negotiation import negotiate, read_last_event_id
from ._producer import Source, produce

#: Enters what a response is about into its stack, and returns the client; `None` if it is over.
_Enter = Callable[[AsyncExitStack], Awaitable[Client | None]]


def view(broadcaster: Broadcaster) -> Callable[[], Awaitable[quart.Response]]:
    """Return a view function with an endpoint name of its own; `trio_sse.sse_route` is its door."""

    async def events() -> quart.Response:
        return await broadcaster.stream(quart.request)

    events.__name__ = f"events_{id(events):x}"
    return events


def stream_response(
    broadcaster: Broadcaster,
    request: quart.Request,
    recall: Callable[[str | None], Awaitable[Recalled | None]],
    join: Callable[[Recalled], Client],
    *,
    admitted: bool,
    max_age: float,
) -> quart.Response:
    """Return the answer to a request: what is broadcast, unless negotiation says otherwise."""
    enter = partial(_join, broadcaster, partial(recall, _last_event_id(request)), join)
    silence = Silence(broadcaster.heartbeat_interval, retire_at=retirement(max_age))
    come_back = broadcaster.draw_come_back()
    return _respond(request, enter, silence, admitted=admitted, come_back=come_back)


def producer_response(
    request: quart.Request, source: Source, *, heartbeat_interval: float | None = 15.0
) -> quart.Response:
    """Return the response of a Quart-Trio route: what is produced for this one client.

    Args:
        request: The request, `quart.request`.
        source: What produces, as for `trio_sse.producer_app`.
        heartbeat_interval: As for `trio_sse.producer_app`.

    Raises:
        ValueError: If `heartbeat_interval` is not greater than 0.
    """
    silence = Silence(check_interval(heartbeat_interval))
    enter = partial(_produce, source)
    return _respond(request, enter, silence, admitted=True, come_back=come_back())


def _respond(
    request: quart.Request,
    enter: _Enter,
    silence: Silence,
    *,
    admitted: bool,
    come_back: float,
) -> quart.Response:
    scope = cast("Mapping[str, Any]", request.scope)
    answer = negotiate(
        request.method,
        request.headers.getlist("accept"),
        _last_event_id(request),
        admitted=admitted and not Carried.of(scope).closing,
        come_back=come_back,
    )
    body = _StreamBody(enter, scope, silence) if answer.streams else answer.body or _Nothing()
    response = quart.Response(body, answer.status, dict(answer.headers))
    # Quart would cut the stream after RESPONSE_TIMEOUT, 60 seconds by default.
    response.timeout = None
    return response


def _last_event_id(request: quart.Request) -> str | None:
    scope = cast("Mapping[str, Any]", request.scope)
    return read_last_event_id(scope["headers"], scope["query_string"])


async def _join(
    broadcaster: Broadcaster,
    recall: Callable[[], Awaitable[Recalled | None]],
    join: Callable[[Recalled], Client],
    stack: AsyncExitStack,
) -> Client | None:
    """Register a client until the stack ends, unless it must come back later."""
    recalled = await recall()
    if recalled is None or broadcaster.closed:
        return None
    return stack.enter_context(join(recalled))


async def _produce(source: Source, stack: AsyncExitStack) -> Client | None:
    """Let a source produce for a client until the stack ends."""
    return await stack.enter_async_context(produce(source))


@final
class _StreamBody(ResponseBody):
    """The body of one response; when the client leaves, Quart cancels the task that reads it."""

    def __init__(
        self,
        enter: _Enter,
        scope: Mapping[str, Any],
        silence: Silence,
    ) -> None:
        self._enter = enter
        self._silence = silence
        self._carried = Carried.of(scope)
        self._door: Door | None = scope.get("extensions", {}).get(EXTENSION)
        self._exit_stack = AsyncExitStack()
        self._client: Client
        self._chunks: Chunks
        self._opened: trio.Event | None = None
        self._ended = False
        self._attention = trio.lowlevel.ParkingLot()

    async def __aenter__(self) -> AsyncIterator[bytes]:
        # Here and not in the view: a view's response may never be sent.
        client = await self._enter(self._exit_stack)
        if client is None:
            return _Nothing()
        self._client = client
        self._carried.add(client)
        self._exit_stack.callback(self._carried.discard, client)
        client.cancel_scope = self._exit_stack.enter_context(trio.CancelScope())
        self._chunks = Chunks(client)
        return self

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._ended:
            await trio.lowlevel.checkpoint()
            raise StopAsyncIteration
        if self._door is not None:
            if self._opened is None:
                return await self._probe(self._door)
            if await prove(self._opened):
                await self._deliver(self._door)
                return self._last_words()
            self._door = None
        return await self._next()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # What is left here is cancelled first, and so comes to its end.
        if await self._exit_stack.__aexit__(exc_type, exc, traceback):  # noqa: ASYNC102
            # Ended by force, perhaps amid a send: Quart would add a last chunk, and the client
            # would take a cut event for a clean end.
            if self._door is None:
                raise trio.BrokenResourceError("the stream was ended by force")
            self._door.abort()

    async def _probe(self, door: Door) -> bytes:
        await trio.lowlevel.checkpoint()
        first = self._chunks.first() or PROBE
        self._opened = door.expect(first)
        return first

    async def _deliver(self, door: Door) -> None:
        """Deliver all past Quart, which hears of it when the stream has ended."""
        self._silence.written_at = trio.current_time()
        direct = DirectStream(self._client, self._chunks, door, self._silence, self._attend_soon)
        wait = partial(self._attend, direct)
        try:
            await self._silence.watch(wait, direct.beat, self._client.leave)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            door.abort()
        finally:
            direct.detach()

    async def _next(self) -> bytes:
        silence = self._silence
        while True:
            with trio.move_on_at(min(trio.current_time() + silence.interval, silence.retire_at)):
                try:
                    return await anext(self._chunks)
                except StopAsyncIteration:
                    return self._last_words()
            if trio.current_time() < silence.retire_at:
                return self._client.heartbeat().encode()
            silence.retire_at = math.inf
            self._client.leave()

    def _last_words(self) -> bytes:
        self._ended = True
        if not self._client.last_words:
            raise StopAsyncIteration
        return self._client.last_words

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
