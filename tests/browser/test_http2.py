"""Browsers whose EventSource is a stream of HTTP/2 over TLS, as on a site in public."""

from __future__ import annotations

import json
from typing import Final, final

import pytest
import trio

from trio_sse import Broadcaster, sse_app
from trio_sse.hypercorn._connection import Connection

from ..support.asgi import END, HEAD, Message, Receive, Send, chunk
from ..support.hardened import hardened
from ..support.tcp import free_port
from ..support.visitors import SOON
from ..support.waiting import until
from .conftest import Browser

#: A page with so many tabs, each of which has a stream of its own, and reports what it has seen.
_PAGE: Final = """<!doctype html><meta charset="utf-8"><link rel="icon" href="data:,"><script>
for (let tab = 0; tab < %d; tab++) {
    const frame = document.createElement("iframe")
    frame.src = "/tab?" + tab
    document.documentElement.append(frame)
}
</script>"""

_TAB: Final = """<!doctype html><meta charset="utf-8"><script type="module">
const seen = []
const source = new EventSource("/events")
source.addEventListener("tick", event => seen.push(event.data))
source.addEventListener("stream-reset", event => seen.push("reset"))
let reported = -1
while (true) {
    await new Promise(resolve => setTimeout(resolve, 20))
    const start = Math.max(reported, 0), count = seen.length
    if (reported === count) continue
    const body = JSON.stringify([start, seen.slice(start)])
    try {
        await fetch("/report" + location.search, {method: "POST", body})
        reported = count
    } catch { /* The connection was cut. */ }
}
</script>"""


@final
class Site:
    """Tabs, their stream, and what each of them has seen."""

    def __init__(self, tabs: int) -> None:
        self.broadcaster = Broadcaster(
            20_000, strict=False, history_size=20_000, reconnection_time=SOON
        )
        self.seen: dict[str, list[str]] = {str(tab): [] for tab in range(tabs)}
        self.versions: set[str] = set()
        self.requests = 0  # Those for the stream.
        self._page = _PAGE % tabs
        self._stream = sse_app(self.broadcaster)

    async def listens(self, times: int = 1) -> None:
        """Wait until all tabs have asked so often, and are written to directly."""
        tabs = len(self.seen)
        await until(lambda: self.requests >= times * tabs)
        await until(lambda: self.broadcaster.statistics().clients_direct == tabs)

    async def broadcast(self, first: int, end: int) -> None:
        for n in range(first, end):
            self.broadcaster.broadcast("tick", n)
            if n % 17 == 0:
                await trio.lowlevel.checkpoint()

    async def has_all(self, count: int) -> None:
        """Wait until each tab has seen so many, which must be all, each once and in order."""
        await until(lambda: all(len(seen) >= count for seen in self.seen.values()))
        expected = [str(n) for n in range(count)]
        assert all(seen == expected for seen in self.seen.values())
        assert self.versions == {"2"}

    def _take_report(self, tab: str, body: bytes) -> None:
        """Add what is new in a report, which may come twice if a connection is cut."""
        if body:
            start, data = json.loads(body)
            self.seen[tab] += data[len(self.seen[tab]) - start :]

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._stream(scope, receive, send)
            return
        self.versions.add(scope["http_version"])
        match scope["path"]:
            case "/events":
                self.requests += 1
                await self._stream(scope, receive, send)
            case "/report":
                self._take_report(scope["query_string"].decode(), await read_body(receive))
                await send({**HEAD, "status": 204})
                await send(END)
            case path:
                await send({**HEAD, "headers": [(b"content-type", b"text/html; charset=utf-8")]})
                page = self._page if path == "/" else _TAB
                await send(chunk(page.encode(), last=True))


async def read_body(receive: Receive) -> bytes:
    """Return the body of a request; nothing, if its client has left before the end of it."""
    body = bytearray()
    while (message := await receive())["type"] == "http.request":
        body += message["body"]
        if not message["more_body"]:
            return bytes(body)
    return b""


@pytest.mark.parametrize("tabs", [1, 6])
async def test_ten_thousand_events_arrive_in_every_tab_each_once_and_in_order(
    browser: Browser, tabs: int
) -> None:
    site = Site(tabs)
    async with hardened(site) as served:
        browser.visit_securely(served.secure.port)
        await site.listens()
        await site.broadcast(0, 10_000)
        await site.has_all(10_000)
    assert site.requests == tabs


async def test_tabs_come_back_to_a_server_that_has_cut_their_connection_and_miss_nothing(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    site, run = Site(6), Connection.run
    connections: list[Connection] = []

    async def noted(own: Connection) -> None:
        connections.append(own)
        await run(own)

    monkeypatch.setattr(Connection, "run", noted)
    async with hardened(site) as served:
        browser.visit_securely(served.secure.port)
        await site.listens()
        await site.broadcast(0, 1)
        await site.has_all(1)  # Whoever has no id yet begins anew.
        for cut in range(3):
            await site.listens(cut + 1)
            await site.broadcast(cut * 1000 + (not cut), cut * 1000 + 500)
            for connection in connections:
                connection.abort()
            connections.clear()
            await site.broadcast(cut * 1000 + 500, cut * 1000 + 1000)
        await site.has_all(3000)
    assert site.requests >= 4 * 6


async def test_tabs_come_back_to_a_server_that_was_restarted_and_miss_nothing(
    browser: Browser,
) -> None:
    """Its broadcaster is the same, as where a relay remembers."""
    site, port = Site(6), free_port()
    async with hardened(site, bind=[f"127.0.0.1:{port}"]):
        browser.visit_securely(port)
        await site.listens()
        await site.broadcast(0, 1)
        await site.has_all(1)  # Whoever has no id yet begins anew.
        await site.broadcast(1, 1000)
    await site.broadcast(1000, 2000)
    async with hardened(site, bind=[f"127.0.0.1:{port}"]):
        await site.broadcast(2000, 3000)
        await site.has_all(3000)
        assert site.requests >= 2 * 6
