"""`sse_app`: an event stream as an ASGI application.

It knows ASGI scopes and messages; what travels in the stream is not its business. It ignores the
path, so it may be a whole server, be mounted, or be returned by a route.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Hashable, Iterable
from functools import partial
from typing import final

from ._broadcaster import Broadcaster
from ._core.client import Client
from ._core.heartbeat import Silence, retirement
from ._core.options import check_limit, check_seconds, check_topics
from ._core.preamble import Snapshot
from ._core.relay import Recalled
from ._delivery.active_streams import Carried
from ._delivery.response import Delivery, Message, Receive, Scope, Send
from ._http.headers import Head, Headers
from ._http.negotiation import negotiate, read_last_event_id


def sse_app(
    broadcaster: Broadcaster,
    *,
    topics: Iterable[str] = (),
    snapshot: Snapshot | None = None,
    key: Hashable = None,
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
        key: Whose stream it is (a user's name, a session), to be limited and disconnected by;
            `None` for nobody's.
        key_limit: How many streams of the key there may be at a time. A browser that is turned
            away comes back by itself.
        max_age: Seconds after which a stream ends, between two events, and the browser reconnects;
            each stream ends after 80 to 100 % of it.
        headers: Further response headers as (name, value) pairs, for instance
            ``[("access-control-allow-origin", "https://example.org")]``; they replace ours of the
            same name.

    Raises:
        ValueError: If `key_limit` is less than 1, `max_age` is not greater than 0, or a header is
            malformed or one that the stream itself depends on.
        TypeError: If `topics` is not a collection of `str`.
    """
    check_limit("key_limit", key_limit)
    check_seconds("max_age", max_age)
    wanted = check_topics(topics)
    recall = partial(broadcaster.recall, topics=wanted)
    join = partial(broadcaster.open_stream, topics=wanted, snapshot=snapshot, key=key)
    admits = partial(broadcaster.admits, key, key_limit)
    return SSEApp(broadcaster, recall, join, admits, max_age, Head(headers))


@final
class SSEApp:
    """An ASGI application that streams a broadcaster's events; made by `sse_app`."""

    def __init__(
        self,
        broadcaster: Broadcaster,
        recall: Callable[[str | None], Awaitable[Recalled | None]],
        join: Callable[[Recalled], Client],
        admits: Callable[[], bool],
        max_age: float,
        head: Head,
    ) -> None:
        self._broadcaster = broadcaster
        self._recall = recall
        self._join = join
        self._admits = admits
        self._max_age = max_age
        self._head = head

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer an HTTP request or the server's lifespan; close a WebSocket."""
        is_request = scope["type"] == "http"
        recalled = await self._recall(_last_event_id(scope)) if is_request else None
        head = await begin(
            scope,
            receive,
            send,
            self._head,
            admitted=recalled is not None and self._admits(),
            come_back=self._broadcaster.draw_come_back(),
        )
        if head is None or recalled is None:
            return
        carried = Carried.of(scope)
        with self._join(recalled) as client:
            carried.add(client)
            try:
                silence = Silence(self._broadcaster.heartbeat_interval)
                silence.retire_at = retirement(self._max_age)
                await Delivery(client, scope, send, silence).run(head, receive)
            finally:
                carried.discard(client)


async def begin(
    scope: Scope, receive: Receive, send: Send, head: Head, *, admitted: bool, come_back: float
) -> Message | None:
    """Answer what needs no stream; for what does, return the head of the response.

    Args:
        scope: Of the request, or of whatever else the server asks.
        receive: The server's.
        send: The server's.
        head: The maker of heads.
        admitted: Whether the client may have a stream now.
        come_back: Seconds after which it may ask again, if not.
    """
    if scope["type"] != "http":
        await _answer_other(scope["type"], receive, send)
        return None
    accept = [value.decode("latin-1") for name, value in scope["headers"] if name == b"accept"]
    answer = negotiate(
        scope["method"],
        accept,
        _last_event_id(scope),
        admitted=admitted and not Carried.of(scope).closing,
        come_back=come_back,
    )
    if answer.streams:
        return head.message(answer)
    await send(head.message(answer))
    await send({"type": "http.response.body", "body": answer.body})
    return None


def _last_event_id(scope: Scope) -> str | None:
    return read_last_event_id(scope["headers"], scope.get("query_string", b""))


async def _answer_other(kind: str, receive: Receive, send: Send) -> None:
    if kind == "lifespan":
        for phase in ("startup", "shutdown"):
            await receive()
            await send({"type": f"lifespan.{phase}.complete"})
    elif kind == "websocket":
        await receive()
        await send({"type": "websocket.close", "reason": "this is an event stream: use HTTP"})
    else:
        raise ValueError(f"ASGI scope type {kind!r} is not supported")
