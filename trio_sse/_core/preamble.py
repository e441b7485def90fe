"""What a stream begins with: what its client has missed, or else the state and where it now is.

All is looked up in one step, so that nothing falls between this and what comes next. Nothing is
changed by it. It knows the history and the wire; it knows neither who asks nor how blocks travel.
"""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Sequence
from typing import Any, cast, final

import attrs

from .event import RESET_EVENT, ServerSentEvent, position_event
from .event_types import EventTypes
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

    def draw_retry(self) -> int | None:
        """Return a reconnection time in milliseconds, another one for each who asks."""
        if self.reconnection_time is None:
            return None
        return round(retry_delay(self.reconnection_time) * 1000)

    def retry_line(self) -> list[bytes]:
        """Return the line that tells it, which is a part of whatever block comes next."""
        retry = self.draw_retry()
        return [] if retry is None else [b"retry: %d\n" % retry]

    def missed_events(
        self, last_event_id: str | None, topics: frozenset[str]
    ) -> tuple[Sequence[ServerSentEvent], str | None]:
        """Return what a client inside the program has missed, and after which id that begins."""
        if self.history is None:
            return (), None
        if last_event_id is None:
            return (), self.history.last_id
        missed = self.history.since(last_event_id)
        if missed.gap is not None:
            return [ServerSentEvent(RESET_EVENT, missed.gap)], self.history.last_id
        return self.history.events_from(missed.start, topics), last_event_id

    def look_up(self, last_event_id: str | None, topics: frozenset[str]) -> Replay:
        """Return what a client has missed since it had that event."""
        if self.history is None:
            return Replay()
        position = [position_event(self.history.last_id).encode()]
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
            for event, data in _pairs_of(snapshot)
        ]


def _pairs_of(snapshot: Snapshot) -> Iterable[tuple[str, object]]:
    """Call the function, and refuse what it returns if that is something else."""
    returned = snapshot()
    shown = reprlib.repr(returned)
    items: list[Any] = [*returned] if isinstance(cast("object", returned), Iterable) else [None]
    try:
        return [(event, data) for event, data in items]
    except (TypeError, ValueError) as error:
        raise TypeError(
            f"snapshot must return (event type, data) pairs, such as [('price', 42)], got {shown}"
        ) from error
