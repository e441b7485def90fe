"""The relay at its limits: made-up ids, slow links, batches of a buffer, a flood.

Whoever comes back must have its past in time, whatever ids others make up. Over a link that takes
longer for a batch than the relay's timeout, all must be read, published and looked up again in
about the time that the bytes take. Who waits in `wait_all_taken` prunes nobody, and who floods is
told by `trio.WouldBlock`, before anything is lost.
"""

from __future__ import annotations

import itertools
import math
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, Final

import trio

from tests.support.redis_line import line_to
from trio_sse import RESET_EVENT, Broadcaster, Subscription, sse_app
from trio_sse.redis import RedisRelay
from trio_sse.testing import open_event_stream

from ..clients.browser import Browser
from ..clients.sequence import number_of
from ..clients.traveller import Traveller, count_late
from ..redis.cluster import read_stream
from ..redis.server import RedisServer, redis_server
from ..report.finding import Finding
from ..servers.processes import Server
from ..servers.subjects import node

_PATIENCE: Final = 120.0

#: Those who make ids up, all together so many requests a second; what the one who comes back has
#: missed, and the seconds in which it must have that.
_LIARS, _REQUESTS, _MISSED, _RETURN = (30, 100), 365, 900, 0.5

#: Made-up ids, of those that are low, high and none at all.
_SHAPES: Final = ("{n}-0", "1-{n}", "{n}", "18446744073709551615-{n}", "{n}-x", "0-0")

#: Bytes in a second, and how many events of how many characters.
_LINKS: Final = ((1_000_000, 30), (100_000, 5))
_LARGE: Final = 200_000

_BATCHES, _BUFFER = 8, 256
_FLOOD: Final = 16.0


def check(cache: Path) -> list[Finding]:
    """Return what was late, lost or told without need."""
    findings = [_made_up(cache, liars) for liars in _LIARS]
    with redis_server() as redis:
        for rate, count in _LINKS:
            findings += trio.run(_slow_link, redis, rate, count)
        findings.append(trio.run(_batches, redis))
        findings += trio.run(_flood, redis)
    return findings


def _made_up(cache: Path, liars: int) -> Finding:
    with redis_server() as redis, Server(node(redis.port, history=16), cache) as server:
        server.tell(" ".join(["seal", *["101"] * (_MISSED + 100)]))
        seconds = trio.run(_come_back, redis, server, liars)
    what = f"{liars} connections with made-up ids, {_REQUESTS} requests/s: {_MISSED} events after"
    return Finding(what, seconds, _RETURN, "s")


async def _come_back(redis: RedisServer, server: Server, liars: int) -> float:
    with trio.fail_after(_PATIENCE):
        while len(ids := [*await read_stream(redis)]) < _MISSED + 100:  # noqa: ASYNC110 (another process)
            await trio.sleep(0.1)
    async with trio.open_nursery() as nursery:
        for number in range(liars):
            nursery.start_soon(_lie, server.port, number, liars / _REQUESTS)
        await trio.sleep(2)
        traveller = Traveller(random.Random(1))  # noqa: S311
        traveller.browser.last_event_id = ids[99]
        began = time.monotonic()
        nursery.start_soon(_stay, traveller, server.port)
        last = number_of(0, len(ids) - 1)
        late = await count_late([traveller], lambda one: one.story.last.get(0) == last, 10)
        took = time.monotonic() - began
        nursery.cancel_scope.cancel("it has all, or never will")
    whole = not traveller.story.resets and len(traveller.story.numbers) == _MISSED
    return took if whole and not late else math.inf


async def _stay(traveller: Traveller, port: int) -> None:
    while True:
        await traveller.visit(port)
        await trio.sleep(traveller.away)


async def _lie(port: int, number: int, pause: float) -> None:
    """Ask with one made-up id after another; leave when the head has come."""
    for n in itertools.count(1 + number * 100_000):
        browser = Browser()
        browser.last_event_id = _SHAPES[number % len(_SHAPES)].format(n=n)
        due = trio.current_time() + pause
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            await stream.send_all(browser.connect())
            await stream.receive_some(4096)
        await trio.sleep_until(due)


@asynccontextmanager
async def _relaying(
    url: str, stream: str, **options: Any
) -> AsyncGenerator[tuple[Broadcaster, RedisRelay]]:
    relay = RedisRelay(url, stream=stream, **options)
    broadcaster = Broadcaster(_BUFFER, history_size=1, strict=False, relay=relay)
    async with trio.open_nursery() as nursery:
        await nursery.start(relay.run)
        yield broadcaster, relay
        nursery.cancel_scope.cancel("the measurement is over")


async def _slow_link(redis: RedisServer, rate: int, count: int) -> list[Finding]:
    """Read, publish and look up over the link; tell how much longer it took than the bytes do."""
    took: dict[str, float] = {}
    text, stream = "x" * _LARGE, f"slow {rate}"
    async with (
        line_to(redis) as line,
        _relaying(redis.url, stream) as (_, writer),
        _relaying(line.url, stream) as (broadcaster, relay),
        trio.open_nursery() as nursery,
    ):
        line.rate = rate
        first = await writer.publish("first", "")
        with broadcaster.subscribe() as client:
            for _ in range(count):
                await writer.publish("large", text)
            took["read"] = await _time(_take, client, count)
            took["published"] = await _time(_publish, broadcaster, relay, text, count)
            await _take(client, count)
        headers = [("last-event-id", first)]
        began = time.monotonic()
        browser = await open_event_stream(nursery, sse_app(broadcaster), headers=headers)
        await _time(_take, browser, 2 * count)
        took["looked up"] = (time.monotonic() - began) / 2
        gaps = relay.statistics().gaps
        line.rate = math.inf
        nursery.cancel_scope.cancel("all is measured")
    what = f"{count} events of {_LARGE:,} bytes at {rate:,} bytes/s"
    floor = count * _LARGE / rate
    return [
        Finding(f"{what}: gaps", gaps, 0),
        *(Finding(f"{what}, {name}: time / bytes' time", t / floor, 2) for name, t in took.items()),
    ]


async def _time(work: Callable[..., Awaitable[None]], *arguments: object) -> float:
    began = time.monotonic()
    with trio.move_on_after(_PATIENCE) as patience:
        await work(*arguments)
    return math.inf if patience.cancelled_caught else time.monotonic() - began


async def _take(client: trio.abc.ReceiveChannel[object], count: int) -> None:
    for _ in range(count):
        await client.receive()


async def _publish(broadcaster: Broadcaster, relay: RedisRelay, text: str, count: int) -> None:
    for _ in range(count):
        broadcaster.broadcast("large", text)
    while relay.statistics().outbox_events:  # noqa: ASYNC110 (which nobody announces)
        await trio.sleep(0.01)


async def _batches(redis: RedisServer) -> Finding:
    """Broadcast a buffer full at a time, to a client that takes one a millisecond."""
    taken: list[str | None] = []

    async def take(client: Subscription) -> None:
        async for event in client:
            taken.append(event.data)
            await trio.sleep(0.001)

    async with _relaying(redis.url, "batches") as (broadcaster, _), trio.open_nursery() as nursery:
        nursery.start_soon(take, broadcaster.subscribe())
        for start in range(0, _BATCHES * _BUFFER, _BUFFER):
            for number in range(start, start + _BUFFER):
                broadcaster.broadcast("message", str(number))
            await broadcaster.wait_all_taken()
        pruned = broadcaster.statistics().clients_pruned
        nursery.cancel_scope.cancel("all is taken")
    lost = _BATCHES * _BUFFER - len(taken) + pruned
    return Finding(f"{_BATCHES * _BUFFER:,} events by batches of a buffer: lost", lost, 0)


async def _flood(redis: RedisServer) -> list[Finding]:
    """Broadcast for a while as fast as the outbox takes it."""
    sent = full = resets = 0
    async with _relaying(redis.url, "flood", maxlen=1_000) as (broadcaster, relay):
        with broadcaster.subscribe() as client, trio.move_on_after(_FLOOD):
            while True:
                try:
                    broadcaster.broadcast("message", str(sent))
                    sent += 1
                except trio.WouldBlock:
                    full += 1
                    await trio.sleep(0.001)
                with suppress(trio.WouldBlock):
                    while True:
                        resets += client.receive_nowait().event == RESET_EVENT
        gaps = relay.statistics().gaps
    return [
        Finding(f"a flood of {sent:,} events in {_FLOOD:g} s, {full:,} times full: gaps", gaps, 0),
        Finding("a flood: resets", resets, 0),
        Finding("a flood: runs in which the outbox never was full", not full, 0),
    ]
