"""The last events of this process, and what a client that comes back has missed of them.

Sans-IO: it knows events and their ids, and neither clients nor clocks. An id is ``<epoch>-<n>``:
the n-th event of a history whose epoch no other history has, so that an id of another process, or
of this one before its restart, is never mistaken for one of ours. What follows an id is found by
its number.
"""

from __future__ import annotations

import re
import secrets
from functools import cached_property
from typing import Final, final

from .ring import Missed, Ring

#: 64 bits of number are more than any process broadcasts; a longer one is no id of ours.
_ID: Final = re.compile(r"([0-9a-f]+)-(0|[1-9][0-9]{0,18})", re.ASCII)


@final
class History(Ring):
    """A bounded record of events, to each of which it gives an id."""

    @cached_property
    def _epoch(self) -> str:
        # Made when it is first needed: by then a program has forked its processes.
        return secrets.token_hex(6)

    @property
    def last_id(self) -> str:
        """The id of the last event; before the first event, one that all events follow."""
        return f"{self._epoch}-{self._count}"

    @property
    def next_id(self) -> str:
        """The id that the next event must have."""
        return f"{self._epoch}-{self._count + 1}"

    def since(self, last_event_id: str) -> Missed:
        """Return what followed the event with this id, whoever has made the id up."""
        match = _ID.fullmatch(last_event_id)
        if match is None:
            return Missed(gap="the last event ID is malformed")
        epoch, number = match[1], int(match[2])
        if epoch != self._epoch:
            return Missed(gap="the last event ID is from before a restart, or another server's")
        if number > self._count:
            return Missed(gap="the last event ID is of an event that is still to come")
        if number < self._count - len(self._ring):
            return Missed(gap="the last event ID is too old")
        return Missed(number)
