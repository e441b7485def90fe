"""Clients in the server's own process, which leave it most of its time.

Some read subscriptions in tasks of their own; the others have sockets, and look at their bytes when
they leave. Both come back by the last event ID that they have seen.
"""

from __future__ import annotations

import math
import random
from collections.abc import Hashable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Final

import trio

from trio_sse import Broadcaster, Subscription

from ..network.proxy import reset_on_close
from .browser import Browser
from .sequence import Story

#: How often a reader leaves after an event, or sleeps, and for how long.
_LEAVES, _SLEEPS, _SLEEP = 0.01, 0.02, 0.5

#: The longest stay of a socket.
_STAY: Final = 2.0

#: The type of the event that is the last.
END: Final = "end"
_END_LINE: Final = b"event: end\n"
_READ: Final = 65536


@dataclass
class Client:
    """One client, which has all once it has the event that is the last.

    Args:
        stays: Whether it neither leaves nor sleeps.
    """

    chance: random.Random
    stays: bool
    ids: list[str] = field(default_factory=list[str])
    story: Story = field(default_factory=Story)
    has_all: bool = False
    #: How often it has come.
    visits: int = 0

    def take(self, kind: str, data: str, event_id: str) -> None:
        """Add an event."""
        if kind == "message":
            self.story.take(int(data))
            self.ids.append(event_id)
        elif kind == END:
            self.has_all = True
        else:
            self.story.reset()


async def read(broadcaster: Broadcaster, client: Client, key: Hashable) -> None:
    """Be one reader in the program: each time it was pruned, or has left, it comes back."""
    while not client.has_all:
        client.visits += 1
        last = client.ids[-1] if client.ids else None
        subscription = broadcaster.subscribe(last_event_id=last, key=key)
        with subscription, suppress(trio.BrokenResourceError):
            await _take_some(subscription, client)


async def _take_some(subscription: Subscription, client: Client) -> None:
    """Read until it is drawn that the client leaves, which one with no id yet does not."""
    async for event in subscription:
        client.take(event.event or "message", event.data or "", event.id or "")
        draw = 1.0 if client.stays else client.chance.random()
        if client.has_all or draw < _LEAVES:
            return
        if draw < _SLEEPS:
            await trio.sleep(_SLEEP)


async def visit(port: int, client: Client) -> None:
    """Be one socket: its bytes are looked at when it leaves, to leave the program its time."""
    browser = Browser()
    while not client.has_all:
        client.visits += 1
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            if client.chance.random() < 0.5:
                reset_on_close(stream)
            await stream.send_all(browser.connect())
            received = await _receive(stream, client)
        for event in browser.feed(received):
            client.take(*event)


async def _receive(stream: trio.SocketStream, client: Client) -> bytes:
    """Read until the last event, or for a while once there is an id."""
    received = bytearray()
    stay = math.inf if client.stays else client.chance.uniform(0, _STAY)
    with trio.CancelScope() as scope, suppress(trio.BrokenResourceError):
        while _END_LINE not in received[-2 * _READ :]:
            if not (data := await stream.receive_some(_READ)):
                break
            received += data
            if scope.deadline == math.inf and b"\nid: " in received:
                scope.deadline = trio.current_time() + stay
    return bytes(received)
