"""Event streams in Quart-Trio routes: what `Broadcaster.stream` and `sse_route` return.

Needs the extra ``quart``; those two import it when they are called. The body is a class, not an
asynchronous generator: Quart enters and leaves it in one task, so that a client is registered
exactly while its response is sent.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast, final

import quart
import trio
from quart.wrappers.response import ResponseBody
from trio.lowlevel import enable_ki_protection

from ._core.client import Opened
from ._core.feed import Source, open_feed
from ._core.hub import Hub, hub_of
from ._core.jitter import expiry
from ._core.options import StreamOptions, check_interval
from ._delivery.active_streams import ActiveStream
from ._delivery.bypass import Bypass
from ._delivery.chunks import Chunks
from ._delivery.direct import PROBE, DirectStream
from ._delivery.heartbeat import HeartbeatTimer
from ._http.asgi import Request, judge, judge_for, open_stream
from ._http.negotiation import Answer

if TYPE_CHECKING:
    from ._broadcaster import Broadcaster

#: Enters what a response is about into its stack; or returns what is to be sent instead.
_Enter = Callable[[AsyncExitStack], Awaitable[Opened | Answer]]


def view(broadcaster: Broadcaster) -> Callable[[], Awaitable[quart.Response]]:
    """Return a view function with an endpoint name of its own, for `trio_sse.sse_route`."""

    async def events() -> quart.Response:
        return await broadcaster.stream(quart.request)

    events.__name__ = f"events_{id(events):x}"
    return events


def stream_response(
    broadcaster: Broadcaster, request: quart.Request, options: StreamOptions
) -> quart.Response:
    """Return the answer to a request: what is broadcast, unless negotiation says otherwise."""
    hub, asked = hub_of(broadcaster), _read(request)
    answer = judge_for(hub, options, asked)
    timer = HeartbeatTimer(hub.options.heartbeat_interval)
    timer.expires_at = trio.current_time() + expiry(options.max_age)
    return _respond(answer, asked, timer, partial(_open, hub, options, asked))


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
    timer = HeartbeatTimer(check_interval(heartbeat_interval))
    asked = _read(request)
    answer = judge(asked)
    return _respond(answer, asked, timer, partial(_produce, source))


def _read(request: quart.Request) -> Request:
    return Request.of(cast("Mapping[str, Any]", request.scope))


def _respond(
    answer: Answer, request: Request, timer: HeartbeatTimer, enter: _Enter
) -> quart.Response:
    body = _StreamBody(request, timer, enter) if answer.streams else _Whole(answer.body)
    response = quart.Response(body, answer.status, dict(answer.headers))
    if not answer.headers:  # Quart names a type, even of nothing.
        del response.headers["content-type"]
    # Quart would cut the stream after RESPONSE_TIMEOUT, 60 seconds by default.
    response.timeout = None
    return response


async def _open(
    hub: Hub, options: StreamOptions, request: Request, _: AsyncExitStack
) -> Opened | Answer:
    return await open_stream(hub, options, request)


async def _produce(source: Source, stack: AsyncExitStack) -> Opened:
    return Opened(await stack.enter_async_context(open_feed(source)))


@final
class _StreamBody(ResponseBody):
    """The body of one response; when the client leaves, Quart cancels the task that reads it."""

    def __init__(self, request: Request, timer: HeartbeatTimer, enter: _Enter) -> None:
        self._request = request
        self._timer = timer
        self._enter = enter
        self._bypass: Bypass | None = request.bypass
        self._exit_stack = AsyncExitStack()
        self._stream: ActiveStream
        self._chunks: Chunks
        #: What goes out next, if that is known already; nothing, if that is the end.
        self._next: bytes | None = None
        self._probed = False
        self._ended = False
        self._attention = trio.lowlevel.ParkingLot()

    async def __aenter__(self) -> AsyncIterator[bytes]:
        # Here and not in the view: a view's response may never be sent.
        opened = await self._enter(self._exit_stack)
        if isinstance(opened, Answer):
            return await _Whole(opened.body).__aenter__()
        self._stream = self._exit_stack.enter_context(ActiveStream(opened, self._request.streams))
        self._stream.cancel_scope = self._exit_stack.enter_context(trio.CancelScope())
        self._chunks = Chunks(self._stream)
        return self

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        if self._ended:
            await trio.lowlevel.checkpoint()
            raise StopAsyncIteration
        if self._bypass is not None:
            if not self._probed:
                return await self._probe(self._bypass)
            if await self._bypass.wait_open():
                await self._deliver(self._bypass)
                return self._epilogue()
            self._bypass = None
        self._timer.written_at = trio.current_time()
        await self._timer.watch(self._take, self._beat, self._stream.client.end)
        chunk, self._next = self._next, None
        return self._epilogue() if chunk is None else chunk

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
            if self._bypass is None:
                raise trio.BrokenResourceError("the stream was ended by force")
            self._bypass.abort()

    async def _probe(self, bypass: Bypass) -> bytes:
        await trio.lowlevel.checkpoint()
        self._probed = True
        first = self._chunks.first() or PROBE
        bypass.await_echo(first)
        return first

    async def _deliver(self, bypass: Bypass) -> None:
        """Deliver all past Quart, which hears of it when the stream has ended."""
        self._timer.written_at = trio.current_time()
        client = self._stream.client
        direct = DirectStream(client, self._chunks, bypass, self._timer, self._attend_soon)
        wait = partial(self._attend, direct)
        try:
            await self._timer.watch(wait, direct.beat, client.end)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            bypass.abort()
        finally:
            direct.detach()

    async def _take(self) -> None:
        """Wait for the next chunk; at the end there is none."""
        if self._next is None:
            self._next = await anext(self._chunks, None)
        else:
            await trio.lowlevel.checkpoint()

    def _beat(self) -> float:
        if not self._chunks.queued:
            self._next = self._stream.client.heartbeat().encode()
        return trio.current_time()

    def _epilogue(self) -> bytes:
        self._ended = True
        if not self._stream.epilogue:
            raise StopAsyncIteration
        return self._stream.epilogue

    def _attend_soon(self, _: DirectStream) -> None:
        self._attention.unpark()

    @enable_ki_protection  # A broadcast must not call between a look and the wait for a call.
    async def _attend(self, direct: DirectStream) -> None:
        while not await direct.attend():
            await self._attention.park()


@final
class _Whole(ResponseBody, AsyncIterator[bytes]):
    """A body that is known whole, of a response that says its length itself, if at all."""

    def __init__(self, body: bytes) -> None:
        self._chunks = [body] if body else []

    async def __aenter__(self) -> AsyncIterator[bytes]:
        await trio.lowlevel.checkpoint()
        return self

    async def __anext__(self) -> bytes:
        await trio.lowlevel.checkpoint()
        if self._chunks:
            return self._chunks.pop()
        raise StopAsyncIteration

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pass
