"""A hundred clients that never read among a thousand: the others do not notice, and they go.

Two servers, one with 900 clients that read, one with 100 more that do not. Large events fill what
the kernel holds for the stalled; from then on small events are timed for the others, and it is
timed when tasks and descriptors of the stalled are gone.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from ..processes import Load, Server
from ..subjects import patient
from .finding import Finding

_Report = Mapping[str, float]

_READING, _STALLED = 900, 100
_ROUNDS: Final = 3
_WRITE_TIMEOUT: Final = 10.0

#: 256 KiB for each client, more than the kernel holds for one that has a small window.
_FILL: Final = "publish 4 4 16384"


@dataclass(frozen=True)
class _Run:
    latency: float
    gone_after: float
    resident: int


def check(cache: Path) -> list[Finding]:
    """Return how much the others' latency grew, when the stalled were gone, and what is left."""
    pairs = [(_run(cache, 0), _run(cache, _STALLED)) for _ in range(_ROUNDS)]
    growth = median(there.latency / without.latency for without, there in pairs)
    gone = max(there.gone_after for _, there in pairs)
    kept = median(there.resident - without.resident for without, there in pairs) / 2**20
    return [
        Finding("100 stalled of 1,000: last-client latency, with / without", growth, 1.2),
        Finding("the stalled are gone after", gone, _WRITE_TIMEOUT + 1, "s"),
        Finding("memory left of them", kept, 4, "MiB"),
    ]


def _run(cache: Path, stalled: int) -> _Run:
    subject = patient("direct", _WRITE_TIMEOUT)
    with Server(subject, cache) as server, Load(server, _READING) as load:
        load.ask("publish 3 1 64")
        before = server.ask("report")
        load.ask(f"stall {stalled}")
        _await(server, lambda now: now["streams"] == _READING + stalled)
        load.ask(_FILL)
        full = time.monotonic()
        latency = median(load.ask("publish 15 1 64")["latencies"])
        gone_after = _await(server, lambda now: _nothing_more(now, before)) - full
        server.tell("trim")  # The kernel's view of memory lags behind by what malloc keeps.
        server.ask("report")
        return _Run(latency, gone_after, server.resident())


def _await(server: Server, reached: Callable[[_Report], bool]) -> float:
    """Wait until the server reports what is awaited; return when it did, or infinity."""
    give_up = time.monotonic() + 2 * _WRITE_TIMEOUT
    while time.monotonic() < give_up:
        if reached(server.ask("report")):
            return time.monotonic()
        time.sleep(0.1)
    return math.inf


def _nothing_more(now: _Report, before: _Report) -> bool:
    return all(now[name] <= before[name] for name in ("streams", "tasks", "descriptors"))
