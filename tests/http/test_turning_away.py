"""Who is turned away is told at once, by whatever way, and nobody else is asked for it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final, final

import pytest
import trio
from quart import Response, request
from quart_trio import QuartTrio
from trio.testing import MockClock

from trio_sse import Broadcaster, ServerSentEvent, sse_app
from trio_sse._core.history import History, LocalHistory
from trio_sse._core.relay import Node, Replayed
from trio_sse.testing import open_event_stream

from ..support.asgi import App, with_scope
from ..support.hardened import hardened

METHODS: Final = ["GET", "HEAD", "POST", "PUT", "OPTIONS"]


@final
class AwayRelay:
    """A relay whose server does not answer: after five seconds it gives up."""

    def __init__(self) -> None:
        self.asked = 0

    def attach(self, node: Node, history_size: int) -> History:
        return LocalHistory(history_size)

    def send_nowait(self, event: ServerSentEvent, topic: str | None) -> None:
        raise trio.WouldBlock

    async def replay(self, last_event_id: str | None, topics: frozenset[str]) -> Replayed | None:
        self.asked += 1
        await trio.sleep(5)
        return None

    async def wait_all_back(self) -> None:
        raise NotImplementedError


def quart_app(broadcaster: Broadcaster) -> App:
    """A route that takes any method, so that the answer is ours and not Quart's."""
    app = QuartTrio(__name__)

    async def events() -> Response:
        return await broadcaster.stream(request)

    app.add_url_rule("/events", view_func=events, methods=METHODS, provide_automatic_options=False)
    return app


WAYS: Final[dict[str, Callable[[Broadcaster], App]]] = {"sse_app": sse_app, "stream": quart_app}

#: Requests that get no stream, whatever the broadcaster: method, headers, status.
NO_STREAMS: Final[list[tuple[str, list[tuple[bytes, bytes]], int]]] = [
    ("POST", [(b"accept", b"text/event-stream")], 405),
    ("HEAD", [], 200),
    ("GET", [(b"accept", b"text/html")], 406),
    ("GET", [(b"last-event-id", b"end")], 204),
]


@pytest.mark.parametrize(("method", "headers", "status"), NO_STREAMS)
@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
async def test_a_relay_is_not_asked_for_who_gets_no_stream(
    way: Callable[[Broadcaster], App],
    method: str,
    headers: list[tuple[bytes, bytes]],
    status: int,
    nursery: trio.Nursery,
    autojump_clock: MockClock,
) -> None:
    relay = AwayRelay()
    app = with_scope(way(Broadcaster(relay=relay)), method=method, headers=headers)
    answer = await open_event_stream(nursery, app)
    assert (answer.status, relay.asked, trio.current_time()) == (status, 0, 0)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
async def test_a_full_broadcaster_asks_its_relay_for_nobody(
    way: Callable[[Broadcaster], App], nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    relay = AwayRelay()
    broadcaster = Broadcaster(max_clients=1, reconnection_time=(2, 2), relay=relay)
    with broadcaster.subscribe():
        answer = await open_event_stream(nursery, way(broadcaster))
        assert (answer.status, answer.raw_bytes) == (200, b"retry: 2000\n\n")
    assert (relay.asked, trio.current_time()) == (0, 0)


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
async def test_one_who_cannot_be_told_what_it_missed_comes_back_later(
    way: Callable[[Broadcaster], App], nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    broadcaster = Broadcaster(reconnection_time=(2, 2), relay=AwayRelay())
    answer = await open_event_stream(nursery, way(broadcaster))
    await trio.sleep(5.001)
    assert (answer.status, answer.raw_bytes, answer.complete) == (200, b"retry: 2000\n\n", True)
    assert broadcaster.statistics().streams == 0


@pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)
async def test_one_who_comes_after_the_last_place_was_taken_comes_back_later(
    way: Callable[[Broadcaster], App], nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    """The place was free when it was asked for, and is not when the relay has answered."""
    broadcaster = Broadcaster(max_clients=1, reconnection_time=(2, 2), relay=SlowRelay())

    async def ask() -> None:
        answer = await open_event_stream(nursery, way(broadcaster))
        await trio.sleep_until(6)
        assert (answer.raw_bytes, answer.complete) == (b"retry: 2000\n\n", True)

    nursery.start_soon(ask)
    await trio.sleep(1)
    with broadcaster.subscribe():
        await trio.sleep(6)


@final
class SlowRelay:
    """A relay that answers after five seconds."""

    attach = AwayRelay.attach
    send_nowait = AwayRelay.send_nowait
    wait_all_back = AwayRelay.wait_all_back

    async def replay(self, last_event_id: str | None, topics: frozenset[str]) -> Replayed | None:
        await trio.sleep(5)
        return Replayed(last_event_id)


async def bytes_of_answer(app: App, method: str, headers: dict[str, str]) -> bytes:
    """Return the answer as it is on the wire, but for the time in it."""
    fields = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    asked = f"{method} /events HTTP/1.1\r\nhost: test\r\nconnection: close\r\n{fields}\r\n"
    async with hardened(app) as served:
        stream = await served.connect()
        await stream.send_all(asked.encode())
        answer = b"".join([chunk async for chunk in stream])
    return re.sub(rb"date: [^\r]*\r\n", b"", answer)


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("POST", {"accept": "text/event-stream"}),
        ("HEAD", {}),
        ("GET", {"accept": "text/html"}),
        ("GET", {"last-event-id": "end"}),
        ("GET", {"accept": "text/event-stream"}),
        ("GET", {"accept": "*/*"}),
    ],
)
async def test_both_ways_turn_away_with_the_same_bytes(
    method: str, headers: dict[str, str]
) -> None:
    """Of a broadcaster that is full."""
    broadcaster = Broadcaster(max_clients=1, reconnection_time=(2, 2))
    with broadcaster.subscribe():
        answers = [
            await bytes_of_answer(way(broadcaster), method, headers) for way in WAYS.values()
        ]
    assert answers[0] == answers[1]
    assert answers[0].startswith(b"HTTP/1.1 ")
