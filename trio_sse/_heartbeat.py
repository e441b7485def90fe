"""When a client has heard nothing for too long.

It knows the clock and when the last write ended; it knows neither what is written nor to whom.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Final, final

import attrs
import trio

from ._event import ServerSentEvent

HEARTBEAT: Final = ServerSentEvent(data=None, comment="heartbeat")


@final
@attrs.define(eq=False)
class Silence:
    """The time since the last write to one client."""

    interval: float
    """Seconds of silence after which a heartbeat is due; `math.inf` for never."""

    written_at: float = math.inf
    """When the last write ended; `math.inf` while one is under way, and before the first."""

    async def watch(self, wait: Callable[[], Awaitable[None]], beat: Callable[[], None]) -> None:
        """Wait, interrupted to call `beat` whenever a heartbeat is due.

        `wait` is cancelled and called again each time, so a cancellation must lose nothing in it.
        """
        look_at = trio.current_time() + self.interval
        while True:
            with trio.move_on_at(look_at):
                await wait()
                return
            look_at = self._look(beat)

    def _look(self, beat: Callable[[], None]) -> float:
        """Call `beat` if it is time; return when to look again."""
        now = trio.current_time()
        if self.written_at + self.interval <= now:
            beat()
            return now + self.interval
        return min(self.written_at, now) + self.interval
