"""What a hub and a relay are to each other.

A relay carries events between the processes that share one stream. It takes what is broadcast here
and hands back what comes out of the stream, from wherever; only then do clients get it, those of
this process too. So all processes have one order and one id for each event, and the relay has the
history.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, final

import attrs

from .event import ServerSentEvent
from .history import History


class Node(Protocol):
    """The hub of one process, as its relay sees it."""

    @property
    def buffer_size(self) -> int:
        """How many events may wait for one client."""
        ...

    def serialise(self, event: str, data: object) -> str:
        """Return the data of an event as text, or raise what `Broadcaster.broadcast` does."""
        ...

    def check_run(self) -> None:
        """Raise if there are clients of another run; nothing may be delivered then."""
        ...

    def deliver(self, event: ServerSentEvent, topic: str | None) -> None:
        """Record an event that came out of the stream, and send it to the clients here."""
        ...

    def begin_again(self, reason: str, last_id: str) -> None:
        """Tell all clients that events may have been missed, why, and after which id they go on."""
        ...

    async def wait_delivered_taken(self) -> None:
        """Wait until the clients have taken what was delivered."""
        ...


@final
@attrs.frozen
class Replayed:
    """What a client has missed that is no more in the history of this process."""

    last_event_id: str | None
    """From here on it is in the history; or it is in none, which the history will tell."""

    blocks: Sequence[bytes] = ()
    """What was before that, encoded."""


class Relay(Protocol):
    """Carries events between processes, for one hub."""

    def attach(self, node: Node, history_size: int) -> History:
        """Work for a hub, and for no other; return the record of what comes out of the stream."""
        ...

    def send_nowait(self, event: ServerSentEvent, topic: str | None) -> None:
        """Accept an event for the stream, or raise; never waits."""
        ...

    async def replay(self, last_event_id: str | None, topics: frozenset[str]) -> Replayed | None:
        """Look up what a client has missed; `None` if that cannot be done now."""
        ...

    async def wait_all_back(self) -> None:
        """Wait until what was accepted has come out of the stream, or never will."""
        ...
