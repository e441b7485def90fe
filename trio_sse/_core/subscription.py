"""One client, as its reader sees it: the end of a bounded memory channel.

Only this room and `_client`, which has the other end, touch memory channels. It knows neither who
else listens nor how the events travel on.
"""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Self

import trio

from .event import ServerSentEvent


class Subscription(trio.abc.ReceiveChannel[ServerSentEvent]):
    """A client inside the program: every event that was broadcast since it was made, in order.

    Made by `Broadcaster.subscribe`. Iterate over it with ``async for``; leave it with ``with`` or
    ``async with``. If it is not read, it is pruned when its buffer is full.
    """

    __slots__ = ("_awaited", "_backlog", "_channel", "_given", "_pruned", "_taken")

    def __init__(
        self,
        channel: trio.MemoryReceiveChannel[ServerSentEvent],
        backlog: Iterable[ServerSentEvent],
    ) -> None:
        self._channel = channel
        #: What goes before all that is in the channel, however much it is; the first is last.
        self._backlog = [*backlog][::-1]
        self._pruned = False
        #: How many events were ever put in here, and taken.
        self._given: int = len(self._backlog)
        self._taken: int = 0
        self._awaited: list[tuple[int, trio.Event]] = []

    async def receive(self) -> ServerSentEvent:
        """Return the next event, waiting for it if there is none.

        Raises:
            trio.EndOfChannel: If the broadcaster was closed and all events before that were
                received.
            trio.BrokenResourceError: If this client fell behind and was pruned, and all events
                before that were received.
            trio.ClosedResourceError: If the subscription was closed.
        """
        if self._backlog:
            await trio.lowlevel.checkpoint()
        if self._backlog:  # No other task was first.
            return self.receive_nowait()
        try:
            event = await self._channel.receive()
        except trio.EndOfChannel:
            self._raise_if_pruned()
            raise
        self._taken += 1
        if self._awaited:
            self._set_taken()
        return event

    def receive_nowait(self) -> ServerSentEvent:
        """Like `receive`, but if there is no event, raise `trio.WouldBlock`.

        Raises:
            trio.WouldBlock: If no event is queued.
            trio.EndOfChannel: As in `receive`.
            trio.BrokenResourceError: As in `receive`.
            trio.ClosedResourceError: As in `receive`.
        """
        try:
            event = self._backlog.pop() if self._backlog else self._channel.receive_nowait()
        except trio.EndOfChannel:
            self._raise_if_pruned()
            raise
        self._taken += 1
        if self._awaited:
            self._set_taken()
        return event

    def close(self) -> None:
        """Leave: nothing more is queued, what was queued is dropped. Repeated calls do nothing."""
        self._backlog.clear()
        self._channel.close()

    async def aclose(self) -> None:
        """Close, then checkpoint."""
        self.close()
        await trio.lowlevel.checkpoint()

    def statistics(self) -> trio.MemoryChannelStatistics:
        """Return the statistics of the memory channel behind this subscription."""
        return self._channel.statistics()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def queued(self) -> int:
        """How many events wait to be received."""
        return self._given - self._taken

    def _raise_if_pruned(self) -> None:
        if self._pruned:
            raise trio.BrokenResourceError("pruned: this client's buffer was full") from None

    def _set_taken(self) -> None:
        while self._awaited and self._awaited[0][0] <= self._taken:
            self._awaited.pop(0)[1].set()
