"""What every client of a stream must live through, whether it is a browser or a library."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import trio

from trio_sse import Broadcaster, sse_app

from .asgi import App, Tap
from .cutter import cutting
from .hardened import hardened
from .waiting import until

#: What a client told: an event's type and the beginning of its data.
Told = tuple[str, str]

#: Seconds after which a client comes back, if it is one that obeys.
SOON: Final = (0.05, 0.2)

#: The end of a block that only tells where a stream is.
POSITION: Final = b"event: stream-position\ndata: {}\n\n"


#: Returns a port at which the server at a port is found.
Way = Callable[[int], Awaitable[int]]


class Visitor(Protocol):
    """A client that is a program of its own, and comes back by itself."""

    @property
    def told(self) -> list[Told]:
        """The events that it got, of the types ``tick`` and ``stream-reset``."""
        ...

    @property
    def has_given_up(self) -> bool: ...

    def site(self, stream: App) -> App:
        """Return the application that it visits, which has a stream at ``/events``."""
        ...

    async def visit(self, port: int) -> None: ...


async def directly(port: int) -> int:
    await trio.lowlevel.checkpoint()
    return port


async def loses_its_connection_before_the_first_event(
    visitor: Visitor, way: Way = directly
) -> None:
    """Miss five events meanwhile, and then get one with nothing behind it."""
    broadcaster = Broadcaster(strict=False, reconnection_time=SOON, heartbeat_interval=None)
    missed = [("tick", f"missed {n}") for n in range(5)]

    def publish() -> None:
        for event, data in missed:
            broadcaster.broadcast(event, data)

    async with (
        hardened(visitor.site(sse_app(broadcaster))) as served,
        cutting(await way(served.plain.port), POSITION, while_away=publish) as (cutter, port),
    ):
        await visitor.visit(port)
        await until(lambda: len(visitor.told) >= len(missed))
        assert cutter.done == 1
        broadcaster.broadcast("tick", "live")
        await until(lambda: ("tick", "live") in visitor.told)
    assert visitor.told == [*missed, ("tick", "live")]


async def loses_its_connection_after_a_quiet_time(visitor: Visitor, way: Way = directly) -> None:
    """Get nothing of its own topic, beside more events of another than the history holds."""
    broadcaster = Broadcaster(strict=False, reconnection_time=SOON, heartbeat_interval=0.02)
    epoch = str(broadcaster.last_event_id).removesuffix("-0").encode()

    def position(n: int) -> bytes:
        return b"id: %b-%d\n%b" % (epoch, n, POSITION)

    def publish() -> None:
        broadcaster.broadcast("tick", "loud", topic="loud")
        broadcaster.broadcast("tick", "quiet", topic="quiet")

    async with (
        hardened(visitor.site(sse_app(broadcaster, topics=["quiet"]))) as served,
        cutting(await way(served.plain.port), position(300), while_away=publish) as (cutter, port),
    ):
        await visitor.visit(port)
        await until(lambda: broadcaster.client_count == 1)
        for count in range(30, 301, 30):
            for _ in range(30):
                broadcaster.broadcast("tick", "loud", topic="loud")
            await until(_has(cutter.carried, b": heartbeat\n\n" + position(count)))
        await until(lambda: bool(visitor.told))
        assert cutter.done == 1
    assert visitor.told == [("tick", "quiet")]


def _has(carried: bytearray, block: bytes) -> Callable[[], bool]:
    return lambda: block in carried


async def is_disconnected_for_good(visitor: Visitor, way: Way = directly) -> None:
    broadcaster = Broadcaster(strict=False, reconnection_time=SOON)
    stream = Tap(sse_app(broadcaster, key="a user"))
    async with hardened(visitor.site(stream)) as served:
        await visitor.visit(await way(served.plain.port))
        await until(lambda: broadcaster.client_count == 1)
        assert broadcaster.disconnect("a user", final=True) == 1
        await _never_has_a_stream_again(visitor, stream)


async def is_disconnected_for_good_while_it_drains(visitor: Visitor, way: Way = directly) -> None:
    """Get what is queued first, of a stream that had to end before."""
    broadcaster = Broadcaster(strict=False, reconnection_time=SOON)
    stream = Tap(sse_app(broadcaster, key="a user"))
    async with (
        hardened(visitor.site(stream)) as served,
        cutting(served.plain.port) as (cutter, port),
    ):
        await visitor.visit(await way(port))  # Some proxies take all that they get.
        await until(lambda: broadcaster.client_count == 1)
        cutter.stall()
        for n in range(200):  # More than the kernel's buffers take.
            broadcaster.broadcast("tick", f"{n} {100_000 * 'x'}")
        broadcaster.disconnect("a user")
        assert broadcaster.client_count == 0
        assert broadcaster.disconnect("a user", final=True) == 1
        cutter.resume()
        await _never_has_a_stream_again(visitor, stream)
    assert visitor.told[0][1].startswith("0 x")


async def _never_has_a_stream_again(visitor: Visitor, stream: Tap) -> None:
    """Wait until it has stopped, or has asked in vain more than once."""
    await until(lambda: visitor.has_given_up or stream.statuses.count(204) > 2)
    first, *others = stream.statuses
    assert (first, set(others)) == (200, {204})


STORIES: Final = (
    loses_its_connection_before_the_first_event,
    loses_its_connection_after_a_quiet_time,
    is_disconnected_for_good,
    is_disconnected_for_good_while_it_drains,
)
