"""A browser's EventSource against `serve`: ``pip install playwright``, ``pytest tests/browser``."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import final

import trio

from trio_sse import Broadcaster, sse_app

from ..support.asgi import HEAD, App, Message, Receive, Send, chunk
from ..support.cutter import cutting
from ..support.hardened import hardened
from ..support.visitors import POSITION, SOON
from ..support.waiting import until
from .conftest import CLOSED, HTML, Page, Seen

OpenPage = Callable[[int], Awaitable[Page]]


@final
class Site:
    """The page, and beside it a stream that may be exchanged for another."""

    def __init__(self, stream: App) -> None:
        self.stream = stream
        self.requests = 0  # Those for the stream.

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == "/":
            headers = [(b"content-type", b"text/html; charset=utf-8")]
            await send({**HEAD, "headers": headers})
            await send(chunk(HTML, last=True))
            return
        self.requests += scope["type"] == "http"
        await self.stream(scope, receive, send)


def events(seen: list[Seen]) -> list[Seen]:
    """Leave the browser's own events out."""
    return [(kind, value) for kind, value in seen if kind not in ("open", "error")]


def count(seen: list[Seen], kind: str) -> int:
    return [name for name, _ in seen].count(kind)


async def show(page: Page, broadcaster: Broadcaster, text: str) -> list[Seen]:
    """Broadcast once the page listens; return what it has seen when it has seen that."""
    await until(lambda: broadcaster.client_count == 1)
    broadcaster.broadcast("tick", text)
    return await page.until(lambda seen: ("tick", text) in seen)


def broadcaster_for_browsers(max_clients: float = math.inf) -> Broadcaster:
    return Broadcaster(strict=False, max_clients=max_clients, reconnection_time=SOON)


async def test_all_events_come_once_and_in_order_wherever_the_connection_is_cut(
    open_page: OpenPage,
) -> None:
    broadcaster = broadcaster_for_browsers()
    site = Site(sse_app(broadcaster))
    cuts = (
        POSITION,  # Behind the id with which a stream begins, before any event.
        b"data: 20, all of it\n\n",
        b"data: 40, al",
        b"data: 60, al",
        b"data: 80, all of it\n",  # All but the empty line: no event yet.
    )

    async def publish() -> None:
        await until(lambda: cutter.done == 1)
        for n in range(100):
            broadcaster.broadcast("tick", f"{n}, all of it")
            await trio.sleep(0.01)

    async with (
        hardened(site) as served,
        cutting(served.plain.port, *cuts) as (cutter, port),
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(publish)  # Before the page is loaded, when its stream is cut already.
        page = await open_page(port)
        last = ("tick", "99, all of it")
        seen = await page.until(lambda seen: last in seen)
        assert events(seen) == [("tick", f"{n}, all of it") for n in range(100)]
        assert cutter.done == len(cuts)
        assert site.requests == len(cuts) + 1


async def test_a_restart_is_told_by_one_reset_and_the_stream_goes_on(open_page: OpenPage) -> None:
    before, after = broadcaster_for_browsers(), broadcaster_for_browsers()
    async with hardened(Site(sse_app(before))) as served:
        port = served.plain.port
        page = await open_page(port)
        await show(page, before, "before")
    # One for the end of the stream, the others for connections that were refused.
    await page.until(lambda seen: count(seen, "error") >= 3)
    async with hardened(Site(sse_app(after)), insecure_bind=[f"127.0.0.1:{port}"]):
        seen = await show(page, after, "after")
    first, reset, last = events(seen)
    assert (first, last) == (("tick", "before"), ("tick", "after"))
    assert reset[0] == "stream-reset"
    assert "before a restart" in str(reset[1])


async def test_a_browser_turned_away_as_one_too_many_gets_in_when_there_is_room(
    open_page: OpenPage,
) -> None:
    broadcaster = broadcaster_for_browsers(max_clients=1)
    site = Site(sse_app(broadcaster))
    other = broadcaster.subscribe()
    async with hardened(site) as served:
        page = await open_page(served.plain.port)
        await page.until(lambda seen: count(seen, "error") >= 3)
        broadcaster.broadcast("tick", "for the other")
        await other.aclose()
        seen = await show(page, broadcaster, "for both")
        assert events(seen) == [("tick", "for both")]


async def test_a_browser_comes_back_to_the_successor_of_a_closed_broadcaster(
    open_page: OpenPage,
) -> None:
    before, after = broadcaster_for_browsers(), broadcaster_for_browsers()
    site = Site(sse_app(before))
    async with hardened(site) as served:
        page = await open_page(served.plain.port)
        await show(page, before, "before")
        before.close()
        # One for the end of the stream, the others for requests that were turned away.
        await page.until(lambda seen: count(seen, "error") >= 3)
        site.stream = sse_app(after)
        seen = await show(page, after, "after")
    assert [kind for kind, _ in events(seen)] == ["tick", "stream-reset", "tick"]
    assert ("error", CLOSED) not in seen


async def test_a_browser_that_is_disconnected_for_good_stops(open_page: OpenPage) -> None:
    broadcaster = broadcaster_for_browsers()
    site = Site(sse_app(broadcaster, key="a user"))
    async with hardened(site) as served:
        page = await open_page(served.plain.port)
        await show(page, broadcaster, "the last")
        assert broadcaster.disconnect("a user", final=True) == 1
        await page.until(lambda seen: ("error", CLOSED) in seen)
        assert site.requests == 2  # The second was answered 204.
        await trio.sleep(5 * max(SOON))
        assert site.requests == 2
        assert broadcaster.client_count == 0


async def test_a_browser_waits_for_the_reconnection_time(open_page: OpenPage) -> None:
    """One that is longer than what browsers wait by themselves, since a wait has no upper bound."""
    broadcaster = Broadcaster(strict=False, reconnection_time=(5, 5))
    async with hardened(Site(sse_app(broadcaster, key="a user"))) as served:
        page = await open_page(served.plain.port)
        await show(page, broadcaster, "the last")
        broadcaster.disconnect("a user")
        seen = await page.until(lambda seen: count(seen, "open") == 2)
        assert [kind for kind, _ in seen] == ["open", "tick", "error", "open"]
        *_, left, back = await page.times()
        assert back - left > 4.9
