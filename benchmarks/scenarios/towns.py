"""What a broadcast to a topic of ten costs, among ten clients in all and among ten thousand.

    python -m benchmarks.topics

In memory, without sockets. Both broadcasters are asked in turns; among the ten thousand the topic
is another one each time, as it would be. Printed as JSON: the medians, in seconds.
"""

from __future__ import annotations

import json
import random
import time
from statistics import median
from typing import Final, final

import trio

from trio_sse import Broadcaster, Subscription

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


async def _run() -> dict[str, float]:
    await trio.lowlevel.checkpoint()
    few, many = _Town(1), _Town(_TOPICS)
    costs = [(few.time(), many.time()) for _ in range(_TIMES)]
    alone, among = zip(*costs, strict=True)
    return {"alone": median(alone), "among": median(among)}


if __name__ == "__main__":
    print(json.dumps(trio.run(_run)))
