"""Event streams in Quart-Trio routes: what `Broadcaster.stream` and `sse_route` return.

Needs the extra ``quart``; those two import it when they are called. A client is registered in the
view, before the head of its response is sent. The body is a class, not an asynchronous generator:
Quart enters and leaves it in one task.
"""

from __future__ import annotations

import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterable, Mapping
from contextlib import AsyncExitStack
from contextvars import Context, copy_context
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, cast, final

import trio
from attrs import evolve
from trio.lowlevel import enable_ki_protection

from ._core import missing_extra
from ._core.client import Client, Opened
from ._core.feed import Source, check_source, open_feed
from ._core.hub import hub_of
from ._core.jitter import expiry
from ._core.options import StreamOptions, check_interval
from ._core.run_guard import check_on_trio
from ._delivery.active_streams import ActiveStream
from ._delivery.bypass import Bypass
from ._delivery.chunks import Chunks
from ._delivery.direct import PROBE, DirectStream, announce
from ._delivery.heartbeat import HeartbeatTimer
from ._http.asgi import Request, judge, open_stream
from ._http.negotiation import STREAM, Answer

try:
    import quart
    from quart.wrappers.response import ResponseBody
except ModuleNotFoundError as error:
    raise missing_extra(__name__, "quart", error) from error

if TYPE_CHECKING:
    from ._broadcaster import Broadcaster

#: Enters what a response is about into its stack, and returns its stream.
_Enter = Callable[[AsyncExitStack], Awaitable[Opened]]


#: An option of all streams of a route, or a function of the request that returns it.
Topics = Iterable[str] | Callable[[quart.Request], Iterable[str]]
Key = Hashable | Callable[[quart.Request], Hashable]


def view(
    broadcaster: Broadcaster, options: StreamOptions, topics: Topics, key: Key
) -> Callable[..., Awaitable[quart.Response]]:
    """Return a view function with an endpoint name of its own, for `trio_sse.sse_route`."""

    async def events(*_: object, **__: object) -> quart.Response:
        request = quart.request
        own = evolve(
            options,
            topics=topics(request) if callable(topics) else options.topics,
            key=key(request) if callable(key) else options.key,
        )
        return await stream_response(broadcaster, request, own)

    events.__name__ = f"events_{id(events):x}"
    return events


async def stream_response(
    broadcaster: Broadcaster, request: quart.Request, options: StreamOptions
) -> quart.Response:
    """Return the answer to a request: what is broadcast, unless negotiation says otherwise."""
    hub, asked = hub_of(broadcaster), _read(request)
    timer = HeartbeatTimer(hub.options.heartbeat_interval)
    timer.expires_at = trio.current_time() + expiry(options.max_age)
    try:
        opened = await open_stream(hub, options, asked)
    except Exception as error:  # Of the snapshot.
        return _response(STREAM, _Whole(PROBE, error))
    if isinstance(opened, Answer):
        return _response(opened, _Whole(opened.body))
    body = _StreamBody(asked, timer, partial(_return, opened))
    _guard(opened.client, body)
    return _response(STREAM, body)


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
        TypeError: If `request` is not Quart's, or `source` no source.
    """
    check_on_trio()
    check_source(source)
    timer = HeartbeatTimer(check_interval(heartbeat_interval))
    asked = _read(request)
    answer = judge(asked)
    if not answer.streams:
        return _response(answer, _Whole(answer.body))
    return _response(answer, _StreamBody(asked, timer, partial(_produce, source, copy_context())))


def _read(request: quart.Request) -> Request:
    if not isinstance(cast("object", request), quart.Request):
        raise TypeError(
            f"quart.request is wanted, got {request!r}; in Starlette and FastAPI return "
            "sse_app(broadcaster) or producer_app(source) from the route"
        )
    return Request.of(cast("Mapping[str, Any]", request.scope))


def _response(answer: Answer, body: ResponseBody) -> quart.Response:
    response = quart.Response(body, answer.status, dict(answer.headers))
    if "content-type" not in dict(answer.headers):  # Quart names a type, even of nothing.
        del response.headers["content-type"]
    # Quart would cut the stream after RESPONSE_TIMEOUT, 60 seconds by default.
    response.timeout = None
    return response


def _guard(client: Client, body: _StreamBody) -> None:
    """Let a client leave if its response is never sent: if that is dropped, or its task ends."""
    registry = client.registry
    registry.expect_response(client)
    leave = weakref.finalize(body, partial(registry.changes.run, client.close))
    leave.atexit = False


async def _return(opened: Opened, _: AsyncExitStack) -> Opened:
    await trio.lowlevel.checkpoint()
    return opened


async def _produce(source: Source, context: Context, stack: AsyncExitStack) -> Opened:
    """Enter a source, in the context of the view, which has returned."""
    for variable, value in context.items():
        variable.set(value)
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
        opened = await self._enter(self._exit_stack)
        if opened.client.closed:  # Since the view: the broadcaster has ended, or was counted.
            return await _Whole(judge(self._request, admitted=False).body).__aenter__()
        self._stream = self._exit_stack.enter_context(ActiveStream(opened, self._request.streams))
        self._stream.end_by(self._exit_stack.enter_context(trio.CancelScope()))
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
        return announce(bypass, self._chunks)

    async def _deliver(self, bypass: Bypass) -> None:
        """Deliver all past Quart, which hears of it when the stream has ended."""
        self._timer.written_at = trio.current_time()
        client = self._stream.client
        direct = DirectStream(client, self._chunks, bypass, self._timer, self._attend_soon)
        wait = partial(self._attend, direct)
        try:
            await self._timer.watch(wait, direct.beat, client.end)
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
        while await direct.attend():
            await self._attention.park()


@final
class _Whole(ResponseBody, AsyncIterator[bytes]):
    """A body that is known whole, of a response that says its length itself, if at all.

    Args:
        body: All of it.
        error: What cuts the response after it.
    """

    def __init__(self, body: bytes, error: Exception | None = None) -> None:
        self._chunks = [body] if body else []
        self._error = error

    async def __aenter__(self) -> AsyncIterator[bytes]:
        await trio.lowlevel.checkpoint()
        return self

    async def __anext__(self) -> bytes:
        await trio.lowlevel.checkpoint()
        if self._chunks:
            return self._chunks.pop()
        raise self._error or StopAsyncIteration()

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        pass
