"""Pages over TLS that do much beside their EventSource, which is to lose nothing."""

from __future__ import annotations

import json
from typing import Any, Final, final

import pytest
import trio

from trio_sse import Broadcaster, sse_app

from ..support.asgi import END, HEAD, Flood, Message, Receive, Send, chunk
from ..support.hardened import hardened
from ..support.waiting import until
from .conftest import Browser

_PAGE: Final = """<!doctype html><meta charset="utf-8"><script type="module">
const seen = []
const source = new EventSource("/events")
const heard = type => new Promise(resolve => source.addEventListener(type, resolve))
source.addEventListener("tick", event => seen.push(event.data))
const [over, gone] = [heard("over"), heard("gone")]
await heard("open")
const work = async () => { /* what the page does */ }
const told = await work()
await fetch("/over")
await over
await fetch("/report", {method: "POST", body: JSON.stringify({told, seen})})
</script>"""

#: Fetches more than a connection has requests, so many at a time.
_FETCHES: Final = """
    let left = 1500, answered = 0
    const fetchOn = async () => {
        while (left-- > 0) {
            const {status} = await fetch("/small")
            answered += status === 200
        }
    }
    await Promise.all(Array.from({length: %d}, fetchOn))
    return answered
"""

#: Reads some of a download, and the rest only once the server has given it up.
_PAUSE: Final = """
    const reader = (await fetch("/big")).body.getReader()
    await reader.read()
    await gone
    try {
        while (!(await reader.read()).done);
        return "complete"
    } catch { return "reset" }
"""

_UPLOAD: Final = """
    const answer = await fetch("/upload", {method: "POST", body: "x".repeat(400000)})
    return answer.status
"""


#: Bytes of a download: more than Chromium takes of one that is paused; Firefox takes it all.
_BIG: Final = 100_000_000


@final
class Site:
    """What a page asks for, and what it reports."""

    def __init__(self, work: str) -> None:
        self.broadcaster = Broadcaster(100, strict=False)
        self.sent: list[str] = []
        self.requests: list[str] = []
        self.versions: set[str] = set()
        self.report: Any = None
        self.was_reset = False
        self._over = False
        self._page = _PAGE.replace("/* what the page does */", work).encode()
        self._stream = sse_app(self.broadcaster)
        self._big = Flood(_BIG)

    async def publish(self) -> None:
        """Broadcast, from when the page listens until it has done its work."""
        await until(lambda: self.broadcaster.client_count == 1)
        while not self._over:
            self.sent.append(str(len(self.sent)))
            self.broadcaster.broadcast("tick", self.sent[-1])
            await trio.sleep(0.005)
        self.broadcaster.broadcast("over", "")

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._stream(scope, receive, send)
            return
        self.requests.append(scope["path"])
        self.versions.add(scope["http_version"])
        match scope["path"]:
            case "/events":
                await self._stream(scope, receive, send)
            case "/":
                await send({**HEAD, "headers": [(b"content-type", b"text/html; charset=utf-8")]})
                await send(chunk(self._page, last=True))
            case "/big":
                await self._big(scope, receive, send)
                self.was_reset = self._big.sent != [_BIG]
                self.broadcaster.broadcast("gone", "")
            case "/upload":
                await send({**HEAD, "status": 413})
                await send(END)
            case "/report":
                body = b""
                while (message := await receive()).get("more_body"):
                    body += message["body"]
                self.report = json.loads(body + message["body"])
                await self._answer(send)
            case path:
                self._over |= path == "/over"
                await self._answer(send)

    @staticmethod
    async def _answer(send: Send) -> None:
        await send(HEAD)
        await send(END)


@pytest.mark.parametrize(
    ("http", "work", "told"),
    [
        ("2", _FETCHES % 1, 1500),
        ("2", _FETCHES % 30, 1500),
        ("2", _UPLOAD, 413),  # Over HTTP/1.1 the connection ends, and a browser may not see why.
        ("1.1", _FETCHES % 30, 1500),
    ],
    ids=["fetches", "30 fetches at a time", "an upload that is refused", "fetches by HTTP/1.1"],
)
async def test_a_page_misses_no_event_whatever_else_it_does(
    browser: Browser, http: str, work: str, told: object
) -> None:
    site = await visited(browser, http, work)
    assert site.report["told"] == told


@pytest.mark.parametrize("http", ["2", "1.1"])
async def test_a_page_with_a_paused_download_loses_that_and_no_event(
    browser: Browser, http: str
) -> None:
    site = await visited(browser, http, _PAUSE)
    assert site.report["told"] == ("reset" if site.was_reset else "complete")


async def visited(browser: Browser, http: str, work: str) -> Site:
    """Let a browser do that; return the site, whose page must have seen all events."""
    site, alpn = Site(work), {"2": "h2", "1.1": "http/1.1"}[http]
    async with (
        hardened(site, write_timeout=1, alpn_protocols=[alpn]) as served,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(site.publish)
        browser.visit_securely(served.secure.port)
        await until(lambda: site.report is not None)
    assert site.report["seen"] == site.sent
    assert site.requests.count("/events") == 1
    assert site.versions == {http}
    return site
