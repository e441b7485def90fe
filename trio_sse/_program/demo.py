"""The source of `trio-sse demo`: this machine's own load, each second.

It knows psutil and the clock; it does not know who watches.
"""

from __future__ import annotations

import time
from typing import Final

import attrs
import psutil
import trio

from .._broadcaster import Broadcaster

_INTERVAL: Final = 1.0


@attrs.frozen
class Memory:
    """Bytes of memory."""

    used: int
    total: int


@attrs.frozen
class Network:
    """Bytes per second, over all interfaces."""

    received: float
    sent: float


@attrs.frozen
class Sample:
    """The load since the sample before: percent for each core, as of `time` in Unix seconds."""

    time: float
    cpu: list[float]
    memory: Memory
    network: Network


async def broadcast_samples(broadcaster: Broadcaster) -> None:
    """Broadcast a `Sample` each second, for ever, as events of type ``sample``."""
    psutil.cpu_percent(percpu=True)  # The first call only sets where the next one measures from.
    before, measured_at = psutil.net_io_counters(), trio.current_time()
    next_at = measured_at
    while True:
        next_at += _INTERVAL
        await trio.sleep_until(next_at)
        elapsed = trio.current_time() - measured_at
        now, measured_at = psutil.net_io_counters(), measured_at + elapsed
        memory = psutil.virtual_memory()
        sample = Sample(
            time=time.time(),
            cpu=psutil.cpu_percent(percpu=True),
            memory=Memory(used=memory.total - memory.available, total=memory.total),
            network=Network(
                received=(now.bytes_recv - before.bytes_recv) / elapsed,
                sent=(now.bytes_sent - before.bytes_sent) / elapsed,
            ),
        )
        before = now
        broadcaster.broadcast("sample", sample)
