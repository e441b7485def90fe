"""What several publishers have sent into one stream, and whether somebody got just that.

Each publisher numbers its events from 0, and the number of an event tells whose it is. What a
client got is judged by what is in the stream; or, if nobody knows that any more, by the numbers
alone: whoever has missed something must have been told before what followed it.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Final

#: How many publishers there may be.
_PUBLISHERS: Final = 16


def number_of(publisher: int, count: int) -> int:
    """Return the number of a publisher's event, of which there were so many before."""
    return count * _PUBLISHERS + publisher


@dataclass
class Story:
    """What one client got: events by their numbers, and resets."""

    numbers: list[int] = field(default_factory=list[int])
    #: How many events had come before each reset.
    resets: list[int] = field(default_factory=list[int])
    #: The last number of each publisher.
    last: dict[int, int] = field(default_factory=dict[int, int])

    def take(self, number: int) -> None:
        """Add an event."""
        self.numbers.append(number)
        self.last[number % _PUBLISHERS] = number

    def reset(self) -> None:
        """Add a reset."""
        self.resets.append(len(self.numbers))


def judge(stories: Iterable[Story], stream: Sequence[int]) -> dict[str, int]:
    """Count what is wrong with what clients got, who all should have just what is in the stream."""
    places = {number: place for place, number in enumerate(stream)}
    lost = doubled = disordered = resets = 0
    for story in stories:
        first = dict.fromkeys(story.numbers)
        met = [places[number] for number in first if number in places]
        lost += len(stream) - len(met)
        doubled += len(story.numbers) - len(first)
        disordered += sum(before > after for before, after in pairwise(met))
        disordered += len(first) - len(met)
        resets += len(story.resets)
    return {
        "events lost": lost,
        "events doubled": doubled,
        "events out of order": disordered,
        "false resets": resets,
    }


def misnumbered(stream: Sequence[int]) -> int:
    """Return how many events of a stream do not follow their publisher's last one."""
    return _holes(stream, frozenset())


def silent_holes(story: Story, gone: Container[int] = ()) -> int:
    """Return how often something was missed, or came again, and no reset had told it before.

    What is gone from the stream was lost by whoever keeps that, and others may have it or not.
    """
    return _holes(story.numbers, frozenset(story.resets), gone)


def _holes(numbers: Sequence[int], resets: frozenset[int], gone: Container[int] = ()) -> int:
    awaited: dict[int, int | None] = dict.fromkeys(range(_PUBLISHERS), 0)
    holes = 0
    for place, number in enumerate(numbers):
        if place in resets:
            awaited = dict.fromkeys(range(_PUBLISHERS))
        if number in gone:
            continue
        count, publisher = divmod(number, _PUBLISHERS)
        holes += awaited[publisher] not in (None, count)
        while number_of(publisher, count := count + 1) in gone:
            pass
        awaited[publisher] = count
    return holes
