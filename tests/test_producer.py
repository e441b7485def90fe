"""One producer, one client: who ends with whom, and how far ahead it may be, on virtual time."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final

import pytest
import quart
import trio
from quart_trio import QuartTrio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_sse import ServerSentEvent, producer_app
from trio_sse._delivery.active_streams import EXTENSION, ActiveStreams
from trio_sse._delivery.writer import Writer
from trio_sse.quart import producer_response
from trio_sse.testing import EventStream, open_event_stream

from .support.asgi import App, Message, Receive, Send, with_scope
from .support.fake_bypass import FakeBypass, behind, direct

Source = AbstractAsyncContextManager[trio.abc.ReceiveChannel[ServerSentEvent]]

COUNT: Final = 1000


def asgi(source: Source, heartbeat_interval: float | None = 15.0) -> App:
    return producer_app(source, heartbeat_interval=heartbeat_interval)


def quart_route(source: Source, heartbeat_interval: float | None = 15.0) -> App:
    app = QuartTrio(__name__)

    async def events() -> quart.Response:
        await trio.lowlevel.checkpoint()
        return producer_response(quart.request, source, heartbeat_interval=heartbeat_interval)

    app.add_url_rule("/events", view_func=events)
    return app


@pytest.fixture(params=[asgi, quart_route])
def way(request: pytest.FixtureRequest) -> Callable[..., App]:
    chosen: Callable[..., App] = request.param
    return chosen


class Job:
    """Produces numbers, and notes how far it has come and how it ended."""

    def __init__(self, count: int = COUNT) -> None:
        self.made = 0
        self.entered = self.left = self.fails = False
        self.go_on = trio.Event()
        self._count = count

    @trio.as_safe_channel
    async def run(self) -> AsyncGenerator[ServerSentEvent]:
        self.entered = True
        try:
            for number in range(self._count):
                self.made = number + 1
                yield ServerSentEvent("n", str(number))
            if self._count < COUNT:
                await self.go_on.wait()
            if self.fails:
                raise ArithmeticError("the job has failed")
        finally:
            self.left = True


def wire(count: int) -> bytes:
    return b"".join(b"event: n\ndata: %d\n\n" % n for n in range(count))


async def test_the_stream_ends_cleanly_with_what_produces_it(
    way: Callable[..., App], nursery: trio.Nursery
) -> None:
    job = Job()
    stream = await open_event_stream(nursery, way(job.run()))
    assert [event.data async for event in stream] == [str(n) for n in range(COUNT)]
    await wait_all_tasks_blocked()
    assert (stream.complete, job.left) == (True, True)


async def test_the_producer_is_cancelled_when_the_client_leaves(
    way: Callable[..., App], nursery: trio.Nursery
) -> None:
    job = Job()
    stream = await open_event_stream(nursery, way(job.run()))
    await stream.receive()
    stream.disconnect()
    await wait_all_tasks_blocked()
    assert job.left
    assert job.made < COUNT


async def test_a_producer_that_fails_leaves_a_cut_and_its_error(way: Callable[..., App]) -> None:
    job = Job(3)
    streams: list[EventStream] = []
    with pytest.RaisesGroup(ArithmeticError, flatten_subgroups=True, allow_unwrapped=True):
        async with trio.open_nursery() as nursery:
            streams.append(await open_event_stream(nursery, way(job.run())))
            await wait_all_tasks_blocked()
            job.fails = True
            job.go_on.set()
    assert [(stream.raw_bytes, stream.complete) for stream in streams] == [(wire(3), False)]


async def test_a_stream_that_is_cancelled_is_a_cut(way: Callable[..., App]) -> None:
    """A clean end would say that all is there."""
    job = Job(3)
    async with trio.open_nursery() as nursery:
        stream = await open_event_stream(nursery, way(job.run()))
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    assert (stream.raw_bytes, stream.complete, job.left) == (wire(3), False, True)


async def test_a_silent_producer_is_no_reason_for_silence(
    way: Callable[..., App], nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    job = Job(1)
    stream = await open_event_stream(nursery, way(job.run(), heartbeat_interval=5))
    await trio.sleep(10.1)
    assert stream.raw_bytes == wire(1) + b": heartbeat\n\n" * 2
    job.go_on.set()
    await wait_all_tasks_blocked()
    assert stream.complete


async def test_it_may_be_never_far_ahead_of_the_client(
    way: Callable[..., App], nursery: trio.Nursery
) -> None:
    job = Job()
    flowing = trio.Event()
    app = way(job.run())

    async def slow(scope: Message, receive: Receive, send: Send) -> None:
        async def send_slowly(message: Message) -> None:
            if message["type"] == "http.response.body":
                await flowing.wait()
            await send(message)

        await app(scope, receive, send_slowly)

    stream = await open_event_stream(nursery, slow)
    await wait_all_tasks_blocked()
    assert 0 < job.made < 10
    flowing.set()
    assert [event.data async for event in stream] == [str(n) for n in range(COUNT)]


async def test_nothing_is_produced_where_there_is_no_stream(
    way: Callable[..., App], nursery: trio.Nursery
) -> None:
    job = Job()
    stream = await open_event_stream(nursery, with_scope(way(job.run()), method="HEAD"))
    await wait_all_tasks_blocked()
    assert (stream.status, stream.raw_bytes, job.entered) == (200, b"", False)


async def test_a_server_that_shuts_down_ends_the_stream_cleanly_and_the_producer(
    way: Callable[..., App], nursery: trio.Nursery
) -> None:
    job = Job(3)
    streams = ActiveStreams()
    app = way(job.run())

    async def served(scope: Message, receive: Receive, send: Send) -> None:
        scope["extensions"] = {EXTENSION: streams}
        await app(scope, receive, send)

    stream = await open_event_stream(nursery, served)
    await wait_all_tasks_blocked()
    await streams.aclose()
    await wait_all_tasks_blocked()
    assert (stream.raw_bytes, stream.complete, job.left) == (wire(3), True, True)
    refused = await open_event_stream(nursery, served)
    await wait_all_tasks_blocked()
    assert (refused.status, refused.complete) == (200, True)
    assert refused.raw_bytes.startswith(b"retry: ")


# The direct way


async def test_on_the_direct_way_all_arrives_and_nothing_is_far_ahead(
    way: Callable[..., App], nursery: trio.Nursery
) -> None:
    job = Job()
    held = FakeBypass(Writer())
    nursery.start_soon(held.writer.run)
    stream = await open_event_stream(nursery, behind(held, way(job.run())))
    while job.made < COUNT:
        held.fill()
        await wait_all_tasks_blocked()
        assert job.made < held.received.count(b"\n\n") + 10
        held.room.set()
        await trio.lowlevel.checkpoint()
    await wait_all_tasks_blocked()
    assert stream.raw_bytes + held.received in (wire(COUNT), b"\n" + wire(COUNT))
    assert (stream.complete, job.left) == (True, True)
    nursery.cancel_scope.cancel()


async def test_a_connection_that_breaks_ends_the_producer(way: Callable[..., App]) -> None:
    job = Job(3)
    async with direct(way(job.run())) as (held, _):
        held.broken = True
        job.go_on.set()
        await wait_all_tasks_blocked()
        assert job.left


@pytest.mark.parametrize("interval", [0, -1, "soon"])
def test_an_interval_that_is_no_time_is_refused(interval: object) -> None:
    with pytest.raises(ValueError, match="heartbeat_interval"):
        producer_app(Job().run(), heartbeat_interval=interval)  # type: ignore[arg-type]


async def test_a_server_that_shuts_down_while_a_producer_begins_ends_the_stream(
    way: Callable[..., App], nursery: trio.Nursery
) -> None:
    streams = ActiveStreams()
    begins = trio.Event()
    job = Job(3)

    @asynccontextmanager
    async def slow() -> AsyncGenerator[trio.abc.ReceiveChannel[ServerSentEvent]]:
        await begins.wait()
        async with job.run() as events:
            yield events

    app = way(slow())

    async def served(scope: Message, receive: Receive, send: Send) -> None:
        scope["extensions"] = {EXTENSION: streams}
        await app(scope, receive, send)

    nursery.start_soon(open_event_stream, nursery, served)
    await wait_all_tasks_blocked()
    nursery.start_soon(streams.aclose)
    await wait_all_tasks_blocked()
    begins.set()
    await wait_all_tasks_blocked()
    assert job.left


async def test_a_producer_answers_the_lifespan_of_a_server() -> None:
    app = producer_app(Job().run())
    sent: list[str] = []

    async def receive() -> Message:
        await trio.lowlevel.checkpoint()
        return {}

    async def send(message: Message) -> None:
        await trio.lowlevel.checkpoint()
        sent.append(message["type"])

    await app({"type": "lifespan"}, receive, send)
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
