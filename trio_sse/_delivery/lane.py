"""Those who are written the same bytes, one after another, at as little cost as Python allows.

They stand in a list, in the order in which they joined, as what costs most is memory that is not in
the processor's caches. In a round each is written the same once. Whoever does not take it whole is
asked to do by himself what is left to do, and what that may be is not known here; nor are events.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, cast, final

import trio

if TYPE_CHECKING:
    from .direct import DirectStream


@final
class Lane:
    """Streams whose sockets have taken all, and how far a round has come."""

    __slots__ = ("_next", "_places", "_senders", "_streams")

    def __init__(self) -> None:
        self._streams: list[DirectStream | None] = []
        self._senders: list[Callable[[bytes], int]] = []
        #: Where each stands in both lists.
        self._places: dict[DirectStream, int] = {}
        #: Where the round goes on: those before it have been written to.
        self._next = 0

    def __len__(self) -> int:
        return len(self._places)

    @property
    def streams(self) -> list[DirectStream]:
        """Those who are here."""
        return [*self._places]

    @property
    def due(self) -> int:
        """How many places are left in this round."""
        return len(self._senders) - self._next

    def add(self, stream: DirectStream, sender: Callable[[bytes], int]) -> None:
        """Let one stand at the end; between two rounds only."""
        self._places[stream] = len(self._senders)
        self._streams.append(stream)
        self._senders.append(sender)

    def remove(self, stream: DirectStream) -> bool:
        """Let one go; tell whether it was written to in this round."""
        place = self._places.pop(stream)
        self._streams[place] = None
        self._senders[place] = len  # Nobody takes all that there is, and says so.
        return place < self._next

    def write(self, data: bytes, room: int) -> None:
        """Go on with a round, for so many places."""
        size, place = len(data), self._next
        end = min(place + room, len(self._senders))
        while place < end:
            rest, failure = b"", None
            try:
                for send in self._senders[place:end]:
                    written = send(data)
                    if written != size:
                        rest = data[written:]
                        break
                    place += 1
            except trio.WouldBlock:  # All was taken, though not by the kernel.
                pass
            except OSError:
                rest = data
            except Exception as error:  # It ends one, and not all.
                failure = error
            self._next = place
            if place < end:
                stream = cast("DirectStream", self._streams[place])
                self._next = place = place + 1  # First, as it may leave.
                if failure is None:
                    stream.write_rest(rest)
                else:
                    stream.fail(failure)

    def rewind(self) -> None:
        """Let the next round begin; close the gaps of those who are gone, if there are many."""
        self._next = 0
        if len(self._senders) - len(self._places) > len(self._senders) // 8:
            self._senders = [self._senders[place] for place in self._places.values()]
            self._streams = [*self._places]
            self._places = {stream: place for place, stream in enumerate(self._places)}
