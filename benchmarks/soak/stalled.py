"""A hundred clients that never read among a thousand: the others do not notice, and they go.

Two servers, one with 900 clients that read, one with 100 more that do not. Large events fill what
the kernel holds for the stalled; from then on small events are timed for the others, and it is
timed when tasks and descriptors of the stalled are gone.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from ..report.finding import Finding
from ..servers.processes import Load, Server
from ..servers.remains import no_more_than, wait_until
from ..servers.subjects import patient

_READING, _STALLED = 900, 100
_ROUNDS: Final = 3
_WRITE_TIMEOUT: Final = 10.0
_PATIENCE: Final = 2 * _WRITE_TIMEOUT

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
        wait_until(server, lambda now: now["streams"] == _READING + stalled, _PATIENCE)
        load.ask(_FILL)
        full = time.monotonic()
        latency = median(load.ask("publish 15 1 64")["latencies"])
        gone_after = wait_until(server, no_more_than(before), _PATIENCE) - full
        server.tell("trim")  # The kernel's view of memory lags behind by what malloc keeps.
        server.ask("report")
        return _Run(latency, gone_after, server.resident())
