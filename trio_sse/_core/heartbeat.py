"""When a client has heard nothing for too long, has stayed for long enough, or may come back.

It knows the clock and when the last write ended; it knows neither what is written nor to whom.
"""

from __future__ import annotations

import math
import random
from collections.abc import Awaitable, Callable
from typing import Final, final

import attrs
import trio

from .event import ServerSentEvent

#: Seconds within which those who were turned away come back, if nothing else is said.
_COME_BACK: Final = (1.0, 5.0)

HEARTBEAT: Final = ServerSentEvent(data=None, comment="heartbeat")


@final
@attrs.define(eq=False)
class Silence:
    """The times of one client: since its last write, and until it has stayed long enough."""

    interval: float
    """Seconds of silence after which a heartbeat is due; `math.inf` for never."""

    written_at: float = math.inf
    """When the last write ended; `math.inf` while one is under way, and before the first."""

    retire_at: float = math.inf
    """When the client has stayed for long enough; `math.inf` for never."""

    async def watch(
        self,
        wait: Callable[[], Awaitable[None]],
        beat: Callable[[], float],
        retire: Callable[[], None],
    ) -> None:
        """Wait, interrupted to call `beat` whenever a heartbeat is due, and once `retire`.

        `beat` returns since when there is silence: now, or later than was known here.
        `wait` is cancelled and called again each time, so a cancellation must lose nothing in it.
        """
        look_at = min(trio.current_time() + self.interval, self.retire_at)
        while True:
            with trio.move_on_at(look_at):
                await wait()
                return
            look_at = self._look(beat, retire)

    def _look(self, beat: Callable[[], float], retire: Callable[[], None]) -> float:
        """Call what it is time for; return when to look again."""
        now = trio.current_time()
        if self.retire_at <= now:
            self.retire_at = math.inf
            retire()
        silent_since = min(self.written_at, now)
        if silent_since + self.interval <= now:
            silent_since = beat()
        return min(silent_since + self.interval, self.retire_at)


def come_back(reconnection_time: tuple[float, float] | None = None) -> float:
    """Return the seconds after which one who is turned away may come back.

    Spread, so that they do not all come together.
    """
    low, high = reconnection_time or _COME_BACK
    return random.uniform(low, high)  # noqa: S311 (keeps no secret)


def retirement(max_age: float) -> float:
    """Return when a client that comes now has stayed for long enough.

    Between 80 and 100 % of the age, so that those who came together do not leave together.
    """
    return trio.current_time() + max_age * random.uniform(0.8, 1)  # noqa: S311 (keeps no secret)
