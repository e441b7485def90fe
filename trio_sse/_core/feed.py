"""One source for one client: a stream that lives as long as both.

A source is a context manager that gives a Trio channel, as functions decorated with
`trio.as_safe_channel` do: it is entered when the response begins, and left when the client leaves.
Its events go the way of all others. It knows nothing of hubs.
"""

from __future__ import annotations

import reprlib
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

import trio

from .client import Client
from .event import ServerSentEvent
from .options import StreamOptions
from .registry import Registry

Source = AbstractAsyncContextManager[trio.abc.ReceiveChannel[ServerSentEvent]]

#: Events that wait for the client, besides one that waits for those: the source may be as far
#: ahead of the socket.
_AHEAD: Final = 1


def check_source(source: object) -> None:
    """Refuse what cannot be entered as a source.

    Raises:
        TypeError: If so.
    """
    if not isinstance(source, AbstractAsyncContextManager):
        raise TypeError(
            "source must be what a function returns that is decorated with trio.as_safe_channel, "
            f"or another asynchronous context manager that gives a channel, got {source!r}"
        )


@asynccontextmanager
async def open_feed(source: Source) -> AsyncGenerator[Client]:
    """Let a source feed a client, until one of them ends."""
    registry = Registry()
    client = Client(registry, _AHEAD, StreamOptions())
    registry.add(client)
    try:
        async with source as events, trio.open_nursery() as nursery:
            nursery.start_soon(_feed, events, client)
            yield client
            nursery.cancel_scope.cancel("the client has left")
    finally:
        client.close()


async def _feed(events: trio.abc.ReceiveChannel[object], client: Client) -> None:
    async for event in events:
        if not isinstance(event, ServerSentEvent):
            raise TypeError(
                "a producer must yield trio_sse.ServerSentEvent, such as "
                f"ServerSentEvent('token', 'text'), got {reprlib.repr(event)}"
            )
        while not client.ended and not _has_taken(client, event):
            await client.expect_taken().wait()
        if client.ended:
            return
    client.end()


def _has_taken(client: Client, event: ServerSentEvent) -> bool:
    """Offer an event to the client; or to the queue that is its own, too, on the direct way."""
    (recipient,) = client.registry.recipients
    return recipient.offer(event) is None
