"""`sse_app`: an event stream as an ASGI application.

It knows ASGI scopes and headers; what travels in the stream is not its business. It ignores the
path, so it may be a whole server, be mounted, or be returned by a route.
"""

from __future__ import annotations

import math
import re
from collections.abc import Hashable, Iterable
from functools import lru_cache
from typing import Final, final

from ._broadcaster import Broadcaster
from ._carried import Carried
from ._delivery import Delivery, Message, Receive, Scope, Send
from ._direct import EXTENSION
from ._heartbeat import Silence, retirement
from ._negotiation import Answer, negotiate, read_last_event_id
from ._options import check_limit, check_seconds
from ._subscription import Client

_Headers = Iterable[tuple[str | bytes, str | bytes]]

# RFC 9110, sections 5.1 and 5.5.
_FIELD_NAME: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")
_FIELD_VALUE: Final = re.compile(rb"([\x21-\x7e\x80-\xff]+([\t ]+[\x21-\x7e\x80-\xff]+)*)?")

#: Fields that decide how the stream is read; a second opinion on them would break it.
_OURS: Final = frozenset({b"connection", b"content-length", b"content-type", b"transfer-encoding"})


def sse_app(
    broadcaster: Broadcaster,
    *,
    key: Hashable = None,
    key_limit: float = math.inf,
    max_age: float = math.inf,
    headers: _Headers = (),
) -> SSEApp:
    """Return an ASGI application that streams all that is broadcast to whoever requests it.

    It is cheap to make: serve it as it is, mount it, await it from another ASGI application, or
    return it from a Starlette route, after that route's own checks.

    Args:
        broadcaster: Where the events come from.
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
    """
    check_limit("key_limit", key_limit)
    check_seconds("max_age", max_age)
    return SSEApp(broadcaster, key, key_limit, max_age, headers)


@final
class SSEApp:
    """An ASGI application that streams a broadcaster's events; made by `sse_app`."""

    def __init__(
        self,
        broadcaster: Broadcaster,
        key: Hashable,
        key_limit: float,
        max_age: float,
        headers: _Headers,
    ) -> None:
        self._broadcaster = broadcaster
        self._key = key
        self._key_limit = key_limit
        self._max_age = max_age
        self._headers = [_field(name, value) for name, value in headers]
        for name, value in self._headers:
            _check_field(name, value)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer an HTTP request or the server's lifespan; close a WebSocket."""
        if scope["type"] != "http":
            await _answer_other(scope["type"], receive, send)
            return
        carried = Carried.of(scope)
        last_event_id = read_last_event_id(scope["headers"], scope.get("query_string", b""))
        answer = self._negotiate(scope, last_event_id, carried)
        if answer.streams:
            with self._broadcaster.open_stream(
                last_event_id=last_event_id, key=self._key
            ) as client:
                carried.add(client)
                try:
                    await self._deliver(client, scope, send).run(self._head(answer), receive)
                finally:
                    carried.discard(client)
        else:
            await send(self._head(answer))
            await send({"type": "http.response.body", "body": answer.body})

    def _negotiate(self, scope: Scope, last_event_id: str | None, carried: Carried) -> Answer:
        accept = [value.decode("latin-1") for name, value in scope["headers"] if name == b"accept"]
        return negotiate(
            scope["method"],
            accept,
            last_event_id,
            admitted=self._broadcaster.admits(self._key, self._key_limit) and not carried.closing,
            come_back=self._broadcaster.draw_come_back(),
        )

    def _deliver(self, client: Client, scope: Scope, send: Send) -> Delivery:
        door = scope.get("extensions", {}).get(EXTENSION)
        silence = Silence(self._broadcaster.heartbeat_interval, retire_at=retirement(self._max_age))
        return Delivery(client, send, silence, door)

    def _head(self, answer: Answer) -> Message:
        replaced = {name for name, _ in self._headers}
        ours = [_field(name, value) for name, value in answer.headers]
        return {
            "type": "http.response.start",
            "status": answer.status,
            "headers": [field for field in ours if field[0] not in replaced] + self._headers,
        }


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


@lru_cache  # So that a thousand streams share them.
def _field(name: str | bytes, value: str | bytes) -> tuple[bytes, bytes]:
    return _latin(name).lower(), _latin(value)


def _latin(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("latin-1")


def _check_field(name: bytes, value: bytes) -> None:
    if not (_FIELD_NAME.fullmatch(name) and _FIELD_VALUE.fullmatch(value)):
        raise ValueError(f"not an HTTP header: {name!r}: {value!r}")
    if name in _OURS:
        raise ValueError(f"{name.decode()!r} is set by the stream itself; leave it out of headers")
