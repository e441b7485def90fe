"""One of three nodes is killed under load: its hundred clients go on at another, exactly.

All nodes publish; what the killed one has not brought into the stream is gone with it, and nothing
else. Its clients are told by no last word: they come back with their last event ID as browsers do.
"""

from __future__ import annotations

import math
import random
import time
from pathlib import Path
from typing import Final

import trio

from ..clients.sealed import unseal
from ..clients.sequence import judge, misnumbered
from ..clients.traveller import Traveller, count_late
from ..redis.cluster import Node, open_nodes, read_stream, wait_until_published
from ..redis.server import PERSISTENT, RedisServer, redis_server
from ..report.finding import Finding

_CLIENTS: Final = 100
_HISTORIES: Final = (256, 256, 256)
_TIMEOUT: Final = 5.0

#: Bursts of so many events of so many characters, each so many seconds; the first part of them is
#: published before the node is killed.
_BURSTS, _BURST, _SIZE, _PAUSE = 200, 10, 100, 0.02
_BEFORE: Final = 80

#: Seconds in which all clients of the killed node get events again: 0.4 at most they stay away.
_LONGEST_RETURN: Final = 2.0

_PATIENCE: Final = 30.0


def check(cache: Path) -> list[Finding]:
    """Return what the clients of a killed node have missed."""
    with redis_server(*PERSISTENT) as redis:
        return trio.run(_check, redis, cache)


async def _check(redis: RedisServer, cache: Path) -> list[Finding]:
    travellers = [Traveller(random.Random(number)) for number in range(_CLIENTS)]  # noqa: S311
    opened = open_nodes(redis, cache, _HISTORIES, "node_killed", _TIMEOUT)
    async with opened as nodes, trio.open_nursery() as clients:
        for traveller in travellers:
            clients.start_soon(_follow, traveller, nodes)
        await count_late(travellers, Traveller.has_begun, _PATIENCE)
        await _publish(nodes, _BEFORE)
        nodes[0].server.process.kill()
        seconds = await _time_return(travellers, nodes[1:])
        await wait_until_published(nodes[1:])
        stream = [unseal(text) for text in (await read_stream(redis)).values()]
        late = await count_late(
            travellers, lambda one: stream[-1] in one.story.last.values(), _PATIENCE
        )
        clients.cancel_scope.cancel("all is read, or never will be")
    return _findings(travellers, stream, late, seconds)


async def _follow(traveller: Traveller, nodes: list[Node]) -> None:
    """Be one client: of the first node as long as there is one, then of another."""
    while True:
        alive = [node for node in nodes if node.server.process.poll() is None]
        node = alive[0] if len(alive) == len(nodes) else traveller.chance.choice(alive)
        await traveller.visit(node.server.port)
        await trio.sleep(traveller.away)


async def _publish(nodes: list[Node], bursts: int) -> None:
    order = " ".join(["seal", *(str(size) for size in range(_SIZE, _SIZE + _BURST))])
    for burst in range(bursts):
        nodes[burst % len(nodes)].server.tell(order)
        await trio.sleep(_PAUSE)


async def _time_return(travellers: list[Traveller], nodes: list[Node]) -> float:
    """Publish; return after how many seconds each client had got something again."""
    began = time.monotonic()
    before = {id(one): len(one.story.numbers) for one in travellers}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_publish, nodes, _BURSTS - _BEFORE)
        late = await count_late(
            travellers, lambda one: len(one.story.numbers) > before[id(one)], _PATIENCE
        )
        return math.inf if late else time.monotonic() - began


def _findings(
    travellers: list[Traveller], stream: list[int], late: int, seconds: float
) -> list[Finding]:
    stories = [traveller.story for traveller in travellers]
    what = f"a node is killed, its {_CLIENTS} clients go on at two others, {len(stream):,} events"
    return [
        Finding(f"{what}: all have got something again after", seconds, _LONGEST_RETURN, "s"),
        Finding("clients that had not got to the end in time", late, 0),
        Finding("events out of their publisher's order", misnumbered(stream), 0),
        *(Finding(name, count, 0) for name, count in judge(stories, stream).items()),
    ]
