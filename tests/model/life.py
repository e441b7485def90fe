"""What a program has broadcast, and what a client knows of it: the truth of the model.

A `Life` is one broadcaster, from its start on, and all that was broadcast with it. A client has a
`Page`, which says what it asks for, and a `Memory` across its reconnects: what a browser knows, the
last event ID, and besides, as a browser cannot, the number of the event up to which it was told
everything that it asks for. That goes by what was broadcast, and trusts no id.
"""

from __future__ import annotations

from typing import Final, final

import attrs

from trio_sse import Broadcaster

TOPICS: Final = ("a", "b", "c")

END: Final = "end"


@final
@attrs.frozen
class Page:
    """What a client asks for, whenever it comes, and the way by which it comes at last."""

    topics: frozenset[str]
    snapshot: bool
    way: tuple[str, ...]


@final
@attrs.frozen
class Memory:
    """What a client has: the id to come back with, and its events of a life up to the n-th."""

    id: str = ""
    life: Life | None = None
    n: int = 0


@final
class Life:
    """One broadcaster, and what was broadcast: the n-th event is the same for everybody."""

    def __init__(
        self,
        name: int,
        buffer_size: int,
        history_size: int,
        reconnection_time: tuple[float, float] | None,
    ) -> None:
        self.buffer_size, self.history_size = buffer_size, history_size
        self.reconnection_time = reconnection_time
        self.broadcaster = Broadcaster(
            buffer_size,
            strict=False,
            history_size=history_size,
            reconnection_time=reconnection_time,
        )
        #: What all its ids begin with, once it is known.
        self.epoch = ""
        #: How many events there were when time last went on.
        self.count_asleep = 0
        self._name = name
        #: The events, as they are on the wire but for their ids, and their topics.
        self._told: list[tuple[str | None, dict[str, str]]] = []

    @property
    def count(self) -> int:
        return len(self._told)

    def broadcast(self, topic: str | None, size: int) -> None:
        data = f"{self._name}.{self.count + 1} {'x' * size}"
        self._told.append((topic, {"event": "tick", "data": data}))
        self.broadcaster.broadcast("tick", data, topic=topic)

    def event(self, n: int) -> dict[str, str]:
        return self._told[n - 1][1]

    def last(self, n: int, page: Page) -> int:
        """Return the number of the last event of a page among the first n; 0 if there is none."""
        wanted = {None, *page.topics}
        return next((m for m in range(n, 0, -1) if self._told[m - 1][0] in wanted), 0)

    def amount(self, after: int, page: Page) -> int:
        """Return how many events of a page there are after the n-th."""
        wanted = {None, *page.topics}
        return sum(topic in wanted for topic, _ in self._told[after:])

    def state(self, n: int) -> list[tuple[str, int]]:
        """Return what a snapshot tells after n events: how many there were of each topic."""
        topics = [topic for topic, _ in self._told[:n]]
        return [(f"state of {topic}", topics.count(topic)) for topic in (None, *TOPICS)]

    def is_gap(self, memory: Memory, n: int) -> bool:
        """Tell whether one who comes after n events cannot be told what it has missed."""
        return memory.life is not self or not n - self.history_size <= memory.n <= n

    def read_id(self, event_id: str) -> int:
        """Return the number in an id that was received, and learn the epoch."""
        epoch, _, number = event_id.rpartition("-")
        assert self.epoch in ("", epoch)
        self.epoch = epoch
        return int(number)
