"""Ten thousand clients on a thousand topics: a broadcast costs what its topic's clients cost.

    python -m benchmarks.scenarios.topics

That process, in memory and without sockets, compares it with ten clients in all. Both broadcasters
are asked in turns; among the ten thousand the topic is another one each time, as it would be. It
prints the medians as JSON, in seconds.
"""

from __future__ import annotations

import json
import random
import subprocess
import time
from pathlib import Path
from statistics import median
from typing import Final, final

import trio

from trio_sse import Broadcaster, Subscription

from ..report.finding import Finding
from ..servers.subjects import BENCHMARKS, python

_MEMBERS: Final = 10
_TOPICS: Final = 1000
_TIMES: Final = 5000


@final
class _Town:
    """A broadcaster, and ten clients for each of its topics."""

    def __init__(self, topics: int) -> None:
        self._broadcaster = Broadcaster()
        self._broadcaster.register_event("message")
        self._members: list[tuple[str, list[Subscription]]] = [
            (name, [self._broadcaster.subscribe(topics=[name]) for _ in range(_MEMBERS)])
            for name in (f"topic {number}" for number in range(topics))
        ]

    def time(self) -> float:
        """Broadcast to some topic; return what that took."""
        topic, members = random.choice(self._members)  # noqa: S311 (keeps no secret)
        began = time.perf_counter()
        self._broadcaster.broadcast("message", "x" * 64, topic=topic)
        cost = time.perf_counter() - began
        for member in members:
            member.receive_nowait()
        return cost


def check(cache: Path) -> list[Finding]:
    """Return how much dearer a broadcast to a topic of ten is among ten thousand clients."""
    command = [str(python(cache)), "-m", "benchmarks.scenarios.topics"]
    costs = json.loads(subprocess.check_output(command, cwd=BENCHMARKS.parent))  # noqa: S603
    what = f"a topic of ten, among 10,000 clients / alone ({costs['alone'] * 1e6:.0f} µs)"
    return [Finding(what, costs["among"] / costs["alone"], 2)]


async def _run() -> dict[str, float]:
    await trio.lowlevel.checkpoint()
    few, many = _Town(1), _Town(_TOPICS)
    costs = [(few.time(), many.time()) for _ in range(_TIMES)]
    alone, among = zip(*costs, strict=True)
    return {"alone": median(alone), "among": median(among)}


if __name__ == "__main__":
    print(json.dumps(trio.run(_run)))
