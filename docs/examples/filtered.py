"""A stream of each client's own making: it filters what is broadcast, and resumes all the same.

python filtered.py
curl -N 'http://127.0.0.1:8000/?every=10'
"""

import signal
from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from itertools import count
from typing import Any
from urllib.parse import parse_qs

import trio
from hypercorn.config import Config

from trio_sse import (
    POSITION_EVENT,
    RESET_EVENT,
    Broadcaster,
    ServerSentEvent,
    Subscription,
    last_event_id,
    producer_app,
    sse_app,
)
from trio_sse.hypercorn import serve

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

broadcaster = Broadcaster()
broadcaster.register_event("number", int)


def here(events: Subscription) -> ServerSentEvent:
    """Return the block that tells a client how far it is, though it gets no event now."""
    return ServerSentEvent(POSITION_EVENT, "{}", id=events.last_event_id)


@trio.as_safe_channel
async def filtered(last_id: str | None, every: int) -> AsyncGenerator[ServerSentEvent]:
    with broadcaster.subscribe(last_event_id=last_id) as events:
        if last_id is None:
            yield here(events)  # or a cut before the first event would be a hole
        left_out = 0
        async for event in events:
            if event.event == RESET_EVENT:
                yield event
                yield here(events)
            elif int(event.data or 0) % every == 0:
                yield event
            else:
                left_out += 1
                if left_out % 100 == 0:
                    yield here(events)  # or its last id would grow too old to resume from


async def app(scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        await sse_app(broadcaster)(scope, receive, send)
        return
    every = int(parse_qs(scope["query_string"].decode()).get("every", ["2"])[0])
    await producer_app(filtered(last_event_id(scope), every))(scope, receive, send)


async def publish() -> None:
    for number in count(1):
        broadcaster.broadcast("number", number)
        await trio.sleep(0.01)


async def main() -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(publish)
            await serve(app, Config(), shutdown_trigger=signals.__anext__)
            nursery.cancel_scope.cancel()


trio.run(main)
