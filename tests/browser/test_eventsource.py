"""A browser's EventSource against `serve`: ``pip install playwright``, ``pytest tests/browser``."""

from __future__ import annotations

import math
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final, final

import trio

from trio_sse import Broadcaster, sse_app

from ..support.asgi import HEAD, App, Message, Receive, Send, chunk
from ..support.hardened import hardened
from ..support.tcp import reset_when_closed
from ..support.waiting import until
from .conftest import CLOSED, HTML, Page, Seen

#: Seconds after which the browser reconnects, unless a test is about that.
SOON: Final = (0.05, 0.2)

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


@final
class Cutter:
    """A TCP proxy that cuts a connection behind certain bytes, in their order, each once.

    Every other cut is a FIN, before which the browser reads all that came through; the others are
    an RST, which may destroy what it has not read yet.
    """

    def __init__(self, port: int, *cuts: bytes) -> None:
        self.done = 0
        self._port = port
        self._cuts = cuts

    async def run(self, *, task_status: trio.TaskStatus[int]) -> None:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        task_status.started(listener.socket.getsockname()[1])
        await trio.serve_listeners(self._serve, [listener])

    async def _serve(self, browser: trio.SocketStream) -> None:
        server = await trio.open_tcp_stream("127.0.0.1", self._port)
        async with browser, server, trio.open_nursery() as nursery:
            nursery.start_soon(self._carry_requests, browser, server)
            await self._carry_responses(server, browser)
            nursery.cancel_scope.cancel("the connection is to be closed")

    async def _carry_requests(self, browser: trio.SocketStream, server: trio.SocketStream) -> None:
        try:
            async for data in browser:
                await server.send_all(data)
            await server.send_eof()
        except trio.BrokenResourceError:
            await server.aclose()

    async def _carry_responses(self, server: trio.SocketStream, browser: trio.SocketStream) -> None:
        passed = b""
        async for data in server:
            before, passed = len(passed), passed + data
            cut = self._cuts[self.done] if self.done < len(self._cuts) else None
            if cut is None or cut not in passed:
                await browser.send_all(data)
                continue
            await browser.send_all(data[: passed.index(cut) + len(cut) - before])
            if self.done % 2:
                reset_when_closed(browser)
            self.done += 1
            return


@asynccontextmanager
async def cutting(port: int, *cuts: bytes) -> AsyncGenerator[tuple[Cutter, int]]:
    """Run a proxy for the length of a block; give its port, too."""
    cutter = Cutter(port, *cuts)
    async with trio.open_nursery() as nursery:
        yield cutter, await nursery.start(cutter.run)
        nursery.cancel_scope.cancel("the test is over")


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
        b"-0\n\n",  # Behind the id with which a stream begins, before any event.
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
