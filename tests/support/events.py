"""Events: many at once, and what those say that were taken from a stream or a subscription."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol, TypeVar

import trio

from trio_sse import END_EVENT, POSITION_EVENT, Broadcaster

from .waiting import PATIENCE

_T = TypeVar("_T")


class _Event(Protocol):
    """One of ours, or one that a client has read."""

    @property
    def event(self) -> str: ...
    @property
    def data(self) -> str | None: ...


def is_users(event: _Event) -> bool:
    """Tell whether an event is one that was broadcast, and not the library's own word."""
    return event.event not in (POSITION_EVENT, END_EVENT)


def broadcast(broadcaster: Broadcaster, *data: object) -> None:
    for each in data:
        broadcaster.broadcast("x", each)


async def take(channel: trio.abc.ReceiveChannel[_T], count: int) -> list[_T]:
    """Receive so many events."""
    taken: list[_T] = []
    with trio.fail_after(PATIENCE):
        while len(taken) < count:
            taken.append(await channel.receive())
    return taken


async def take_data(channel: trio.abc.ReceiveChannel[_Event], count: int) -> list[str | None]:
    return data_of(await take(channel, count))


def data_of(events: Iterable[_Event]) -> list[str | None]:
    return [event.data for event in events]


def told(events: Iterable[_Event]) -> list[tuple[str, str | None]]:
    return [(event.event, event.data) for event in events]


def numbers(first: int, last: int) -> list[str]:
    return [str(number) for number in range(first, last + 1)]


def wire(count: int) -> bytes:
    """Return the bytes of so many numbers that were broadcast, where events have no ids."""
    return b"".join(b"event: x\ndata: %d\n\n" % n for n in range(count))
