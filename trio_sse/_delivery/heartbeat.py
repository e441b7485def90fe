"""When a client has heard nothing for too long, and when its stream has lasted for long enough.

It knows the clock and when the last write ended; it knows neither what is written nor to whom. It
serves every way of delivery.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import final

import attrs
import trio


@final
@attrs.define(eq=False)
class HeartbeatTimer:
    """The times of one stream: since its last write, and until it has lasted for long enough."""

    interval: float
    """Seconds of silence after which a heartbeat is due; `math.inf` for never."""

    written_at: float = math.inf
    """When the last write ended; `math.inf` while one is under way, and before the first."""

    expires_at: float = math.inf
    """When the stream has lasted for long enough; `math.inf` for never."""

    async def watch(
        self,
        wait: Callable[[], Awaitable[None]],
        beat: Callable[[], float],
        expire: Callable[[], None],
    ) -> None:
        """Wait, interrupted to call `beat` whenever a heartbeat is due, and once `expire`.

        Args:
            wait: Cancelled and called again each time, so a cancellation must lose nothing in it.
            beat: Returns since when there is silence: now, or later than was known here.
            expire: Ends the stream.
        """
        patience = min(self.interval, self.expires_at - trio.current_time())
        while True:
            with trio.move_on_after(max(patience, 0)):
                await wait()
                return
            patience = self._look(beat, expire) - trio.current_time()

    def _look(self, beat: Callable[[], float], expire: Callable[[], None]) -> float:
        """Call what it is time for; return when to look again."""
        now = trio.current_time()
        if self.expires_at <= now:
            self.expires_at = math.inf
            expire()
        silent_since = min(self.written_at, now)
        if silent_since + self.interval <= now:
            silent_since = beat()
        return min(silent_since + self.interval, self.expires_at)
