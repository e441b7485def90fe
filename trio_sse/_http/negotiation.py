"""From a request to its answer.

Sans-IO: it is given what the request says and whether the client may have a stream now, and returns
what to answer. It knows HTTP (RFC 9110) and what a browser's EventSource does with a status: any
but 200 makes it give up for good, so a browser that should come back later gets 200, a reconnection
time and the end of the body.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from math import ceil
from typing import Final

import attrs

from .._core.event import END_ID, ServerSentEvent

#: What is no weight (RFC 9110 section 12.4.2) counts as 1: it must not shut a client out.
_WEIGHT: Final = re.compile(r"0(\.\d{0,3})?|1(\.0{0,3})?")

_STREAM_HEADERS: Final = (
    ("content-type", "text/event-stream"),
    # no-transform: a proxy that compresses holds events back until its buffer is full.
    ("cache-control", "no-cache, no-transform"),
    # nginx buffers a response unless told so.
    ("x-accel-buffering", "no"),
)


@attrs.frozen
class Answer:
    """What to answer: an endless stream follows the head if `streams`, else `body` is all of it."""

    status: int
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""
    streams: bool = False


#: Whatever is no stream is for this client alone: some answers may be kept by any cache otherwise.
_NO_STORE: Final = ("cache-control", "no-store")

#: What an endless stream begins with.
STREAM: Final = Answer(200, _STREAM_HEADERS, streams=True)


def negotiate(
    method: str,
    accept: Iterable[str],
    last_event_id: str | None,
    *,
    admitted: bool,
    retry_delay: float,
) -> Answer:
    """Choose the answer to a request.

    Args:
        method: The request's method.
        accept: The values of its `Accept` headers.
        last_event_id: The id of the last event that the client has seen.
        admitted: Whether the client may have a stream now.
        retry_delay: Seconds after which it may ask again, if not.
    """
    if method not in ("GET", "HEAD"):
        return _refusal(405, "This is an event stream: use GET.", ("allow", "GET, HEAD"))
    ranges = _media_ranges(accept)
    if not _accepts_event_stream(ranges):
        return _refusal(406, "This is an event stream: accept text/event-stream.")
    if method == "HEAD":
        return Answer(200, _STREAM_HEADERS)
    if last_event_id == END_ID:
        return Answer(204, (_NO_STORE,))
    if admitted:
        return STREAM
    if "text/event-stream" in ranges:  # As an EventSource asks.
        block = ServerSentEvent(data=None, retry=round(retry_delay * 1000))
        return Answer(200, _STREAM_HEADERS, block.encode())
    return _refusal(
        503, "Full or closing: come back later.", ("retry-after", str(ceil(retry_delay)))
    )


def _refusal(status: int, text: str, *headers: tuple[str, str]) -> Answer:
    body = f"{text}\n".encode()
    return Answer(
        status,
        (
            ("content-type", "text/plain; charset=utf-8"),
            ("content-length", str(len(body))),
            _NO_STORE,
            *headers,
        ),
        body,
    )


def _media_ranges(accept: Iterable[str]) -> dict[str, float]:
    """Return the weight of each media range named (RFC 9110 section 12.5.1)."""
    ranges: dict[str, float] = {}
    for item in ",".join(accept).split(","):
        name, *parameters = (part.strip().lower() for part in item.split(";"))
        if name:
            ranges[name] = _weight(parameters)
    return ranges


def _weight(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            return float(value) if _WEIGHT.fullmatch(value) else 1.0
    return 1.0


def _accepts_event_stream(ranges: dict[str, float]) -> bool:
    """Tell whether the most specific range of the type has a weight; no header means yes."""
    for name in ("text/event-stream", "text/*", "*/*"):
        if name in ranges:
            return ranges[name] > 0
    return not ranges
