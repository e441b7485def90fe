"""Streams through proxies that keep and collect what they can."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
import trio

from trio_sse import Broadcaster, sse_app

from ..support import proxies, visitors
from ..support.asgi import Tap
from ..support.hardened import hardened
from ..support.libraries import Library
from ..support.proxies import Proxy
from ..support.visitors import Visitor, Way
from ..support.waiting import until


@pytest.fixture(params=[proxies.caching_nginx, proxies.varnish], ids=["nginx", "varnish"])
def before(request: pytest.FixtureRequest, nursery: trio.Nursery, tmp_path: Path) -> Way:
    proxy: Proxy = request.param
    return lambda port: proxies.start(nursery, proxy, tmp_path, port)


@pytest.mark.parametrize("story", visitors.STORIES)
async def test_a_client_behind_a_proxy_misses_nothing_and_stops_when_it_is_told_to(
    before: Way, nursery: trio.Nursery, story: Callable[[Visitor, Way], Awaitable[None]]
) -> None:
    await story(Library("httpx-sse", nursery), before)


async def test_the_first_event_comes_though_nothing_is_before_and_behind_it(
    before: Way, nursery: trio.Nursery
) -> None:
    broadcaster = Broadcaster(strict=False, history_size=0, heartbeat_interval=None)
    client = Library("httpx-sse", nursery)
    async with hardened(sse_app(broadcaster)) as served:
        await client.visit(await before(served.plain.port))
        await until(lambda: broadcaster.client_count == 1)
        broadcaster.broadcast("tick", "the first")
        await until(lambda: client.told == [("tick", "the first")])


async def test_the_word_to_stop_reaches_nobody_but_the_client_it_is_for(
    before: Way, nursery: trio.Nursery
) -> None:
    broadcaster = Broadcaster(strict=False, reconnection_time=visitors.SOON)
    stream = Tap(sse_app(broadcaster, key="a user"))
    stopped, other = Library("httpx-sse", nursery), Library("httpx-sse", nursery)
    async with hardened(stream) as served:
        port = await before(served.plain.port)
        await stopped.visit(port)
        await until(lambda: broadcaster.client_count == 1)
        broadcaster.disconnect("a user", final=True)
        await until(lambda: stopped.has_given_up)
        await other.visit(port)
        await until(lambda: broadcaster.client_count == 1)
        broadcaster.broadcast("tick", "for the other")
        await until(lambda: other.told == [("tick", "for the other")])
    assert stream.statuses == [200, 204, 200]
