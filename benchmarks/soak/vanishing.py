"""What a node has not yet read vanishes in Redis, and its connection lives: each hole is told once.

The process of one node stands still for 1.4 seconds; meanwhile another one publishes, the stream is
deleted, expires, is trimmed or evicted, or is kept shorter by the other node than by this one, and
more is published. Its clients must have been told before what follows a hole, and none twice; so
must who comes back later, to either node, with an id from before it.
"""

from __future__ import annotations

import copy
import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Final

import trio

from ..clients.sequence import number_of, silent_holes
from ..clients.traveller import Traveller, count_late
from ..redis.server import RedisServer, redis_server
from ..report.finding import Finding
from ..servers.processes import Server
from ..servers.subjects import CORES, node

_STREAM: Final = "trio-sse"
_CLIENTS: Final = 20
_BURST: Final = 20
_STOPPED: Final = 1.4
_PATIENCE: Final = 30.0

#: Characters of an event: Redis trims entries of these sizes by the hundred, and one by one.
_SMALL, _LARGE = 100, 5_000


def _evict(redis: RedisServer) -> None:
    """Let Redis throw the stream away for want of memory."""
    redis.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
    redis.ask("CONFIG", "SET", "maxmemory", "4mb")
    number = 0
    while redis.ask("EXISTS", _STREAM):
        number += 1
        redis.ask("SET", f"filler {number}", "x" * 50_000)
    redis.ask("CONFIG", "SET", "maxmemory", "0")


_FAULTS: Final[dict[str, Callable[[RedisServer], object]]] = {
    "FLUSHALL": lambda redis: redis.ask("FLUSHALL"),
    "DEL": lambda redis: redis.ask("DEL", _STREAM),
    "PEXPIRE": lambda redis: redis.ask("PEXPIRE", _STREAM, "1"),
    "XTRIM": lambda redis: redis.ask("XTRIM", _STREAM, "MAXLEN", "3"),
    "eviction": _evict,
    "maxlen of 20": lambda redis: None,
}


def check(cache: Path) -> list[Finding]:
    """Return what was not told, or told twice, whatever made it vanish."""
    return [finding for fault in _FAULTS for finding in _check(cache, fault)]


def _check(cache: Path, fault: str) -> list[Finding]:
    maxlen, size = (20, _LARGE) if "maxlen" in fault else (10_000, _SMALL)
    with (
        redis_server() as redis,
        Server(node(redis.port, 0, maxlen=maxlen), cache) as writer,
        Server(node(redis.port, 1, maxlen=10_000), cache, core=CORES[-1]) as reader,
    ):
        return trio.run(_suffer, fault, size, redis, writer, reader)


async def _suffer(
    fault: str, size: int, redis: RedisServer, writer: Server, reader: Server
) -> list[Finding]:
    travellers = [Traveller(random.Random(number)) for number in range(_CLIENTS)]  # noqa: S311
    published = 0

    async def publish() -> None:
        nonlocal published
        writer.tell(" ".join(["seal", *[str(size + 1)] * _BURST]))
        published += _BURST
        await trio.sleep(0.2)

    def has_all(one: Traveller) -> bool:
        return one.story.last.get(0) == number_of(0, published - 1)

    async with trio.open_nursery() as clients:
        for traveller in travellers:
            clients.start_soon(_stay, traveller, reader)
        await count_late(travellers, Traveller.has_begun, _PATIENCE)
        await publish()
        await count_late(travellers, has_all, _PATIENCE)
        # Those who come back later, to each node, are as some are now.
        later = [copy.deepcopy(travellers[0]) for _ in range(2)]
        reader.process.send_signal(signal.SIGSTOP)
        await publish()
        await trio.to_thread.run_sync(_FAULTS[fault], redis)
        await publish()
        await trio.sleep(_STOPPED - 0.4)
        reader.process.send_signal(signal.SIGCONT)
        await publish()
        late = await count_late(travellers, has_all, _PATIENCE)
        for traveller, server in zip(later, (writer, reader), strict=True):
            clients.start_soon(_stay, traveller, server)
        await count_late(later, lambda one: has_all(one) or bool(one.story.resets), _PATIENCE)
        await publish()
        late += await count_late(travellers + later, has_all, _PATIENCE)
        clients.cancel_scope.cancel("all is read, or never will be")
    resets = {len(one.story.resets) for one in travellers}
    what = f"{fault}, a node stood still for {_STOPPED} s, {_CLIENTS} clients and 2 who come later"
    return [
        Finding(f"{what}: silent holes", sum(silent_holes(t.story) for t in travellers + later), 0),
        Finding(f"{fault}: clients that did not get all that followed", late, 0),
        Finding(f"{fault}: resets of a client beyond one", max(resets) - 1, 0),
    ]


async def _stay(traveller: Traveller, server: Server) -> None:
    while True:
        await traveller.visit(server.port)
        await trio.sleep(traveller.away)
