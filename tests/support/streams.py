"""Streams as tests begin them: of a given body, from an id on, stalled."""

from __future__ import annotations

import trio
from trio.testing import wait_all_tasks_blocked

from trio_sse import RESET_EVENT, Broadcaster
from trio_sse.testing import EventStream, ReceivedEvent, open_event_stream

from .asgi import END, HEAD, App, app_sending, chunk

#: An event as it was read: its type, its data, the last event ID as of then, its retry.
Read = tuple[str, str, str, int | None]


async def read(*chunks: bytes) -> tuple[EventStream, list[Read]]:
    """Return the stream of a response with this body, and the events in it."""
    async with trio.open_nursery() as nursery:
        stream = await open_event_stream(nursery, app_sending(HEAD, *map(chunk, chunks), END))
    return stream, [(e.event, e.data, e.id, e.retry) async for e in stream]


async def come_back(
    nursery: trio.Nursery, app: App, last_event_id: str, path: str = "/events"
) -> EventStream:
    """Request the stream as one who has seen an event; what was missed may come later."""
    headers = [("last-event-id", last_event_id)]
    return await open_event_stream(nursery, app, path, headers=headers)


async def stalled_amid_an_event(
    nursery: trio.Nursery, broadcaster: Broadcaster, app: App
) -> EventStream:
    stream = await open_event_stream(nursery, app)
    stream.stall()
    broadcaster.broadcast("x", "under way")
    await wait_all_tasks_blocked()
    return stream


def check_reset(stream: EventStream, event: ReceivedEvent, reason: str, last_id: str) -> None:
    """Check that a stream began with a reset, and told its place only then."""
    assert event.event == RESET_EVENT
    assert reason in event.data
    # The reset itself has no id: a cut right behind it leads to a reset again.
    head, _, rest = stream.raw_bytes.partition(b"\n\n")
    assert b"id:" not in head
    assert rest == position(last_id)


def position(event_id: str) -> bytes:
    """Return the block that tells a place and nothing else."""
    return f"id: {event_id}\nevent: stream-position\ndata: {{}}\n\n".encode()
