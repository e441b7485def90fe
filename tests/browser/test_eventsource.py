"""The EventSource of browsers against `serve`: ``pytest tests/browser``."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

import pytest
import trio

from trio_sse import Broadcaster, sse_app

from ..support import visitors
from ..support.cutter import cutting
from ..support.hardened import hardened
from ..support.visitors import POSITION, SOON, Visitor
from ..support.waiting import until
from .conftest import Browser


async def show(browser: Browser, broadcaster: Broadcaster, text: str) -> None:
    """Broadcast once the page listens; return when it has seen that."""
    await until(lambda: broadcaster.client_count == 1)
    broadcaster.broadcast("tick", text)
    await until(lambda: ("tick", text) in browser.told)


def broadcaster_for_browsers(max_clients: float = math.inf) -> Broadcaster:
    return Broadcaster(strict=False, max_clients=max_clients, reconnection_time=SOON)


async def test_all_events_come_once_and_in_order_wherever_the_connection_is_cut(
    browser: Browser,
) -> None:
    broadcaster = broadcaster_for_browsers()
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
        hardened(browser.site(sse_app(broadcaster))) as served,
        cutting(served.plain.port, *cuts) as (cutter, port),
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(publish)  # Before the page is loaded, when its stream is cut already.
        await browser.visit(port)
        await until(lambda: ("tick", "99, all of it") in browser.told)
        assert browser.told == [("tick", f"{n}, all of it") for n in range(100)]
        assert cutter.done == len(cuts)
        assert browser.requests == len(cuts) + 1


@pytest.mark.parametrize("story", visitors.STORIES)
async def test_a_browser_misses_nothing_and_stops_when_it_is_told_to(
    browser: Browser, story: Callable[[Visitor], Awaitable[None]]
) -> None:
    await story(browser)


async def test_a_restart_is_told_by_one_reset_and_the_stream_goes_on(browser: Browser) -> None:
    before, after = broadcaster_for_browsers(), broadcaster_for_browsers()
    async with hardened(browser.site(sse_app(before))) as served:
        port = served.plain.port
        await browser.visit(port)
        await show(browser, before, "before")
    # One for the end of the stream, the others for connections that were refused.
    await until(lambda: browser.count("error") >= 3)
    async with hardened(browser.site(sse_app(after)), insecure_bind=[f"127.0.0.1:{port}"]):
        await show(browser, after, "after")
    first, (reset, reason), last = browser.told
    assert (first, last) == (("tick", "before"), ("tick", "after"))
    assert reset == "stream-reset"
    assert "before a restart" in reason


async def test_a_browser_turned_away_as_one_too_many_gets_in_when_there_is_room(
    browser: Browser,
) -> None:
    broadcaster = broadcaster_for_browsers(max_clients=1)
    other = broadcaster.subscribe()
    async with hardened(browser.site(sse_app(broadcaster))) as served:
        await browser.visit(served.plain.port)
        await until(lambda: browser.count("error") >= 3)
        broadcaster.broadcast("tick", "for the other")
        await other.aclose()
        await show(browser, broadcaster, "for both")
    assert browser.told == [("tick", "for both")]


async def test_a_browser_comes_back_to_the_successor_of_a_closed_broadcaster(
    browser: Browser,
) -> None:
    before, after = broadcaster_for_browsers(), broadcaster_for_browsers()
    async with hardened(browser.site(sse_app(before))) as served:
        await browser.visit(served.plain.port)
        await show(browser, before, "before")
        before.close()
        # One for the end of the stream, the others for requests that were turned away.
        await until(lambda: browser.count("error") >= 3)
        browser.stream = sse_app(after)
        await show(browser, after, "after")
    assert [kind for kind, _ in browser.told] == ["tick", "stream-reset", "tick"]
    assert not browser.has_given_up


async def test_a_browser_waits_for_the_reconnection_time(browser: Browser) -> None:
    """One that is longer than what browsers wait by themselves, since a wait has no upper bound."""
    broadcaster = Broadcaster(strict=False, reconnection_time=(6, 6))
    async with hardened(browser.site(sse_app(broadcaster, key="a user"))) as served:
        await browser.visit(served.plain.port)
        await show(browser, broadcaster, "the last")
        broadcaster.disconnect("a user")
        await until(lambda: browser.count("open") == 2)
        assert [kind for kind, _, _ in browser.seen] == ["open", "tick", "error", "open"]
        *_, (_, _, left), (_, _, back) = browser.seen
        assert back - left > 5.9
