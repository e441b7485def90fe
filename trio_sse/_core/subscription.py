"""A client inside the program: the reading end, as users see it.

It knows one client; it knows neither who else listens nor how events come into it.
"""

from __future__ import annotations

from types import TracebackType
from typing import Self, final

import trio

from .client import Client
from .event import ServerSentEvent


@final
class Subscription(trio.abc.ReceiveChannel[ServerSentEvent]):
    """A client inside the program: every event that was broadcast since it was made, in order.

    Made by `Broadcaster.subscribe`. Iterate over it with ``async for``; leave it with ``with`` or
    ``async with``. If it is not read, it is pruned when its buffer is full.
    """

    __slots__ = ("_client", "_last_event_id")

    def __init__(self, client: Client) -> None:
        self._client = client
        self._last_event_id: str | None = None

    @property
    def last_event_id(self) -> str | None:
        """The id of the last event that was received; at first that after which this began.

        `None` if the broadcaster has no history. Whoever passes events on tells it to the
        client, so that this one can come back with it.
        """
        return self._last_event_id or self._client.began_at

    async def receive(self) -> ServerSentEvent:
        """Return the next event, waiting for it if there is none.

        Raises:
            trio.EndOfChannel: If the broadcaster was closed and all events before that were
                received.
            trio.BrokenResourceError: If this client fell behind and was pruned, and all events
                before that were received.
            trio.ClosedResourceError: If the subscription was closed.
        """
        try:
            return self._note(await self._client.receive())
        except trio.EndOfChannel:
            self._raise_if_pruned()
            raise

    def receive_nowait(self) -> ServerSentEvent:
        """Like `receive`, but if there is no event, raise `trio.WouldBlock`.

        Raises:
            trio.WouldBlock: If no event is queued.
            trio.EndOfChannel: As in `receive`.
            trio.BrokenResourceError: As in `receive`.
            trio.ClosedResourceError: As in `receive`.
        """
        try:
            return self._note(self._client.receive_nowait())
        except trio.EndOfChannel:
            self._raise_if_pruned()
            raise

    def close(self) -> None:
        """Leave: nothing more is queued, what was queued is dropped. Repeated calls do nothing."""
        self._client.registry.changes.run(self._client.close)

    async def aclose(self) -> None:
        """Close, then checkpoint."""
        self.close()
        await trio.lowlevel.checkpoint()

    @property
    def queued(self) -> int:
        """How many events wait to be received."""
        return self._client.queued

    def statistics(self) -> trio.MemoryChannelStatistics:
        """Return the statistics of the memory channel behind this subscription."""
        return self._client.statistics()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _note(self, event: ServerSentEvent) -> ServerSentEvent:
        self._last_event_id = event.id or self._last_event_id
        return event

    def _raise_if_pruned(self) -> None:
        if self._client.pruned:
            raise trio.BrokenResourceError("pruned: this client's buffer was full") from None
