"""What a stream begins with: what its client has missed, or else the state and where it now is.

All is looked up in one step, so that nothing falls between this and what comes next. Nothing is
changed by it. It knows the history and the wire; it knows neither who asks nor how blocks travel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import final

import attrs

from .event import ServerSentEvent
from .event_types import RESET_EVENT, EventTypes
from .history import History
from .jitter import TimeRange, retry_delay
from .options import Snapshot


@final
@attrs.frozen
class Replay:
    """What a client is told of what was before it came."""

    missed: Sequence[bytes] = ()
    """The blocks that it has missed; or the one that says that this cannot be known."""

    position: Sequence[bytes] = ()
    """The block with the current id, where the client has to be told."""

    behind: int = 0
    """How many events of others follow the last one that it knows after that."""

    is_exact: bool = False
    """Whether it knows then all that it would know, had it never been away."""


@final
@attrs.frozen(eq=False)
class Preamble:
    """How the streams of one hub begin."""

    history: History | None
    event_types: EventTypes
    reconnection_time: TimeRange | None

    def reconnection(self) -> list[bytes]:
        """Return the block that tells a browser after how long to come back; each another time."""
        if self.reconnection_time is None:
            return []
        milliseconds = round(retry_delay(self.reconnection_time) * 1000)
        return [ServerSentEvent(data=None, retry=milliseconds).encode()]

    def missed_events(
        self, last_event_id: str | None, topics: frozenset[str]
    ) -> Sequence[ServerSentEvent]:
        """Return what a client inside the program has missed."""
        if self.history is None or last_event_id is None:
            return ()
        missed = self.history.since(last_event_id)
        if missed.gap is not None:
            return [ServerSentEvent(RESET_EVENT, missed.gap)]
        return self.history.events_from(missed.start, topics)

    def look_up(self, last_event_id: str | None, topics: frozenset[str]) -> Replay:
        """Return what a client has missed since it had that event."""
        if self.history is None:
            return Replay()
        position = [ServerSentEvent(data=None, id=self.history.last_id).encode()]
        if last_event_id is None:
            return Replay(position=position)
        missed = self.history.since(last_event_id)
        if missed.gap is not None:
            return Replay([ServerSentEvent(RESET_EVENT, missed.gap).encode()], position)
        blocks = self.history.wire_from(missed.start, topics)
        behind = self.history.count_after(missed.start, topics)
        return Replay(blocks, behind=behind, is_exact=True)

    def encode(self, snapshot: Snapshot) -> list[bytes]:
        """Call the function that returns the state; return that as blocks."""
        return [
            ServerSentEvent(event, self.event_types.serialise(event, data)).encode()
            for event, data in snapshot()
        ]
