"""Two hundred clients that are cut at random bytes 5,000 times in all, and miss nothing.

While 20,000 events are sent in random bursts, a half of the connections go through a proxy that
cuts them (`benchmarks.network.proxy`); the others are closed or reset by the client, amid whatever
it has read. Each client comes back as a browser does (`benchmarks.clients.browser`), a tenth with
its last event ID in the query. The history holds all, so no reset is right. By each way to the
socket.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import trio

from ..clients.sequence import judge
from ..clients.traveller import Traveller, count_late
from ..network.proxy import Proxy, draw_cut
from ..report.finding import Finding
from ..servers.processes import Server
from ..servers.remains import wait_until
from ..servers.subjects import remembering

_WAYS: Final = ("direct", "portable", "quart")
_CLIENTS: Final = 200
_EVENTS: Final = 20_000
_CUTS: Final = 5_000

#: How many events a burst has at most, of how many characters, and the mean of the pauses.
_BURST, _SIZE, _PAUSE = 40, 100, 0.05

#: Bytes that a connection gets on average.
_MEAN: Final = 60_000

#: The longest time until a client comes back: mostly at once, sometimes after hundreds of events.
_AWAY: Final = (0.0, 0.05, 0.05, 1.0)

_PATIENCE: Final = 300.0


@dataclass
class _Run:
    """All that one server's clients have in common."""

    server: Server
    events: int
    proxy: Proxy
    proxied: int = 0
    cuts: int = 0
    aborted: int = 0
    travellers: list[Traveller] = field(default_factory=list[Traveller])
    astray: int = 0
    late: int = 0


def check(cache: Path, events: int = _EVENTS) -> list[Finding]:
    """Return what was lost, by each way."""
    return [finding for way in _WAYS for finding in _check(cache, way, events)]


def _check(cache: Path, way: str, events: int) -> list[Finding]:
    with Server(remembering(way, events), cache) as server:
        proxy = Proxy(server.port, _MEAN, random.Random(0))  # noqa: S311 (repeatable)
        run = _Run(server, events, proxy)
        trio.run(_follow_all, run, way)
    cuts = run.cuts + proxy.cuts
    wanted = _CUTS * events // _EVENTS
    faults = [fault for traveller in run.travellers for fault in traveller.faults]
    wrong = judge((traveller.story for traveller in run.travellers), range(events))
    return [
        Finding(f"{events:,} events, {way}, {cuts:,} cuts: too few", max(0, wanted - cuts), 0),
        Finding(f"clients that did not go the way, {way}", run.astray, 0),
        Finding("; ".join([f"corrupt, {way}", *faults[:1]]), len(faults), 0),
        Finding(f"clients that had not got to the end in time, {way}", run.late, 0),
        *(Finding(f"{name}, {way}", count, 0) for name, count in wrong.items()),
        Finding(f"streams that the server broke off, {way}", run.aborted, 0),
    ]


async def _follow_all(run: _Run, way: str) -> None:
    """Let the clients come; send the events; wait until all clients have them."""
    async with trio.open_nursery() as nursery:
        run.proxied = await nursery.start(run.proxy.run)
        for number in range(1, _CLIENTS + 1):
            run.travellers.append(Traveller(random.Random(number)))  # noqa: S311
            nursery.start_soon(_follow, run, run.travellers[-1])
        run.astray = await trio.to_thread.run_sync(_count_astray, run.server, way)
        await _publish(run, random.Random(0))  # noqa: S311
        run.late = await count_late(
            run.travellers, lambda one: run.events - 1 in one.story.last.values(), _PATIENCE
        )
        nursery.cancel_scope.cancel("all is read, or never will be")


def _count_astray(server: Server, way: str) -> int:
    """Wait until all clients are there; return how many are not, or go another way."""
    direct = 0 if way == "portable" else _CLIENTS
    there = {"clients": _CLIENTS, "clients_direct": direct}
    wait_until(server, lambda now: there.items() <= now.items(), _PATIENCE)
    report: dict[str, int] = server.ask("report")
    return max(abs(report[name] - count) for name, count in there.items())


async def _publish(run: _Run, chance: random.Random) -> None:
    left = run.events
    due = time.monotonic()
    while left:
        count = min(left, chance.randint(1, _BURST))
        run.server.tell(" ".join(["seal", *(str(chance.randint(0, _SIZE)) for _ in range(count))]))
        left -= count
        due += chance.uniform(0, 2 * _PAUSE)
        await trio.sleep(max(0, due - time.monotonic()))


async def _follow(run: _Run, traveller: Traveller) -> None:
    """Be one client: of the proxy and of the server itself, as it is drawn."""
    chance = traveller.chance
    while True:
        # Nobody knows what one has missed who has no ID yet: that one is cut later.
        if traveller.has_begun() and chance.random() < 0.5:
            await traveller.visit(run.proxied)
        else:
            ending = await traveller.visit(run.server.port, draw_cut(chance, _MEAN))
            run.cuts += ending == "left"
            run.aborted += ending == "broken"
        await trio.sleep(chance.uniform(0, chance.choice(_AWAY)))
