"""A million events through one broadcaster, without sockets: what they cost, and what is kept.

    python -m benchmarks.endless EVENTS

Five subscribers read all. Printed as JSON: after each tenth of the events, the resident memory, and
the median CPU time of a broadcast within that tenth.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from resource import getpagesize
from statistics import median
from typing import Final

import trio

from trio_sse import Broadcaster, Subscription

from .servers.trio_control import trim

_READERS: Final = 5
_HISTORY: Final = 256

#: Events that are broadcast back to back, and timed together.
_BATCH: Final = 100


async def _run(events: int) -> list[dict[str, float]]:
    broadcaster = Broadcaster(history_size=_HISTORY)
    broadcaster.register_event("message")
    async with trio.open_nursery() as nursery:
        for _ in range(_READERS):
            nursery.start_soon(_read, broadcaster.subscribe(), events)
        return [await _broadcast(broadcaster, events // 10) for _ in range(10)]


async def _read(subscription: Subscription, events: int) -> None:
    """Take what is queued, whenever anything is."""
    with subscription:
        while events:
            await subscription.receive()
            events -= 1
            for _ in range(subscription.queued):
                subscription.receive_nowait()
                events -= 1


async def _broadcast(broadcaster: Broadcaster, events: int) -> dict[str, float]:
    costs: list[float] = []
    for start in range(0, events, _BATCH):
        payloads = [f"event {number:>50}" for number in range(start, start + _BATCH)]
        began = time.thread_time()
        for payload in payloads:
            broadcaster.broadcast("message", payload)
        costs.append((time.thread_time() - began) / _BATCH)
        await broadcaster.wait_all_taken()
    trim()
    return {"cost": median(costs), "resident": _resident()}


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * getpagesize()


if __name__ == "__main__":
    print(json.dumps(trio.run(_run, int(sys.argv[1]))))
