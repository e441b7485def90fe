"""How users serve a stream: `sse_app`, `sse_route` and `producer_app`.

It knows ASGI applications; what travels in a stream is not its business. The applications ignore
the path, so one may be a whole server, be mounted, or be returned by a route.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Hashable, Iterable
from typing import TYPE_CHECKING, final

import trio

from ._broadcaster import Broadcaster
from ._core.client import Opened
from ._core.feed import Source, check_source, open_feed
from ._core.hub import Hub, hub_of
from ._core.jitter import expiry
from ._core.options import (
    NO_KEY,
    Snapshot,
    StreamOptions,
    check_interval,
    check_not_asynchronous,
)
from ._delivery.active_streams import ActiveStream
from ._delivery.heartbeat import HeartbeatTimer
from ._delivery.response import Delivery, Receive, Scope, Send
from ._http.asgi import judge, open_stream, read_request, send_answer, send_cut
from ._http.headers import Headers, ResponseHeaders
from ._http.negotiation import STREAM, Answer

if TYPE_CHECKING:
    import quart

    from .quart import Key, Topics


def sse_app(
    broadcaster: Broadcaster,
    *,
    topics: Iterable[str] = (),
    snapshot: Snapshot | None = None,
    key: Hashable = NO_KEY,
    key_limit: float = math.inf,
    max_age: float = math.inf,
    headers: Headers = (),
) -> SSEApp:
    """Return an ASGI application that streams all that is broadcast to whoever requests it.

    It is cheap to make: serve it as it is, mount it, await it from another ASGI application, or
    return it from a Starlette route, after that route's own checks.

    Args:
        broadcaster: Where the events come from.
        topics: What the client gets, besides the events without a topic.
        snapshot: Returns the (event type, data) pairs that a stream begins with, unless the browser
            gets just what it missed. It is called in the step in which the client is registered, so
            no change falls between the two; its events are checked as those of `broadcast` are.
        key: Whose stream it is (a user, a session), to be limited and disconnected by; or `None`.
        key_limit: How many streams of the key there may be at a time. A browser that is turned
            away comes back by itself.
        max_age: Seconds after which a stream ends, between two events, and the browser reconnects;
            each stream ends after 80 to 100 % of it.
        headers: Further response headers, as a mapping or (name, value) pairs, for instance
            ``{"access-control-allow-origin": "https://example.org"}``; those of a stream replace
            ours of the same name. If one names an origin, a page of that origin may resume by
            `fetch`, too: a preflight request is answered.

    Raises:
        ValueError: If `key_limit` is less than 1, `max_age` is not greater than 0, or a header is
            malformed or one that the stream itself depends on.
        TypeError: If `topics` is not a collection of `str`.
    """
    options = StreamOptions(
        topics=topics, snapshot=snapshot, key=key, key_limit=key_limit, max_age=max_age
    )
    return SSEApp(hub_of(broadcaster), options, ResponseHeaders(headers))


@final
class SSEApp:
    """An ASGI application that streams a broadcaster's events; made by `sse_app`."""

    def __init__(self, hub: Hub, options: StreamOptions, headers: ResponseHeaders) -> None:
        self._hub = hub
        self._options = options
        self._headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer an HTTP request or the server's lifespan; close a WebSocket."""
        request = await read_request(scope, receive, send, self._headers)
        if request is None:
            return
        try:
            opened: Opened | Answer | Exception = await open_stream(
                self._hub, self._options, request
            )
        except Exception as error:  # Of the snapshot.
            opened = error
        if isinstance(opened, Exception):
            # To a cut the browser comes back, to a 500 it does not.
            await send_cut(send, self._headers)
            raise opened
        if isinstance(opened, Answer):
            await send_answer(send, self._headers, opened)
            return
        timer = HeartbeatTimer(self._hub.options.heartbeat_interval)
        timer.expires_at = trio.current_time() + expiry(self._options.max_age)
        with ActiveStream(opened, request.streams) as stream:
            delivery = Delivery(stream, send, request.bypass, timer)
            await delivery.run(self._headers.start(STREAM), receive)


def sse_route(
    broadcaster: Broadcaster,
    *,
    topics: Topics = (),
    snapshot: Snapshot | None = None,
    key: Key = NO_KEY,
    key_limit: float = math.inf,
    max_age: float = math.inf,
) -> Callable[..., Awaitable[quart.Response]]:
    """Return a Quart-Trio view that streams all that is broadcast to whoever requests it.

    Needs the extra ``quart``. Use it as ``app.add_url_rule("/events",
    view_func=sse_route(broadcaster))``; each view has an endpoint name of its own, so that an app
    may have several. It takes whatever the framework passes, such as the variables of its route.

    Args:
        broadcaster: Where the events come from.
        topics: As for `sse_app`; or a function of the request that returns them, as in
            ``topics=lambda request: [request.view_args["room"]]``.
        snapshot: As for `sse_app`.
        key: As for `sse_app`; or a function of the request that returns it.
        key_limit: As for `sse_app`.
        max_age: As for `sse_app`.

    Raises:
        ValueError: As for `sse_app`.
        TypeError: As for `sse_app`.
    """
    from .quart import view

    hub_of(broadcaster)
    for name, option in (("topics", topics), ("key", key)):
        check_not_asynchronous(name, option)
    fixed = () if callable(topics) else topics
    options = StreamOptions(
        topics=fixed, snapshot=snapshot, key=key, key_limit=key_limit, max_age=max_age
    )
    return view(broadcaster, options, topics, key)


def producer_app(
    source: Source, *, heartbeat_interval: float | None = 15.0, headers: Headers = ()
) -> ProducerApp:
    """Return an ASGI application that streams to one client what is produced for it.

    It is for one request: return it from a Starlette route, or await it from an application of
    yours. The source is entered when the response begins, and left, which cancels what is in it,
    when the client leaves. It is never far ahead of a client that reads slowly. When its channel
    ends, the stream ends cleanly; if it fails, or is cancelled, the client sees a cut. A browser's
    EventSource reconnects after either, unless the last event has the id ``end``: the request that
    names it is answered 204, at which a browser stops.

    Args:
        source: A context manager that gives a channel, as what `trio.as_safe_channel` decorates.
        heartbeat_interval: Seconds of silence after which a comment is sent; `None` or `math.inf`
            for never.
        headers: Further response headers, as for `sse_app`.

    Raises:
        ValueError: If `heartbeat_interval` is not greater than 0, or a header as for `sse_app`.
        TypeError: If `source` is no such context manager.

    Example::

        @trio.as_safe_channel
        async def countdown():
            for n in range(10, 0, -1):
                yield ServerSentEvent("count", str(n))
                await trio.sleep(1)

        app = producer_app(countdown())
    """
    check_source(source)
    return ProducerApp(source, check_interval(heartbeat_interval), ResponseHeaders(headers))


@final
class ProducerApp:
    """An ASGI application that streams what is produced for one client; see `producer_app`."""

    def __init__(self, source: Source, heartbeat_interval: float, headers: ResponseHeaders) -> None:
        self._source = source
        self._is_used = False
        self._heartbeat_interval = heartbeat_interval
        self._headers = headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request for a stream; what is produced and no event is a `TypeError`."""
        request = await read_request(scope, receive, send, self._headers)
        if request is None:
            return
        answer = judge(request)
        if not answer.streams:
            await send_answer(send, self._headers, answer)
            return
        if self._is_used:
            raise RuntimeError(
                "this producer has had its client: call producer_app(source()) for each request"
            )
        self._is_used = True
        timer = HeartbeatTimer(self._heartbeat_interval)
        async with open_feed(self._source) as client:
            with ActiveStream(Opened(client), request.streams) as stream:
                delivery = Delivery(stream, send, request.bypass, timer, whole=True)
                await delivery.run(self._headers.start(answer), receive)
