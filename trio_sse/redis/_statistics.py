"""What a relay tells of itself, for a health check and for whoever watches it.

It knows numbers; where they come from is not its business.
"""

from __future__ import annotations

from typing import final

import attrs


@final
@attrs.frozen
class RelayStatistics:
    """How a relay is, as of now."""

    ready: bool
    """Whether events go both ways; a load balancer's health check may ask."""

    head: str
    """The id of the last event that came, or that after which it reads on."""

    lag: float
    """Seconds from Redis's writing of the last event to its coming here; clocks may differ."""

    outbox_events: int
    """Events of this process that have not come back out of the stream."""

    outbox_bytes: int
    """Their bytes."""

    outbox_age: float
    """Seconds for which the oldest of them has waited."""

    published: int
    """Events of this process that Redis has acknowledged."""

    received: int
    """Entries that came out of the stream, from all processes."""

    refused: int
    """Those of them that are no events that could be sent; whoever wrote them is at fault."""

    dropped: int
    """Events that Redis had not acknowledged when the relay ended."""

    gaps: int
    """How often all clients were told that events may have been lost."""

    recalling: int
    """Clients whose past is being looked up."""

    sessions_lost: int
    """Connections that failed, or could not be made."""

    last_error: str | None
    """Why the last of them did."""
