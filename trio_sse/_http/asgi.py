"""What an event stream reads of an ASGI request, and how it is let in or turned away.

Each request is read once. Negotiation comes first, so that a relay is asked for nobody who gets no
stream. It knows ASGI's scopes and messages; it does not know how events travel.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Any, Final, final
from urllib.parse import parse_qsl

import attrs
import trio

from .._core.client import Opened
from .._core.hub import Hub
from .._core.jitter import TimeRange, retry_delay
from .._core.options import StreamOptions
from .._core.run_guard import NOT_ON_TRIO
from .._delivery import active_streams, bypass
from .._delivery.active_streams import ActiveStreams
from .._delivery.bypass import Bypass
from .._delivery.direct import PROBE
from .._delivery.response import Receive, Scope, Send
from .headers import ResponseHeaders
from .negotiation import STREAM, Answer, negotiate

_logger = logging.getLogger("trio_sse")

#: Characters of a last event ID that are looked at: one that is longer is nobody's.
_MAX_ID: Final = 1024


@final
@attrs.frozen(eq=False)
class Request:
    """What an event stream has to know of a request."""

    method: str
    accept: list[str]
    """The values of its `Accept` headers."""

    last_event_id: str | None
    """The id of the last event that the client has seen, if it says so."""

    streams: ActiveStreams
    """Those of its server; of nobody else if that offers none."""

    bypass: Bypass | None
    """A way past its server, if that offers one."""

    @classmethod
    def of(cls, scope: Mapping[str, Any]) -> Request:
        """Read a request out of its scope.

        Raises:
            RuntimeError: If its server does not run Trio.
        """
        if not trio.lowlevel.in_trio_task():
            _logger.error(NOT_ON_TRIO)  # Not every framework tells what an application raises.
            raise RuntimeError(NOT_ON_TRIO)
        extensions: Mapping[str, Any] = scope.get("extensions") or {}
        headers: Iterable[tuple[bytes, bytes]] = scope["headers"]
        return cls(
            scope["method"],
            [value.decode("latin-1") for name, value in headers if name == b"accept"],
            last_event_id(scope),
            extensions.get(active_streams.EXTENSION) or ActiveStreams(),
            extensions.get(bypass.EXTENSION),
        )


async def read_request(
    scope: Scope, receive: Receive, send: Send, headers: ResponseHeaders
) -> Request | None:
    """Read a request for a stream; answer what is none, a preflight included, and return `None`.

    Raises:
        RuntimeError: If the server does not run Trio.
    """
    if scope["type"] != "http":
        await _answer_other(scope["type"], receive, send)
        return None
    request = Request.of(scope)
    if request.method == "OPTIONS" and headers.preflight is not None:
        await send_answer(send, headers, headers.preflight)
        return None
    return request


def judge(
    request: Request, *, admitted: bool = True, reconnection_time: TimeRange | None = None
) -> Answer:
    """Choose the answer to a request; see `negotiate`.

    Args:
        request: The request.
        admitted: Whether the client may have a stream, for all that its server does not know.
        reconnection_time: The range of seconds in which it may come back, if not.
    """
    admitted = admitted and not request.streams.closing
    return negotiate(
        request.method,
        request.accept,
        request.last_event_id,
        admitted=admitted,
        retry_delay=0.0 if admitted else retry_delay(reconnection_time),
    )


async def open_stream(hub: Hub, options: StreamOptions, request: Request) -> Opened | Answer:
    """Open a stream for a request, unless it is to be answered otherwise.

    Raises:
        Exception: Whatever the snapshot of the options raises.
    """
    times = hub.options.reconnection_time
    answer = judge(request, admitted=hub.admits(options), reconnection_time=times)
    if not answer.streams:
        return answer
    replayed = await hub.replay(request.last_event_id, options.topics)
    # Others may have come, or all may have been closed, while a relay looked up what was missed.
    if replayed is not None and not request.streams.closing and hub.admits(options):
        with suppress(trio.ClosedResourceError):  # In this very moment.
            return hub.open(options, replayed)
    return judge(request, admitted=False, reconnection_time=times)


async def send_answer(send: Send, headers: ResponseHeaders, answer: Answer) -> None:
    """Send an answer that is no stream."""
    await send(headers.start(answer))
    await send({"type": "http.response.body", "body": answer.body})


async def send_cut(send: Send, headers: ResponseHeaders) -> None:
    """Begin a stream that fails at once: whoever calls this raises then."""
    await send(headers.start(STREAM))
    await send({"type": "http.response.body", "body": PROBE, "more_body": True})


async def _answer_other(kind: str, receive: Receive, send: Send) -> None:
    """Answer what a server asks besides requests: its lifespan, or a WebSocket."""
    if kind == "lifespan":
        await _answer_lifespan(receive, send)
    elif kind == "websocket":
        await receive()
        await send({"type": "websocket.close", "reason": "this is an event stream: use HTTP"})
    else:
        raise ValueError(f"ASGI scope type {kind!r} is not supported")


async def _answer_lifespan(receive: Receive, send: Send) -> None:
    """Let a server that does not run Trio tell so when it starts."""
    await receive()
    if not trio.lowlevel.in_trio_task():
        await send({"type": "lifespan.startup.failed", "message": NOT_ON_TRIO})
        raise RuntimeError(NOT_ON_TRIO)
    await send({"type": "lifespan.startup.complete"})
    await receive()
    await send({"type": "lifespan.shutdown.complete"})


def last_event_id(scope: Mapping[str, Any]) -> str | None:
    """Return the id of the last event that the client of a request has seen, if it says so.

    For an application that makes a stream of its own, as by `Broadcaster.subscribe`. It is what the
    client has sent, whoever that is. The header goes before the query parameter ``lastEventId``,
    which is for those who cannot set a header: a first load, or a polyfill. What is no UTF-8, or
    far too long, is an id all the same, though one that nothing has.

    Args:
        scope: The ASGI scope of the request.
    """
    headers: Iterable[tuple[bytes, bytes]] = scope["headers"]
    ids = [value.decode(errors="replace") for name, value in headers if name == b"last-event-id"]
    if not ids:
        fields = parse_qsl(scope.get("query_string", b"").decode("latin-1"))
        ids = [value for name, value in fields if name == "lastEventId"]
    return ids[0][:_MAX_ID] or None if ids else None
