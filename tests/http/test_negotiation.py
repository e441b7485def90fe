"""What a request gets: a stream, or an answer that its client can act on."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from functools import partial
from typing import Any, Final

import pytest
import trio

from trio_sse import Broadcaster, producer_app, sse_app
from trio_sse.testing import EventStream, open_event_stream

from ..support.apps import AppOf
from ..support.asgi import STREAM_HEADERS, App, Message, Tap, with_scope

#: A source that nobody enters, since it is not asked for events.
SOURCE: Final[Any] = nullcontext()


async def ask(
    app: App,
    method: str = "GET",
    accept: Iterable[bytes] = (),
    headers: Iterable[tuple[bytes, bytes]] = (),
) -> EventStream:
    """Return the answer of an app to a request, which it is to finish by itself."""
    headers = [*headers, *((b"accept", value) for value in accept)]
    asked = with_scope(app, method=method, headers=headers)
    with trio.fail_after(5):
        async with trio.open_nursery() as nursery:
            answer = await open_event_stream(nursery, asked)
    assert answer.complete
    return answer


def closing() -> Broadcaster:
    broadcaster = Broadcaster()
    broadcaster.close()
    return broadcaster


# Methods


async def test_head_gets_the_headers_of_the_stream_and_no_stream(app_of: AppOf) -> None:
    broadcaster = Broadcaster()
    answer = await ask(app_of(broadcaster), "HEAD")
    assert answer.status == 200
    assert answer.headers == STREAM_HEADERS
    assert answer.raw_bytes == b""
    assert broadcaster.client_count == 0


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "QUERY", "get"])
async def test_another_method_is_refused_with_those_allowed(method: str) -> None:
    answer = await ask(sse_app(Broadcaster()), method)
    assert answer.status == 405
    assert answer.headers == {
        "content-type": "text/plain; charset=utf-8",
        "content-length": str(len(answer.raw_bytes)),
        "cache-control": "no-store",
        "allow": "GET, HEAD",
    }
    assert answer.raw_bytes == b"This is an event stream: use GET.\n"


# Accept


@pytest.mark.parametrize(
    "accept",
    [
        [],
        [b""],
        [b"*/*"],
        [b"text/*"],
        [b"text/event-stream"],
        [b"Text/Event-Stream"],
        [b"text/event-stream; charset=utf-8"],
        [b"text/html, text/event-stream;q=0.1"],
        [b"text/html", b"text/event-stream"],
        [b"text/event-stream, */*;q=0"],
        [b"text/html;q=0.9 , , */* ; q=0.001"],
        [b"text/event-stream;q=garbage"],
        [b"text/event-stream;q=nan"],
        [b"text/event-stream;q=-1"],
        [b"text/event-stream;q="],
    ],
    ids=repr,
)
async def test_a_request_that_accepts_event_streams_gets_one(
    accept: list[bytes], nursery: trio.Nursery
) -> None:
    headers = [(b"accept", value) for value in accept]
    stream = await open_event_stream(nursery, with_scope(sse_app(Broadcaster()), headers=headers))
    assert stream.status == 200
    assert not stream.complete


@pytest.mark.parametrize(
    "accept",
    [
        [b"application/json"],
        [b"text/html, application/xml"],
        [b"text/event-stream;q=0"],
        [b"text/event-stream;q=0, */*"],
        [b"text/event-stream ; Q=0.000 , text/*"],
        [b"*/*", b"text/event-stream;q=0"],
        [b"text/*;q=0, */*"],
        [b"*/*;q=0"],
        [b"garbage"],
    ],
    ids=repr,
)
async def test_a_request_that_excludes_event_streams_is_refused(
    accept: list[bytes], app_of: AppOf
) -> None:
    broadcaster = Broadcaster()
    answer = await ask(app_of(broadcaster), accept=accept)
    assert answer.status == 406
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    assert answer.headers["content-length"] == str(len(answer.raw_bytes))
    assert answer.raw_bytes == b"This is an event stream: accept text/event-stream.\n"
    assert broadcaster.client_count == 0


# Closing


async def test_an_event_source_that_comes_while_closing_is_told_when_to_come_back(
    app_of: AppOf,
) -> None:
    """Any other status than 200 would make it give up for good."""
    times = set[int]()
    for _ in range(20):
        answer = await ask(app_of(closing()), accept=[b"text/event-stream"])
        assert answer.status == 200
        assert answer.headers.items() >= STREAM_HEADERS.items()
        matched = re.fullmatch(rb"retry: (\d+)\n\n", answer.raw_bytes)
        assert matched
        times.add(int(matched[1]))
    assert 1000 <= min(times) < max(times) <= 5000


@pytest.mark.parametrize("accept", [[], [b"*/*"], [b"text/*"]], ids=repr)
async def test_another_client_that_comes_while_closing_is_told_with_a_status(
    accept: list[bytes], app_of: AppOf
) -> None:
    answer = await ask(app_of(closing()), accept=accept)
    assert answer.status == 503
    assert 1 <= int(answer.headers["retry-after"]) <= 5


async def test_nobody_is_told_to_come_back_at_once(app_of: AppOf) -> None:
    broadcaster = Broadcaster(reconnection_time=(0.2, 0.2))
    broadcaster.close()
    answer = await ask(app_of(broadcaster), accept=[b"*/*"])
    assert answer.headers["retry-after"] == "1"
    assert answer.raw_bytes == b"Full or closing: come back later.\n"


async def test_no_answer_names_the_connection(app_of: AppOf) -> None:
    answers = [
        await ask(app_of(Broadcaster()), "HEAD"),
        await ask(app_of(Broadcaster()), "POST"),
        await ask(app_of(Broadcaster()), accept=[b"image/png"]),
        await ask(app_of(closing())),
        await ask(app_of(closing()), accept=[b"text/event-stream"]),
    ]
    assert [answer.status for answer in answers] == [200, 405, 406, 503, 200]
    assert not any("connection" in answer.headers for answer in answers)


# Headers of the user


async def fields(nursery: trio.Nursery, headers: Any) -> list[tuple[bytes, bytes]]:
    app = Tap(sse_app(Broadcaster(), headers=headers))
    await open_event_stream(nursery, app)
    sent: list[tuple[bytes, bytes]] = app.sent[0]["headers"]
    return sent


async def test_further_headers_may_be_text_or_bytes_and_repeat(nursery: trio.Nursery) -> None:
    further = [("X-One", "ä"), (b"x-two", b"a b"), (b"set-cookie", "a=1"), ("Set-Cookie", b"b=2")]
    assert await fields(nursery, further) == [
        *((name.encode(), value.encode()) for name, value in STREAM_HEADERS.items()),
        (b"x-one", b"\xe4"),
        (b"x-two", b"a b"),
        (b"set-cookie", b"a=1"),
        (b"set-cookie", b"b=2"),
    ]


async def test_a_further_header_replaces_ours(nursery: trio.Nursery) -> None:
    sent = await fields(nursery, [("Cache-Control", "no-store"), ("vary", "")])
    assert sent == [
        (b"content-type", b"text/event-stream"),
        (b"x-accel-buffering", b"no"),
        (b"cache-control", b"no-store"),
        (b"vary", b""),
    ]


async def test_headers_may_be_an_iterator_and_serve_many_requests(nursery: trio.Nursery) -> None:
    app = Tap(sse_app(Broadcaster(), headers=iter([("x-one", "1")])))
    for _ in range(2):
        assert (await open_event_stream(nursery, app)).headers["x-one"] == "1"


async def test_further_headers_come_with_every_answer() -> None:
    app = sse_app(closing(), headers=[("access-control-allow-origin", "*")])
    for method in ("GET", "HEAD", "POST"):
        assert (await ask(app, method)).headers["access-control-allow-origin"] == "*"


@pytest.mark.parametrize(
    "header",
    [
        ("", "x"),
        ("a b", "x"),
        ("a:", "x"),
        ("a\n", "x"),
        ("x", "a\r\nset-cookie: b=1"),
        ("x", "a\0"),
        ("x", " a"),
        ("x", "a\t"),
        ("x", "€"),
        ("Connection", "keep-alive"),
        (b"CONTENT-TYPE", b"text/plain"),
        ("content-length", "0"),
        ("transfer-encoding", "chunked"),
    ],
    ids=repr,
)
def test_a_header_that_would_break_the_stream_is_refused(header: Any) -> None:
    with pytest.raises(ValueError, match=r"not an HTTP header|set by the stream itself|latin-1"):
        sse_app(Broadcaster(), headers=[header])


# Other scopes than HTTP


async def exchange(scope: str, *messages: Message) -> list[Message]:
    """Return what `sse_app` answers to these messages."""
    sent: list[Message] = []
    incoming = iter(messages)

    async def receive() -> Message:
        await trio.lowlevel.checkpoint()
        return next(incoming)

    async def send(message: Message) -> None:
        await trio.lowlevel.checkpoint()
        sent.append(message)

    await sse_app(Broadcaster())({"type": scope}, receive, send)
    return sent


async def test_the_lifespan_of_the_server_is_answered() -> None:
    assert await exchange(
        "lifespan", {"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}
    ) == [{"type": "lifespan.startup.complete"}, {"type": "lifespan.shutdown.complete"}]


async def test_a_websocket_is_closed_with_the_reason() -> None:
    (answer,) = await exchange("websocket", {"type": "websocket.connect"})
    assert answer == {"type": "websocket.close", "reason": "this is an event stream: use HTTP"}


async def test_an_unknown_kind_of_scope_is_an_error() -> None:
    with pytest.raises(ValueError, match="scope type 'smtp' is not supported"):
        await exchange("smtp")


# Caches and other origins


@pytest.mark.parametrize(
    ("method", "headers", "status"),
    [
        ("POST", [], 405),
        ("GET", [(b"accept", b"text/html")], 406),
        ("GET", [(b"last-event-id", b"end")], 204),
        ("GET", [(b"accept", b"*/*")], 503),
    ],
)
async def test_no_cache_keeps_what_is_no_stream(
    method: str, headers: list[tuple[bytes, bytes]], status: int
) -> None:
    """A 204 that a cache gives to all ends everybody's stream for good."""
    app = sse_app(closing(), headers={"cache-control": "public", "x-a": "b"})
    answer = await ask(app, method, headers=headers)
    assert answer.status == status
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-a"] == "b"


@pytest.mark.parametrize("make", [partial(sse_app, Broadcaster()), partial(producer_app, SOURCE)])
async def test_a_page_of_another_origin_may_ask_whether_it_may_resume(
    make: Callable[..., App],
) -> None:
    app = make(headers={"access-control-allow-origin": "https://a.example"})
    answer = await ask(app, "OPTIONS")
    assert (answer.status, answer.raw_bytes) == (204, b"")
    assert answer.headers == {
        "cache-control": "no-store",
        "access-control-allow-headers": "last-event-id",
        "access-control-allow-origin": "https://a.example",
    }
