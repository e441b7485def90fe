"""`open_event_stream` itself, against apps of a few lines."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import trio
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

from trio_sse.testing import EventStream, open_event_stream

from ..support.asgi import (
    END,
    HEAD,
    Message,
    Receive,
    Send,
    Tap,
    app_sending,
    chunk,
    until_disconnected,
)


def app_streaming(count: int) -> Tap:
    """Return an app that sends numbered events, then waits for the client to leave."""

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await send(HEAD)
        for number in range(count):
            await send(chunk(b"data: %d\n\n" % number))
        await until_disconnected(receive)

    return Tap(app)


def app_waiting(*bodies: bytes) -> tuple[Tap, trio.Event]:
    """Return an app that sends a head and, once the event is set, these bodies and the end."""
    go = trio.Event()

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await send(HEAD)
        await go.wait()
        for body in bodies:
            await send(chunk(body))
        await send(chunk(b"", last=True))

    return Tap(app), go


# The response


async def test_it_returns_when_the_head_is_there(nursery: trio.Nursery) -> None:
    headers = [(b"Content-Type", b"text/event-stream"), (b"X-Latin", b"\xe4")]
    head = {"type": "http.response.start", "status": 418, "headers": headers}
    stream = await open_event_stream(nursery, app_sending(head, chunk(b"", last=True)))
    assert stream.status == 418
    assert stream.headers == {"content-type": "text/event-stream", "x-latin": "ä"}


async def test_a_head_without_headers_has_none(nursery: trio.Nursery) -> None:
    head = {"type": "http.response.start", "status": 204}
    stream = await open_event_stream(nursery, app_sending(head, END))
    await wait_all_tasks_blocked()
    assert stream.headers == {}
    assert stream.complete


async def test_events_are_read_with_a_loop_up_to_the_clean_end(nursery: trio.Nursery) -> None:
    app = app_sending(
        HEAD, chunk(b"id: 7\nevent: a\ndata: 1\n\ndata: 2\n\n"), chunk(b"", last=True)
    )
    stream = await open_event_stream(nursery, app)
    events = [(event.event, event.data, event.id) async for event in stream]
    assert events == [("a", "1", "7"), ("message", "2", "7")]
    assert stream.complete
    with pytest.raises(trio.EndOfChannel):
        await stream.receive()


# The request


async def test_the_app_sees_an_ordinary_request(nursery: trio.Nursery) -> None:
    seen: dict[str, Any] = {}

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        seen.update(scope, first=await receive())
        await send(HEAD)

    await open_event_stream(
        nursery, app, "/caf%C3%A9/live?last=1&x=%20", headers=[("X-One", "1"), ("Accept", "*/*")]
    )
    assert (seen["type"], seen["method"], seen["http_version"]) == ("http", "GET", "1.1")
    assert (seen["path"], seen["raw_path"]) == ("/café/live", b"/caf%C3%A9/live")
    assert seen["query_string"] == b"last=1&x=%20"
    assert dict(seen["headers"]) == {b"host": b"testserver", b"accept": b"*/*", b"x-one": b"1"}
    assert seen["first"] == {"type": "http.request", "body": b"", "more_body": False}


async def test_a_request_header_may_be_repeated(nursery: trio.Nursery) -> None:
    seen: list[bytes] = []

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        seen.extend(value for name, value in scope["headers"] if name == b"cookie")
        await send(HEAD)

    await open_event_stream(nursery, app, headers=[("cookie", "a=1"), ("cookie", "b=2")])
    assert seen == [b"a=1", b"b=2"]


# The end


async def test_disconnect_tells_the_app_once(nursery: trio.Nursery) -> None:
    app = app_streaming(1)
    stream = await open_event_stream(nursery, app)
    await wait_all_tasks_blocked()
    stream.disconnect()
    stream.disconnect()
    await app.finished.wait()
    assert [event.data async for event in stream] == ["0"]
    assert not stream.complete


async def test_what_is_sent_after_a_disconnect_goes_nowhere(nursery: trio.Nursery) -> None:
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await send(HEAD)
        await until_disconnected(receive)
        await send(chunk(b"data: 1\n\n", last=True))

    tap = Tap(app)
    stream = await open_event_stream(nursery, tap)
    stream.disconnect()
    await tap.finished.wait()
    assert (stream.raw_bytes, stream.complete) == (b"", False)
    with pytest.raises(trio.EndOfChannel):
        await stream.receive()


async def test_aclose_disconnects_and_checkpoints(nursery: trio.Nursery) -> None:
    app = app_streaming(0)
    async with await open_event_stream(nursery, app) as stream:
        assert not app.finished.is_set()
    await app.finished.wait()
    with assert_checkpoints():
        await stream.aclose()


async def test_a_response_without_its_last_chunk_is_cut(nursery: trio.Nursery) -> None:
    stream = await open_event_stream(nursery, app_sending(HEAD, chunk(b"data: 1\n\n")))
    assert (await stream.receive()).data == "1"
    with pytest.raises(trio.BrokenResourceError, match="cut off before its end"):
        await stream.receive()
    assert not stream.complete


async def test_an_app_without_a_response_is_an_error_of_the_call(nursery: trio.Nursery) -> None:
    with pytest.raises(trio.BrokenResourceError, match="returned without a response"):
        await open_event_stream(nursery, app_sending())


async def raising(scope: Message, receive: Receive, send: Send) -> None:
    await trio.lowlevel.checkpoint()
    raise LookupError("oops")


async def raising_later(scope: Message, receive: Receive, send: Send) -> None:
    await send(HEAD)
    await raising(scope, receive, send)


async def test_an_error_before_the_head_is_raised_by_the_call(nursery: trio.Nursery) -> None:
    with pytest.raises(LookupError, match="oops"):
        await open_event_stream(nursery, raising)


async def test_a_later_error_reaches_the_nursery() -> None:
    with pytest.RaisesGroup(LookupError):
        async with trio.open_nursery() as nursery:
            await open_event_stream(nursery, raising_later)


# Stalling


async def stalled(nursery: trio.Nursery, *bodies: bytes) -> tuple[Tap, EventStream]:
    """Let an app send these bodies to a client that takes none."""
    app, go = app_waiting(*bodies)
    stream = await open_event_stream(nursery, app)
    stream.stall()
    go.set()
    await wait_all_tasks_blocked()
    return app, stream


async def test_a_stalled_client_holds_up_the_next_send(nursery: trio.Nursery) -> None:
    app, stream = await stalled(nursery, b"data: 1\n\n", b"data: 2\n\n")
    assert (len(app.sent), stream.raw_bytes) == (2, b"")
    stream.resume()
    assert [event.data async for event in stream] == ["1", "2"]


async def test_resuming_once_is_enough_after_stalling_twice(nursery: trio.Nursery) -> None:
    _, stream = await stalled(nursery, b"data: 1\n\n")
    stream.stall()
    stream.resume()
    await wait_all_tasks_blocked()
    assert stream.complete


async def test_a_stalled_client_that_leaves_holds_nobody_up(nursery: trio.Nursery) -> None:
    app, stream = await stalled(nursery, b"data: 1\n\n")
    stream.disconnect()
    await app.finished.wait()
    assert stream.raw_bytes == b""


async def test_a_client_that_has_left_cannot_stall(nursery: trio.Nursery) -> None:
    app, go = app_waiting(b"data: 1\n\n")
    stream = await open_event_stream(nursery, app)
    stream.disconnect()
    stream.stall()
    go.set()
    await wait_all_tasks_blocked()
    assert app.finished.is_set()


async def test_receive_waits_for_the_next_event(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await send(HEAD)
        await trio.sleep(3)
        await send(chunk(b"data: 1\n\n", last=True))

    stream = await open_event_stream(nursery, app)
    assert (await stream.receive()).data == "1"
    assert trio.current_time() == 3


async def test_it_returns_though_somebody_never_rests(nursery: trio.Nursery) -> None:
    async def busy() -> None:
        for _ in itertools.count():
            await trio.lowlevel.checkpoint()

    nursery.start_soon(busy)
    with trio.fail_after(1):
        stream = await open_event_stream(nursery, app_streaming(0))
    assert stream.status == 200
