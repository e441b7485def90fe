"""What the relay adds to coredis: from a publisher on one node to a client of another, in one run.

Beside it, coredis alone from one process to another (`benchmarks.redis.plain`): the client's own
way, and by one connection as the relay uses it. Paced events tell how long one is under way, a
flood how many there can be. Then three hundred clients come back at once for five hundred events:
all with one id, or each with its own; with a history that has them, or one that has not.
"""

from __future__ import annotations

import math
import re
import select
import subprocess
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles
from typing import Final

import trio

from ..clients.returning import Returning, read_all
from ..load.client import Client
from ..load.payload import STAMP
from ..redis.cluster import read_stream
from ..redis.server import RedisServer, cpu, redis_server
from ..report.finding import Finding
from ..servers.processes import Process, Server
from ..servers.remains import wait_until
from ..servers.subjects import CORES, node, python

_ROUNDS: Final = 3
_SIZE: Final = 64

#: Paced events, each so many milliseconds.
_PACED, _PAUSE = 300, 10

#: Events of a flood, one by one and in batches of so many.
_SINGLE, _FLOOD, _BATCH = 3_000, 20_000, 100

#: Those who come back, what each has missed, and the histories of their node.
_RETURNING, _MISSED = 300, 500
_HISTORIES: Final = (256, 1000)

_PATIENCE: Final = 60.0
_ID: Final = re.compile(rb"^id: (.+)$", re.MULTILINE)

#: What holds by far where nothing else runs; beside a pipeline, the ratio is only told.
_LATENCY, _FACTOR, _RETURN = 20.0, 1.0, 10.0


@dataclass(frozen=True)
class _Flow:
    """How long events were under way, in milliseconds, and how many came in a second."""

    delays: list[float]
    rate: float


def check(cache: Path) -> list[Finding]:
    """Return what the relay costs beside coredis, and how long a crowd takes to come back."""
    return [
        Finding("modules of coredis that `import trio_sse` loads", _loads(cache), 0),
        *_check_flows(cache),
        *(
            finding
            for history in _HISTORIES
            for distinct in (False, True)
            for finding in _check_return(cache, history, distinct=distinct)
        ),
    ]


def _loads(cache: Path) -> int:
    program = "import sys, trio_sse; print(sum(name.startswith('coredis') for name in sys.modules))"
    return int(subprocess.check_output([python(cache), "-c", program]))  # noqa: S603


def _check_flows(cache: Path) -> list[Finding]:
    paced: dict[str, list[float]] = {}
    rates: dict[str, list[float]] = {}
    for _ in range(_ROUNDS):
        for name, flow in _flows(cache):
            paced.setdefault(name, []).extend(flow.delays)
            rates.setdefault(name, []).append(flow.rate)
    ours = rates.pop("relay, flood")
    return [
        *(_latency(name, delays) for name, delays in paced.items() if "paced" in name),
        *(
            Finding(
                f"{name}, {median(theirs):,.0f} events/s; by the relay {median(ours):,.0f}; ratio",
                median(theirs) / median(ours),
                _FACTOR if "one by one" in name else math.inf,
            )
            for name, theirs in rates.items()
            if "paced" not in name
        ),
    ]


def _latency(name: str, delays: list[float]) -> Finding:
    what = f"{name}: median {median(delays):.2f} ms, 99 %"
    return Finding(what, quantiles(delays, n=100)[-1], _LATENCY, "ms")


def _flows(cache: Path) -> Iterator[tuple[str, _Flow]]:
    """Measure each in turn."""
    with _two_nodes(cache) as (sender, receiver):
        client = _Listener(receiver.port)
        sender.tell(f"pace {_PAUSE} {_PACED} {_SIZE}")
        yield "relay, paced", client.read(_PACED)
        sender.tell(f"publish {_FLOOD} {_SIZE}")
        yield "relay, flood", client.read(_FLOOD)
    for way in ("plain", "pinned"):
        yield f"coredis {way}, paced", _plain(cache, way, _PACED, _PAUSE, 1)
        yield f"coredis {way}, one by one", _plain(cache, way, _SINGLE, 0, 1)
        yield f"coredis {way}, pipelined", _plain(cache, way, _FLOOD, 0, _BATCH)


@contextmanager
def _two_nodes(cache: Path) -> Generator[tuple[Server, Server]]:
    with (
        redis_server() as redis,
        Server(node(redis.port, 0), cache) as sender,
        Server(node(redis.port, 1), cache, core=CORES[-1]) as receiver,
    ):
        yield sender, receiver


def _plain(cache: Path, way: str, *options: int) -> _Flow:
    """Let events go from one process to another by coredis alone."""
    with redis_server() as redis:
        program = "benchmarks.redis.plain"
        read, write = (
            [str(part) for part in (python(cache), "-m", program, verb, redis.port, way, *options)]
            for verb in ("read", "write")
        )
        with Process(read, CORES[-1]) as reader:
            reader.ask("")
            with Process(write, CORES[0]):
                return _Flow(**reader.ask(""))


class _Listener:
    """A client that notes how long what it reads was under way; pruned, it comes back."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._last_id = ""
        self._connect()
        while not self._client.streaming:
            self._take()

    def read(self, count: int) -> _Flow:
        """Read so many events.

        Raises:
            TimeoutError: If they do not come.
        """
        delays: list[float] = []
        began, give_up = 0.0, time.monotonic() + _PATIENCE
        while len(delays) < count:
            if time.monotonic() > give_up:  # Heartbeats come even then.
                raise TimeoutError(f"{count - len(delays)} events do not come")
            whole = self._take()
            now = time.monotonic_ns()
            began = began or time.monotonic()
            delays += [(now - int(stamp[1])) / 1e6 for stamp in STAMP.findall(whole)]
        return _Flow(delays, count / (time.monotonic() - began))

    def _connect(self) -> None:
        self._client = Client(self._port, last_event_id=self._last_id)
        self._held: bytes = b""

    def _take(self) -> bytes:
        """Return the events that are complete."""
        if not select.select([self._client.sock], [], [], _PATIENCE)[0]:
            raise TimeoutError("no event comes")
        whole, _, self._held = (self._held + self._client.take()).rpartition(b"\n\n")
        self._last_id = (_ID.findall(whole) or [self._last_id.encode()])[-1].decode()
        if self._client.ended:
            self._client.sock.close()
            self._connect()
        return whole


def _check_return(cache: Path, history: int, *, distinct: bool) -> list[Finding]:
    """Let a crowd come back for what it has missed."""
    with redis_server() as redis, Server(node(redis.port, 0, history), cache) as server:
        ids = _publish(redis, server)
        before, began = cpu(redis), time.monotonic()
        crowd = [
            Returning(server.port, ids, _RETURNING - 1 - distinct * number)
            for number in range(_RETURNING)
        ]
        turned_away = read_all(crowd)
        seconds, spent = time.monotonic() - began, cpu(redis) - before
    who = "each with an id of its own" if distinct else "with one id"
    what = f"{_RETURNING} come back for {_MISSED} events or more, {who}, history {history}"
    costs = f"Redis {spent:.2f} s of CPU, {turned_away} times turned away"
    wrong = sum(not client.is_whole for client in crowd)
    return [
        Finding(f"{what}: {costs}; all have all after", seconds, _RETURN, "s"),
        Finding("clients that did not get each once and in order", wrong, 0),
    ]


def _publish(redis: RedisServer, server: Server) -> list[str]:
    """Publish what all know and what all have missed; return the ids."""
    count = _RETURNING + _MISSED
    server.tell(f"publish {count} {_SIZE}")
    wait_until(server, lambda now: now["received"] == count, _PATIENCE)
    return list(trio.run(read_stream, redis))
