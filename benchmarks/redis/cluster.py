"""Several nodes that share a stream, each in a process of its own, and what is in the stream.

Each reaches the Redis server through a proxy of its own (`benchmarks.network.chaos_proxy`), which
does no harm until it is told to; or the primary that Sentinels name, without one. It knows neither
clients nor what becomes of the nodes.
"""

from __future__ import annotations

import random
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import coredis
import trio

from ..network.chaos_proxy import ChaosProxy
from ..servers.processes import Server
from ..servers.subjects import CORES, node
from .failover import Failover
from .server import RedisServer

_STREAM: Final = "trio-sse"
_PATIENCE: Final = 30.0
_NAP: Final = 0.1


@dataclass
class Node:
    """One process, and its way to Redis."""

    server: Server
    proxy: ChaosProxy
    #: What it reported before it had clients.
    at_rest: dict[str, Any]

    async def ask(self, order: str) -> dict[str, Any]:
        """Give an order; return the answer."""
        return await trio.to_thread.run_sync(self.server.ask, order)


@asynccontextmanager
async def open_nodes(
    redis: RedisServer | Failover,
    cache: Path,
    histories: Sequence[int],
    name: str,
    timeout: float,  # noqa: ASYNC109 (of the relays)
) -> AsyncGenerator[list[Node]]:
    """Start nodes with such histories, and end them; their faults are drawn from the name."""
    nodes: list[Node] = []
    async with trio.open_nursery() as nursery:
        try:
            for publisher, history in enumerate(histories):
                primary = redis.servers[0] if isinstance(redis, Failover) else redis
                proxy = ChaosProxy(primary.port, random.Random(f"{name} {publisher}"))  # noqa: S311
                await nursery.start(proxy.run)
                way = redis.url if isinstance(redis, Failover) else proxy.port
                subject = node(way, publisher, history, timeout)
                server = Server(subject, cache, core=CORES[publisher % len(CORES)])
                nodes.append(Node(server, proxy, {}))
                await trio.to_thread.run_sync(server.__enter__)
            for one in nodes:
                one.at_rest = await one.ask("report")
            yield nodes
        finally:
            with trio.CancelScope(shield=True):
                for one in nodes:
                    await trio.to_thread.run_sync(one.server.__exit__, None, None, None)
            nursery.cancel_scope.cancel("the nodes are gone")


async def wait_until_published(nodes: Sequence[Node]) -> dict[int, str]:
    """Wait until Redis has all that was ordered; return the ids that `publish` has returned.

    Raises:
        trio.TooSlowError: If that takes too long.
    """
    ids: dict[int, str] = {}
    with trio.fail_after(_PATIENCE):
        for one in nodes:
            await _wait_for_none(one, "ids", "waiting")
            await _wait_for_none(one, "report", "outbox_events")
            answer = await one.ask("ids")
            ids |= {int(number): event_id for number, event_id in answer["ids"].items()}
    return ids


async def _wait_for_none(one: Node, order: str, name: str) -> None:
    while (await one.ask(order))[name]:  # noqa: ASYNC110 (another process's)
        await trio.sleep(_NAP)


async def read_stream(redis: RedisServer) -> dict[str, str]:
    """Return all that is in the stream: the events' data by their ids."""
    async with coredis.Redis(port=redis.port, decode_responses=True) as client:
        entries = await client.xrange(_STREAM)
    return {str(entry.identifier): str(entry.field_values["data"]) for entry in entries}


async def count_leaks(nodes: Sequence[Node], patience: float) -> int:
    """Return how many descriptors the nodes have more than before they had clients."""
    give_up = time.monotonic() + patience
    while True:
        reports = [await one.ask("report") for one in nodes]
        leaks: int = sum(
            max(0, report["descriptors"] - one.at_rest["descriptors"])
            for one, report in zip(nodes, reports, strict=True)
        )
        if not leaks or time.monotonic() > give_up:
            return leaks
        await trio.sleep(_NAP)
