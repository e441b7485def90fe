"""Broadcasts that strike anywhere: from a signal handler, then from `__del__`. Nothing may be lost.

    python -m benchmarks.soak.signals [--seconds 10] [--rate 200]

All is in one process: the program, which broadcasts too, a hundred readers in tasks, and a hundred
sockets under `trio_sse.hypercorn.serve`. Strikes fall into broadcasts, and into opens, leaves,
prunes, disconnects and closes. Half of the clients leave, or are slow and pruned, and come back by
their last event ID; the history holds all, so no reset is right. Each client must get each event
once, and all in one order, which is that of the ids. Alone, it exits with 1 if anything is wrong.
"""

from __future__ import annotations

import argparse
import itertools
import logging
import random
import sys
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

import trio
from hypercorn.config import Config

from trio_sse import Broadcaster, sse_app
from trio_sse.hypercorn import serve

from ..clients.local import END, Client, read, visit
from ..clients.sequence import judge
from ..report.finding import Finding
from .strikes import Strike, give_up_after, strike_by_finalizers, strike_by_signals

_READERS: Final = 100
_SOCKETS: Final = 100
_KEYS: Final = 10

#: So small that a reader who sleeps for a while is pruned; and so large that all is kept.
_BUFFER, _HISTORY = 64, 1_000_000

#: The longest time from one disconnect, or close, to the next.
_PAUSE: Final = 0.2

#: Seconds until what has struck has gone out, and in which all must have all.
_SETTLE, _PATIENCE = 0.5, 20.0

#: Who strikes, and how: given what to do, and how often in a second, for ever.
_WAYS: Final[dict[str, Callable[[Strike, float], Awaitable[None]]]] = {
    "a signal handler": strike_by_signals,
    "__del__": strike_by_finalizers,
}


class _Run:
    """One broadcaster, its clients, and what went wrong."""

    def __init__(self, way: str, seconds: float, rate: float) -> None:
        self.way, self.seconds, self.rate = way, seconds, rate
        self.chance = random.Random(0)  # noqa: S311 (repeatable)
        self.broadcaster = _broadcaster(_BUFFER)
        #: One that is closed soon, and read only then.
        self.other = _broadcaster(_HISTORY)
        self.readers = _clients(_READERS)
        self.sockets = _clients(_SOCKETS)
        self.struck = self.uneven = 0
        self.faults: list[str] = []
        self.numbers = itertools.count()

    @property
    def clients(self) -> list[Client]:
        return [*self.readers, *self.sockets]

    def publish(self, who: str = "the program") -> None:
        """Broadcast the next event, wherever this is called."""
        with self._noting_faults(who):
            self.broadcaster.broadcast("message", str(next(self.numbers)))

    def strike(self) -> None:
        """Broadcast amid whatever goes on."""
        self.struck += 1
        self.publish(self.way)
        with self._noting_faults(self.way), suppress(trio.ClosedResourceError):
            self.other.broadcast("message", str(self.struck))

    @contextmanager
    def _noting_faults(self, who: str) -> Generator[None]:
        try:
            yield
        except Exception as error:
            self.faults.append(f"{who}: {error!r}")


def _broadcaster(buffer_size: int) -> Broadcaster:
    broadcaster = Broadcaster(buffer_size, history_size=_HISTORY)
    for name in ("message", END):
        broadcaster.register_event(name)
    return broadcaster


def _clients(count: int) -> list[Client]:
    """Return clients of which half stay."""
    return [Client(random.Random(n), stays=n % 2 == 0) for n in range(count)]  # noqa: S311


async def _publish(run: _Run) -> None:
    """Broadcast as often as strikes do, in small bursts."""
    while True:
        await trio.sleep(run.chance.uniform(0, 4 / run.rate))
        for _ in range(run.chance.randint(1, 3)):
            run.publish()


async def _disconnect(run: _Run) -> None:
    """End the streams of one key now and then; who was disconnected comes back."""
    while True:
        await trio.sleep(run.chance.uniform(0, _PAUSE))
        run.broadcaster.disconnect(run.chance.randrange(_KEYS))


async def _open_and_close(run: _Run) -> None:
    """Close broadcasters amid strikes; all clients of one must have got the same.

    What strikes while they come is for those who are there: each has the end of the first's story.
    """
    while True:
        clients = [run.other.subscribe() for _ in range(_KEYS)]
        await trio.sleep(run.chance.uniform(0, _PAUSE))
        run.other.close()
        stories = [[event.data async for event in client] for client in clients]
        run.uneven += any(stories[0][-len(story) or None :] != story for story in stories)
        run.other = _broadcaster(_HISTORY)


async def _serve(run: _Run, nursery: trio.Nursery) -> int:
    """Serve the sockets, and note what the server complains of; return the port."""
    config = Config()
    config.bind = ["127.0.0.1:0"]
    config.errorlog = logging.getLogger(f"{__name__}.{run.way}")
    config.errorlog.addHandler(_Complaints(run.faults))
    (url,) = await nursery.start(serve, sse_app(run.broadcaster), config)
    return int(url.rpartition(":")[2])


class _Complaints(logging.Handler):
    """Notes what is logged as a fault."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__()
        self._faults = faults

    def emit(self, record: logging.LogRecord) -> None:
        self._faults.append(f"the server: {record.getMessage()}")


async def _strike(run: _Run) -> None:
    """Let strikes fall into all that may go on, for so long; then let them go out."""
    with trio.move_on_after(run.seconds):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_WAYS[run.way], run.strike, run.rate)
            for work in (_publish, _disconnect, _open_and_close):
                nursery.start_soon(work, run)
    await trio.sleep(_SETTLE)


async def _live(run: _Run) -> None:
    """Let the clients come; strike; wait until all clients have all."""
    async with trio.open_nursery() as serving, trio.open_nursery() as clients:
        port = await _serve(run, serving)
        for client in run.readers:
            key = client.chance.randrange(_KEYS)
            clients.start_soon(read, run.broadcaster, client, key)
        for client in run.sockets:
            clients.start_soon(visit, port, client)
        while run.broadcaster.client_count < len(run.clients):  # noqa: ASYNC110 (of the server's)
            await trio.sleep(_SETTLE)
        run.publish()  # Whoever has no event yet has no id to come back by.
        await trio.sleep(_SETTLE)
        await _strike(run)
        run.broadcaster.broadcast(END, "")
        with trio.move_on_after(_PATIENCE):
            while not all(client.has_all for client in run.clients):  # noqa: ASYNC110 (of many)
                await trio.sleep(_SETTLE)
        for nursery in (clients, serving):
            nursery.cancel_scope.cancel("all is read, or never will be")


def _judge(run: _Run) -> dict[str, int]:
    """Count what is wrong."""
    pairs = {pair for one in run.clients for pair in zip(one.ids, one.story.numbers, strict=True)}
    in_order = sorted(pairs, key=lambda pair: int(pair[0].rpartition("-")[2]))
    stream = list(dict.fromkeys(number for _, number in in_order))
    return {
        "; ".join(["faults", *run.faults[:1]]): len(run.faults),
        "clients that have not come to the end": sum(not one.has_all for one in run.clients),
        "events that nobody got": next(run.numbers) - len(stream),
        "ids that two events have": len(pairs) - len({event_id for event_id, _ in pairs}),
        "events that have two ids": len(pairs) - len(stream),
        **judge((one.story for one in run.clients), stream),
        "broadcasters that were closed for some of their clients sooner": run.uneven,
    }


def check(cache: Path, seconds: float = 10.0, rate: float = 200.0) -> list[Finding]:
    """Return what is wrong after strikes of each way."""
    return [finding for way in _WAYS for finding in _check(_Run(way, seconds, rate))]


def _check(run: _Run) -> list[Finding]:
    try:
        with give_up_after(run.seconds + 2 * _PATIENCE):
            trio.run(_live, run)
    except Exception as error:
        run.faults.append(f"the run: {error!r}, {error.__cause__!r}")
    pruned = run.broadcaster.statistics().clients_pruned
    visits = sum(client.visits for client in run.clients)
    what = f"{run.struck:,} broadcasts in {run.way}, {visits:,} visits, {pruned:,} prunes"
    return [Finding(f"{what}: {name}", count, 0) for name, count in _judge(run).items()]


def main() -> None:
    """Strike, tell what was found, and exit with 1 if anything is wrong."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rate", type=float, default=200.0, help="strikes in a second")
    options = parser.parse_args()
    findings = check(Path(), options.seconds, options.rate)
    for finding in findings:
        print(f"{finding.verdict}  {': '.join(finding.row()[:2])}")
    sys.exit(any(finding.verdict == "FAIL" for finding in findings))


if __name__ == "__main__":
    main()
