"""Where a stream of the direct way is, and what moves it on.

A stream is in one state (`State`); what moves it on is a table (`NEXT`). It begins DUE: in its
turn one chunk is written. Once all is written it shares a queue (`shared_queue`), which is written
to all who do in one go. A socket that is full ends that: what is not yet written goes back to the
client's channel, and the client's own task flushes; then it has turns again. Its broadcaster may
close meanwhile. No step leads from FULL to OVER: so it is flushed first, then written what its
channel holds, and a turn that finds nothing left makes it OVER, where its own task says the
epilogue. If the socket takes nothing for the write timeout, the flush raises, and the stream is
cut.

It knows the names of states and steps; what is done at each is `direct`'s.
"""

from __future__ import annotations

from enum import IntEnum, auto
from typing import Final


class State(IntEnum):
    """Where a stream is."""

    IDLE = auto()  # All is written, and it shares no queue: its bypass was revoked, say.
    DUE = auto()  # Something is queued, or may be: it will have a turn.
    SHARING = auto()  # All is written, and what comes is written to all who share a queue.
    FULL = auto()  # Its socket has not taken all: its own task flushes.
    OVER = auto()  # All is written, and nothing will come: its own task says the epilogue.
    FAILED = auto()  # Its own task raises what went wrong.
    DETACHED = auto()  # The connection may be another request's.


class Step(IntEnum):
    """What moves a stream on."""

    QUEUED = auto()  # An event, or word that no other will come.
    EMPTIED = auto()  # A turn has left nothing, and it can share no queue.
    SHARED = auto()  # A turn has left nothing.
    RECLAIMED = auto()  # What waits for it is wanted in its client's channel.
    FILLED = auto()  # The socket has not taken all.
    FLUSHED = auto()  # Its own task has seen the socket take the rest.
    FINISHED = auto()  # A turn has left nothing, and nothing will come.
    FAILED = auto()
    DETACHED = auto()


#: What follows; where nothing does, a stream stays where it is.
NEXT: Final[dict[Step, dict[State, State]]] = {
    Step.QUEUED: {State.IDLE: State.DUE},
    Step.EMPTIED: {State.DUE: State.IDLE},
    Step.SHARED: {State.DUE: State.SHARING},
    Step.RECLAIMED: {State.SHARING: State.IDLE},
    Step.FILLED: dict.fromkeys((State.IDLE, State.DUE, State.SHARING), State.FULL),
    Step.FLUSHED: {State.FULL: State.DUE},
    Step.FINISHED: {State.DUE: State.OVER},
    Step.FAILED: dict.fromkeys((State.IDLE, State.DUE, State.SHARING, State.FULL), State.FAILED),
    Step.DETACHED: dict.fromkeys(State, State.DETACHED),
}

#: Where a stream needs its own task. From one to another it has been called already.
ATTENDED: Final = frozenset({State.FULL, State.OVER, State.FAILED})
