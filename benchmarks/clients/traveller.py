"""A client that comes back as a browser does, each time to another of several processes.

It reads sealed events (`benchmarks.clients.sealed`) by real sockets, leaves at any byte, with a FIN
or a reset, and keeps account of what it got and how long it heard nothing while it was connected.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal

import trio

from ..network.proxy import reset_on_close
from .browser import Browser
from .reader import CorruptError
from .sealed import unseal
from .sequence import Story

_READ: Final = 65536

#: Seconds until a client comes back that was told none.
_AWAY: Final = 0.1

#: Seconds until it is looked again how far clients have come.
_NAP: Final = 0.01

#: Says since when, by CLOCK_MONOTONIC, a client should hear something; `None` if it need not.
Clear = Callable[[], float | None]

#: How a visit ends: the client leaves, the server ends it, or it is broken off or refused.
Ending = Literal["left", "ended", "broken"]


@dataclass
class Traveller:
    """One client, and what it has lived through."""

    chance: random.Random
    browser: Browser = field(init=False)
    story: Story = field(default_factory=Story)
    visits: int = 0
    faults: list[str] = field(default_factory=list[str])
    #: The longest time without an event, in seconds.
    stall: float = 0.0
    _heard_at: float = field(default=0.0, init=False)

    def __post_init__(self) -> None:
        self.browser = Browser(by_query=self.chance.random() < 0.1)

    def has_begun(self) -> bool:
        """Whether it knows where it is in the stream."""
        return bool(self.browser.last_event_id)

    @property
    def away(self) -> float:
        """Seconds until it should come back."""
        return _AWAY if self.browser.retry is None else self.browser.retry

    async def visit(self, port: int, left: float = math.inf, clear: Clear = lambda: None) -> Ending:
        """Connect, read so many bytes at most, and leave; tell how that ended."""
        self.visits += 1
        try:
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                return await self._read(stream, left, clear)
        except (CorruptError, ValueError) as error:
            self.faults.append(str(error))
            return "left"
        except (OSError, trio.BrokenResourceError):
            return "broken"

    async def _read(self, stream: trio.SocketStream, left: float, clear: Clear) -> Ending:
        if self.chance.random() < 0.5:
            reset_on_close(stream)
        await stream.send_all(self.browser.connect())
        self._heard_at = time.monotonic()
        # Nobody knows what one has missed who has no ID yet: that one stays.
        while left > 0 or not self.has_begun():
            data = await stream.receive_some(int(max(1, min(left, _READ))))
            self._wait_is_over(clear())
            if not data:
                return "broken"
            left -= len(data)
            self._take(bytes(data))
            if self.browser.ended:
                return "ended"
        return "left"

    def _take(self, data: bytes) -> None:
        for kind, text, _ in self.browser.feed(data):
            if kind == "message":
                self.story.take(unseal(text))
            else:
                self.story.reset()

    def _wait_is_over(self, clear_since: float | None) -> None:
        now = time.monotonic()
        if clear_since is not None:
            self.stall = max(self.stall, now - max(self._heard_at, clear_since))
        self._heard_at = now


async def count_late(
    travellers: Sequence[Traveller], reached: Callable[[Traveller], bool], patience: float
) -> int:
    """Wait until all clients have come so far; return how many have not."""
    late = list(travellers)
    with trio.move_on_after(patience):
        while late := [traveller for traveller in late if not reached(traveller)]:  # noqa: ASYNC110
            await trio.sleep(_NAP)
    return len(late)
