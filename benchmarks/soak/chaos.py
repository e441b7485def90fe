"""Three nodes on bad lines to a Redis server that is killed; sixty clients hop among them.

Each node reaches Redis through a proxy that cuts, blocks, refuses, loses and holds up
(`benchmarks.network.chaos_proxy`); Redis is killed and started again meanwhile. All nodes publish
in random bursts; clients leave at random bytes and come back to any node
(`benchmarks.clients.traveller`). With a Redis that is durable, nobody may miss anything, and all
see one order; with one that forgets all when it is killed, whoever has missed something is told
before what follows it. So it is with Sentinels, where the replica of the killed primary goes on
with what it has, and connections to a primary are cut, or it answers nobody for a while. What
that replica had not is lost, and told by the nodes that had it; others have nothing to tell.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final, Literal

import trio

from ..clients.sealed import unseal
from ..clients.sequence import judge, misnumbered, number_of, silent_holes
from ..clients.traveller import Traveller, count_late
from ..network.proxy import draw_cut
from ..redis.cluster import Node, count_leaks, open_nodes, read_stream, wait_until_published
from ..redis.failover import Failover, failover
from ..redis.server import PERSISTENT, RedisServer, redis_server
from ..report.finding import Finding

SEEDS: Final = range(1, 11)

#: What Redis is: a server that forgets nothing, or all, when it is killed; or one that fails over.
Kind = Literal["durable", "forgetful", "failover"]
KINDS: Final[Sequence[Kind]] = ("durable", "forgetful", "failover")

_CLIENTS: Final = 60

#: The nodes' histories: for one of them, clients that come back need Redis nearly always.
_HISTORIES: Final = (32, 256, 2000)

#: The relays' timeout; held up requests are held up for longer.
_TIMEOUT: Final = 1.5

#: Events of one seed, of how many characters; how many a burst has at most; the mean of the pauses.
_EVENTS, _SIZE, _BURST, _PAUSE = 5_400, 100, 40, 0.05

#: How often Redis is killed, in how many seconds, and how long it is away.
_KILLS, _SECONDS, _AWAY = 4, 12.0, (0.05, 1.0)

#: Bytes that a client reads on average until it leaves.
_MEAN: Final = 160_000

#: Seconds that Sentinels may take to agree on another primary.
_ELECTION: Final = 10.0

#: Seconds after the last fault in which all must have all.
_PATIENCE: Final = 20.0

#: A second that Redis may wait, the timeout, the longest pause between two attempts, and a little.
_LONGEST_STALL: Final = 1.0 + _TIMEOUT + 2.0 + 0.5


@dataclass
class Run:
    """One seed's run, and what was found."""

    seed: int
    kind: Kind
    nodes: list[Node] = field(default_factory=list[Node])
    travellers: list[Traveller] = field(default_factory=list[Traveller])
    events: int = 0
    #: The numbers of those that were acknowledged.
    numbers: set[int] = field(default_factory=set[int])
    faults: Counter[str] = field(default_factory=Counter[str])
    wrong: Counter[str] = field(default_factory=Counter[str])
    publishing: bool = False
    #: Since when Redis answers, by CLOCK_MONOTONIC; `None` while it does not.
    redis_up_since: float | None = 0.0

    def clear(self, node: Node) -> float | None:
        """Return since when clients of a node should hear something; `None` if they need not."""
        since = (node.proxy.clear_since, self.redis_up_since)
        return max(filter(None, since)) if self.publishing and None not in since else None

    @property
    def stall(self) -> float:
        """The longest time in which a client got nothing that should have."""
        return max(traveller.stall for traveller in self.travellers)


def check(cache: Path, seeds: Sequence[int] = SEEDS) -> list[Finding]:
    """Return what was lost, of all seeds together."""
    return [
        finding
        for kind in KINDS
        for finding in _findings([run_seed(cache, seed, kind) for seed in seeds], kind)
    ]


def _findings(runs: Sequence[Run], kind: Kind) -> list[Finding]:
    faults = sum((run.faults for run in runs), Counter[str]())
    wrong = sum((run.wrong for run in runs), Counter[str]())
    events = sum(run.events for run in runs)
    what = f"{len(runs)} seeds of chaos, {kind}: {events:,} events, {faults.total():,} faults"
    longest = _LONGEST_STALL + (_ELECTION if kind == "failover" else 0)
    return [
        *(Finding(f"{what}: {name}", wrong[name], 0) for name in runs[0].wrong),
        Finding(f"{kind}: longest stall", max(run.stall for run in runs), longest, "s"),
    ]


def run_seed(cache: Path, seed: int, kind: Kind) -> Run:
    """Run one seed."""
    run = Run(seed, kind)
    options = PERSISTENT if kind == "durable" else ()
    with failover() if kind == "failover" else redis_server(*options) as redis:
        trio.run(_run, run, redis, cache)
    return run


async def _run(run: Run, redis: RedisServer | Failover, cache: Path) -> None:
    if isinstance(redis, Failover):
        await redis.settle()
    async with open_nodes(redis, cache, _HISTORIES, str(run.seed), _TIMEOUT) as run.nodes:
        async with trio.open_nursery() as clients:
            for number in range(_CLIENTS):
                chance = random.Random(f"{run.seed} client {number}")  # noqa: S311 (repeatable)
                run.travellers.append(Traveller(chance))
                clients.start_soon(_travel, run, run.travellers[-1])
            await count_late(run.travellers, Traveller.has_begun, _PATIENCE)
            await _suffer(run, redis)
            counts = await _finish(run)
            run.wrong["late clients"] = await count_late(
                run.travellers, lambda traveller: traveller.story.last == counts, _PATIENCE
            )
            clients.cancel_scope.cancel("all is read, or never will be")
        await _judge(run, redis)


async def _travel(run: Run, traveller: Traveller) -> None:
    while True:
        node = traveller.chance.choice(run.nodes)
        left = draw_cut(traveller.chance, _MEAN)
        await traveller.visit(node.server.port, left, partial(run.clear, node))
        await trio.sleep(traveller.away)


async def _suffer(run: Run, redis: RedisServer | Failover) -> None:
    """Publish while all goes wrong that may."""
    run.publishing = True
    chance = random.Random(f"{run.seed} redis")  # noqa: S311 (repeatable)
    async with trio.open_nursery() as nursery:
        if isinstance(redis, Failover):
            nursery.start_soon(_fail_over, run, redis, chance)
        else:
            for node in run.nodes:
                nursery.start_soon(node.proxy.do_harm)
            nursery.start_soon(_kill, run, redis, chance)
        await _publish(run, random.Random(f"{run.seed} events"))  # noqa: S311
        nursery.cancel_scope.cancel("all is published")
    for node in run.nodes:
        run.faults.update(node.proxy.faults)
    run.publishing = False


async def _kill(run: Run, redis: RedisServer, chance: random.Random) -> None:
    """Kill Redis now and then; whatever else ends, it is up in the end."""
    for _ in range(_KILLS):
        await trio.sleep(chance.uniform(0, 2) * _SECONDS / (_KILLS + 1))
        with trio.CancelScope(shield=True):
            run.redis_up_since = None
            redis.kill()
            run.faults["kill"] += 1
            await trio.sleep(chance.uniform(*_AWAY))
            await trio.to_thread.run_sync(redis.start)
            run.redis_up_since = time.monotonic()


async def _fail_over(run: Run, redis: Failover, chance: random.Random) -> None:
    """Let one primary after another be cut off, pause, and be killed."""
    while True:
        for _ in range(chance.randint(1, 4)):
            await trio.sleep(chance.uniform(0, 1))
            run.faults[redis.harm(chance)] += 1
        with trio.CancelScope(shield=True):
            run.redis_up_since = None
            await redis.fail(chance)
            run.faults["failover"] += 1
            run.redis_up_since = time.monotonic()


async def _publish(run: Run, chance: random.Random) -> None:
    due = time.monotonic()
    while run.events < _EVENTS:
        sizes = [chance.randint(0, _SIZE) for _ in range(chance.randint(1, _BURST))]
        chance.choice(run.nodes).server.tell(" ".join(["seal", *map(str, sizes)]))
        run.events += len(sizes)
        due += chance.uniform(0, 2 * _PAUSE)
        await trio.sleep(max(0, due - time.monotonic()))


async def _finish(run: Run) -> dict[int, int]:
    """Publish once more on each node, when all is well; return each one's last number."""
    await wait_until_published(run.nodes)
    for node in run.nodes:
        node.server.tell("seal 1")
        run.events += 1
    await wait_until_published(run.nodes)
    reports = [await node.ask("report") for node in run.nodes]
    for publisher, report in enumerate(reports):
        run.numbers |= {number_of(publisher, count) for count in range(report["published"])}
    return {
        publisher: number_of(publisher, report["published"] - 1)
        for publisher, report in enumerate(reports)
    }


async def _judge(run: Run, redis: RedisServer | Failover) -> None:
    """Compare what the clients got with what is in the stream, as far as anybody knows that."""
    stories = [traveller.story for traveller in run.travellers]
    wrong = run.wrong
    wrong["corrupt streams"] = sum(len(traveller.faults) for traveller in run.travellers)
    wrong["descriptors leaked"] = await count_leaks(run.nodes, _PATIENCE)
    if isinstance(redis, Failover):
        left = {unseal(text) for text in (await read_stream(redis.primary())).values()}
        gone = run.numbers - left
        run.faults["lost by Redis"] = len(gone)
        wrong["silent holes"] = sum(silent_holes(story, gone) for story in stories)
        return
    if run.kind == "forgetful":
        wrong["silent holes"] = sum(map(silent_holes, stories))
        return
    stream = {key: unseal(text) for key, text in (await read_stream(redis)).items()}
    numbers = list(stream.values())
    ids = await wait_until_published(run.nodes)
    wrong["events that the stream has not, or twice"] = abs(run.events - len(numbers))
    wrong["events out of their publisher's order"] = misnumbered(numbers)
    wrong["ids that publish() had wrong"] = sum(stream.get(ids[n]) != n for n in ids)
    wrong.update(judge(stories, numbers))
