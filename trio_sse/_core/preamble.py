"""What a stream begins with: what its client has missed, or else the state and where it now is.

It looks all up in one step, so that nothing falls between this and what comes next. It knows the
history and the wire; it knows neither who asks nor how the blocks travel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import final

import attrs

from .client import Client
from .event import ServerSentEvent
from .event_types import RESET_EVENT, EventTypes
from .heartbeat import come_back
from .history import History
from .stream_history import StreamHistory

#: What a stream may begin with, besides events: event types and their data.
Snapshot = Callable[[], Iterable[tuple[str, object]]]


@final
@attrs.frozen(eq=False)
class Beginning:
    """How the streams of one broadcaster begin."""

    history: History | StreamHistory | None
    event_types: EventTypes
    reconnection_time: tuple[float, float] | None

    def reconnection(self) -> list[bytes]:
        """Return the block that tells a browser after how long to come back; each another time."""
        if self.reconnection_time is None:
            return []
        milliseconds = round(come_back(self.reconnection_time) * 1000)
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

    def blocks(
        self, client: Client, last_event_id: str | None, snapshot: Snapshot | None
    ) -> list[bytes]:
        """Return what goes before all that is queued for a client from now on."""
        if self.history is None:
            return self._encode(snapshot)
        position = ServerSentEvent(data=None, id=self.history.last_id).encode()
        if last_event_id is None:
            return [*self._encode(snapshot), position]
        missed = self.history.since(last_event_id)
        if missed.gap is not None:
            reset = ServerSentEvent(RESET_EVENT, missed.gap).encode()
            return [reset, *self._encode(snapshot), position]
        client.position -= self.history.count_after(missed.start, client.topics)
        return self.history.wire_from(missed.start, client.topics)

    def _encode(self, snapshot: Snapshot | None) -> list[bytes]:
        pairs = snapshot() if snapshot is not None else ()
        return [
            ServerSentEvent(event, self.event_types.serialise(event, data)).encode()
            for event, data in pairs
        ]
