"""Lines of standard input on their way into a stream that several processes share.

It knows the pace of Redis and of the clients here; it knows neither where lines come from nor how
events are served.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, final

import trio

from .._broadcaster import Broadcaster
from ..redis import RedisRelay
from ..redis._history import ORIGIN, order

#: Seconds for which a line is waited for that Redis may have lost when it lost its history.
_PATIENCE: Final = 2.0


@final
class ToRelay:
    """Sends lines into the shared stream, as fast as Redis and the clients here take them."""

    def __init__(
        self, broadcaster: Broadcaster, options: argparse.Namespace, relay: RedisRelay
    ) -> None:
        self._broadcaster = broadcaster
        self._event: str = options.event
        self._buffer_size: int = options.buffer
        self._relay = relay
        self._since_pause = 0
        self._last_id = ORIGIN
        self._gaps = 0

    async def send(self, lines: Sequence[str]) -> None:
        """Broadcast lines, and wait until Redis has them."""
        await trio.lowlevel.checkpoint()
        for line in lines[:-1]:
            await self._post(line)
        for line in lines[-1:]:
            await self._publish(line)

    async def finish(self) -> None:
        """Wait until the last line has come back and the clients here have taken it."""
        with trio.CancelScope() as patience:
            while order((now := self._relay.statistics()).head) < order(self._last_id):
                if now.gaps != self._gaps:  # It may be among what was lost.
                    patience.deadline = min(patience.deadline, trio.current_time() + _PATIENCE)
                with self._broadcaster.subscribe() as events:
                    await events.receive()
        await self._broadcaster.wait_all_taken()

    async def _post(self, line: str) -> None:
        """Send a line behind which another one will be waited for."""
        if self._since_pause + 1 < self._buffer_size:
            # What is too large, which `_publish` tells, or finds no room now, goes there.
            with suppress(trio.WouldBlock, ValueError):
                self._broadcaster.broadcast(self._event, line)
                self._since_pause += 1
                return
        await self._publish(line)

    async def _publish(self, line: str) -> None:
        """Send a line, and wait until Redis has it, and so all before it."""
        self._gaps = self._relay.statistics().gaps
        try:
            self._last_id = await self._relay.publish(self._event, line)
        except ValueError as error:
            # It is longer than a chunk, so nothing before it in this one is still on its way.
            print(f"trio-sse: a line is left out: {error}", file=sys.stderr)
            return
        self._since_pause += 1
        if self._since_pause >= self._buffer_size:
            await self.finish()
            self._since_pause = 0
