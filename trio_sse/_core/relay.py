"""What a broadcaster and a relay are to each other.

A relay carries events between the processes that share one stream. It takes what is broadcast here
and hands back what comes out of the stream, from wherever; only then do clients get it, those of
this process too. So all processes have one order and one id for each event.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Protocol, final

import attrs

from .event import ServerSentEvent
from .stream_history import StreamHistory


@final
@attrs.frozen(eq=False)
class Node:
    """A broadcaster, as its relay sees it."""

    history: StreamHistory
    """What came out of the stream last."""

    buffer_size: int
    """How many events may wait for one client."""

    serialise: Callable[[str, object], str]
    """Returns the data of an event as text, or raises what `Broadcaster.broadcast` does."""

    check_home: Callable[[], None]
    """Raises if there are clients of another run."""

    send: Callable[[ServerSentEvent, str | None], None]
    """Sends an event to the clients here, those of its topic or all."""

    restart: Callable[[str, str], None]
    """Tells all clients that events may have been missed, why, and after which id they go on."""

    wait_all_taken: Callable[[], Awaitable[None]]
    """Waits until the clients have taken what was delivered."""

    def deliver(self, event: ServerSentEvent, topic: str | None) -> None:
        """Record an event that came out of the stream, and send it to the clients here."""
        self.check_home()
        self.history.append(event, topic)
        self.send(event, topic)

    def begin_again(self, reason: str, last_id: str, *, covered: bool) -> None:
        """Go on after an id, with or without all that follows it, and tell the clients."""
        self.history.begin(last_id, covered=covered)
        self.restart(reason, last_id)


@final
@attrs.frozen
class Recalled:
    """What a client has missed that is no more in the history of this process."""

    last_event_id: str | None
    """From here on it is in the history; or it is in none, which the history will tell."""

    blocks: Sequence[bytes] = ()
    """What was before that, encoded."""


class Relay(Protocol):
    """Carries events between processes."""

    def attach(self, node: Node) -> None:
        """Work for a broadcaster, and for no other."""
        ...

    def send_nowait(self, event: ServerSentEvent, topic: str | None) -> None:
        """Accept an event for the stream, or raise; never waits."""
        ...

    async def recall(self, last_event_id: str | None, topics: frozenset[str]) -> Recalled | None:
        """Look up what a client has missed; `None` if that cannot be done now."""
        ...
