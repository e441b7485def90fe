"""What only Quart-Trio has: views, hooks, its own timeout, and bodies that outlive a view."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator
from contextlib import suppress
from typing import Any

import pytest
import quart
import starlette.requests
import trio
from quart_trio import QuartTrio
from trio.testing import MockClock, assert_checkpoints, wait_all_tasks_blocked

from trio_sse import END_ID, Broadcaster, ServerSentEvent, sse_route
from trio_sse.quart import producer_response
from trio_sse.testing import open_event_stream

from ..support.apps import quart_app
from ..support.asgi import Message, Receive, Send, Tap, with_scope
from ..support.streams import stalled_amid_an_event


def app_streaming(broadcaster: Broadcaster) -> QuartTrio:
    """Return an app whose view checks a token, then streams."""
    app = QuartTrio(__name__)

    @app.get("/events")
    async def events() -> Any:
        if quart.request.args.get("token") != "right":
            return "who are you?", 403
        return await broadcaster.stream(quart.request)

    return app


def request_context() -> Any:
    app: Any = QuartTrio(__name__)
    return app.test_request_context("/events")


async def test_one_app_may_have_several_routes(nursery: trio.Nursery) -> None:
    app = QuartTrio(__name__)
    broadcasters = [Broadcaster(strict=False) for _ in range(3)]
    for number, broadcaster in enumerate(broadcasters):
        app.add_url_rule(f"/{number}", view_func=sse_route(broadcaster))
    app.add_url_rule("/again", view_func=sse_route(broadcasters[0]))
    paths = ["/0", "/1", "/2", "/again"]
    streams = [await open_event_stream(nursery, app, path) for path in paths]
    await wait_all_tasks_blocked()
    for number, broadcaster in enumerate(broadcasters):
        broadcaster.broadcast("x", number)
    assert [(await stream.receive()).data for stream in streams] == ["0", "1", "2", "0"]
    assert broadcasters[0].client_count == 2


async def test_a_route_may_have_an_endpoint_name_of_its_own(nursery: trio.Nursery) -> None:
    app = QuartTrio(__name__)
    app.add_url_rule("/events", "live", view_func=sse_route(Broadcaster()))
    assert (await open_event_stream(nursery, app)).status == 200


async def test_a_view_may_check_before_it_streams(nursery: trio.Nursery) -> None:
    broadcaster = Broadcaster(strict=False)
    app = app_streaming(broadcaster)
    refused = await open_event_stream(nursery, app, "/events?token=wrong")
    await wait_all_tasks_blocked()
    assert (refused.status, refused.raw_bytes) == (403, b"who are you?")
    assert broadcaster.client_count == 0
    admitted = await open_event_stream(nursery, app, "/events?token=right")
    await wait_all_tasks_blocked()
    broadcaster.broadcast("x", "1")
    assert (await admitted.receive()).data == "1"


async def test_stream_checkpoints_and_returns_a_response() -> None:
    async with request_context():
        with assert_checkpoints():
            response = await Broadcaster().stream(quart.request)
    assert isinstance(response, quart.Response)


async def test_a_response_that_is_never_sent_registers_nobody() -> None:
    broadcaster = Broadcaster()
    async with request_context():
        await broadcaster.stream(quart.request)
    assert broadcaster.client_count == broadcaster.statistics().streams == 0


async def test_a_stream_outlives_quarts_response_timeout(
    nursery: trio.Nursery, autojump_clock: MockClock, broadcaster: Broadcaster
) -> None:
    app = QuartTrio(__name__)
    app.add_url_rule("/events", view_func=sse_route(broadcaster))
    assert app.config["RESPONSE_TIMEOUT"] == 60
    stream = await open_event_stream(nursery, app)
    await trio.sleep(3600.5)
    broadcaster.broadcast("x", "still there")
    assert (await stream.receive()).data == "still there"
    assert stream.comments == ["heartbeat"] * 240


async def test_hooks_may_add_headers(nursery: trio.Nursery, broadcaster: Broadcaster) -> None:
    app = app_streaming(broadcaster)

    @app.after_request
    async def allow(response: Any) -> Any:
        await trio.lowlevel.checkpoint()
        response.headers["access-control-allow-origin"] = "*"
        return response

    stream = await open_event_stream(nursery, app, "/events?token=right")
    await wait_all_tasks_blocked()
    assert stream.headers["access-control-allow-origin"] == "*"
    broadcaster.broadcast("x", "1")
    assert (await stream.receive()).data == "1"


async def test_a_broadcaster_that_closes_between_the_view_and_the_body_ends_the_stream_cleanly(
    nursery: trio.Nursery,
) -> None:
    broadcaster = Broadcaster()
    app = app_streaming(broadcaster)

    @app.after_request
    async def close(response: Any) -> Any:
        await broadcaster.aclose()
        return response

    stream = await open_event_stream(nursery, app, "/events?token=right")
    await wait_all_tasks_blocked()
    assert (stream.status, stream.complete) == (200, True)


async def test_another_method_is_refused_by_quart(nursery: trio.Nursery) -> None:
    answer = await open_event_stream(nursery, with_scope(quart_app(Broadcaster()), method="POST"))
    assert answer.status == 405
    assert {"GET", "HEAD"} <= set(answer.headers["allow"].split(", "))


async def test_a_cancelled_server_cuts_the_stream() -> None:
    async with trio.open_nursery() as nursery:
        stream = await open_event_stream(nursery, quart_app(Broadcaster()))
        nursery.cancel_scope.cancel()
    assert not stream.complete


async def test_a_cancelled_aclose_ends_an_idle_stream_cleanly(nursery: trio.Nursery) -> None:
    broadcaster = Broadcaster()
    stream = await open_event_stream(nursery, quart_app(broadcaster))
    with trio.move_on_after(0):
        await broadcaster.aclose()
    await wait_all_tasks_blocked()
    assert stream.complete
    assert broadcaster.statistics().streams == 0


async def test_a_cancelled_aclose_cuts_a_stream_amid_an_event(autojump_clock: MockClock) -> None:
    """The error is what keeps Quart from adding the last chunk of a clean end."""
    broadcaster = Broadcaster(strict=False)
    app = Tap(quart_app(broadcaster))
    with pytest.RaisesGroup(trio.BrokenResourceError, flatten_subgroups=True):
        async with trio.open_nursery() as nursery:
            await stalled_amid_an_event(nursery, broadcaster, app)
            with trio.move_on_after(3):
                await broadcaster.aclose()
    assert trio.current_time() == 3
    assert not app.ended
    assert broadcaster.statistics().streams == 0


async def test_on_a_first_connect_all_is_received_that_is_broadcast_after_the_head(
    nursery: trio.Nursery,
) -> None:
    """Without a history, so that nobody can be told later."""
    broadcaster = Broadcaster(strict=False, history_size=0)
    app = quart_app(broadcaster)

    async def served(scope: Message, receive: Receive, send: Send) -> None:
        async def send_and_broadcast(message: Message) -> None:
            if message["type"] == "http.response.start":
                broadcaster.broadcast("x", "right behind the head")
            await send(message)

        await app(scope, receive, send_and_broadcast)

    stream = await open_event_stream(nursery, served)
    assert (await stream.receive()).data == "right behind the head"


async def test_a_response_whose_head_is_never_sent_holds_no_place(nursery: trio.Nursery) -> None:
    """Though somebody still has it."""
    broadcaster = Broadcaster(max_clients=1)
    app = QuartTrio(__name__)
    app.add_url_rule("/events", view_func=sse_route(broadcaster))
    kept: list[Any] = []

    @app.after_request
    async def keep(response: Any) -> Any:
        await trio.lowlevel.checkpoint()
        kept.append(response)
        return response

    async def fail(_: Message) -> None:
        await trio.lowlevel.checkpoint()
        raise OSError("the client is gone")

    async def served(scope: Message, receive: Receive, send: Send) -> None:
        anything: Any = app
        with suppress(BaseExceptionGroup):
            await anything(scope, receive, fail)
        await anything(scope, receive, send)

    stream = await open_event_stream(nursery, served)
    await wait_all_tasks_blocked()
    assert not stream.complete
    assert broadcaster.client_count == broadcaster.statistics().streams == 1


async def test_a_snapshot_runs_in_the_context_of_its_request(
    nursery: trio.Nursery, broadcaster: Broadcaster
) -> None:
    app = QuartTrio(__name__)

    def state() -> list[tuple[str, object]]:
        return [("state", [quart.g.user, quart.request.args["a"], quart.current_app.name])]

    @app.get("/events")
    async def events() -> Any:
        quart.g.user = "ann"
        return await broadcaster.stream(quart.request, snapshot=state)

    stream = await open_event_stream(nursery, app, "/events?a=b")
    assert (await stream.receive()).json() == ["ann", "b", app.name]


async def test_a_producer_runs_in_the_context_of_its_request(nursery: trio.Nursery) -> None:
    app = QuartTrio(__name__)

    @trio.as_safe_channel
    async def source() -> AsyncGenerator[ServerSentEvent]:
        await trio.lowlevel.checkpoint()
        yield ServerSentEvent("who", f"{quart.g.user} {quart.request.args['a']}")

    @app.get("/events")
    async def events() -> Any:
        quart.g.user = "ann"
        await trio.lowlevel.checkpoint()
        return producer_response(quart.request, source())

    stream = await open_event_stream(nursery, app, "/events?a=b")
    assert (await stream.receive()).data == "ann b"


async def test_a_route_has_all_options_and_those_of_its_request(
    nursery: trio.Nursery, broadcaster: Broadcaster
) -> None:
    app = QuartTrio(__name__)
    view = sse_route(
        broadcaster,
        topics=lambda request: [(request.view_args or {})["room"]],
        key=lambda request: request.args["user"],
        key_limit=1,
        snapshot=lambda: [("state", "now")],
    )
    app.add_url_rule("/events/<room>", view_func=view)
    ann = await open_event_stream(nursery, app, "/events/a?user=ann")
    turned_away = await open_event_stream(nursery, app, "/events/b?user=ann")
    bob = await open_event_stream(nursery, app, "/events/b?user=bob")
    await wait_all_tasks_blocked()
    assert turned_away.complete
    for room in "ab":
        broadcaster.broadcast("x", room, topic=room)
    assert [(await stream.receive()).data for stream in (ann, ann)] == ["now", "a"]
    assert [(await stream.receive()).data for stream in (bob, bob)] == ["now", "b"]
    assert broadcaster.disconnect("ann") == 1


async def test_the_request_of_another_framework_is_refused_with_the_fix(
    broadcaster: Broadcaster,
) -> None:
    request: Any = starlette.requests.Request({"type": "http"})
    with pytest.raises(TypeError, match=r"in Starlette and FastAPI return sse_app\(broadcaster\)"):
        await broadcaster.stream(request)


def keyed_app(broadcaster: Broadcaster) -> QuartTrio:
    app = QuartTrio(__name__)
    app.add_url_rule("/events", view_func=sse_route(broadcaster, key="ann"))
    return app


async def test_a_heartbeat_of_a_stream_that_ends_tells_no_id(autojump_clock: MockClock) -> None:
    """It would be ahead of what is broadcast then. Often, since Trio chooses who is first."""
    for n in range(20):
        broadcaster = Broadcaster(strict=False)
        async with trio.open_nursery() as nursery:
            await trio.sleep_until(20 * n)
            stream = await open_event_stream(nursery, keyed_app(broadcaster))
            began = broadcaster.last_event_id
            await trio.sleep_until(20 * n + 15)
            broadcaster.disconnect("ann")
            broadcaster.broadcast("x", "too late")
        assert stream.last_event_id == began


def slow_app(broadcaster: Broadcaster, **options: Any) -> QuartTrio:
    """Return an app that takes a second between a view and its response."""
    app = QuartTrio(__name__)
    app.add_url_rule("/events", view_func=sse_route(broadcaster, **options))

    @app.after_request
    async def wait(response: Any) -> Any:
        await trio.sleep(1)
        return response

    return app


async def test_a_response_that_has_not_begun_when_all_ends_is_told_to_come_back(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    broadcaster = Broadcaster(reconnection_time=(2, 2))
    opened: list[Any] = []

    async def connect() -> None:
        opened.append(await open_event_stream(nursery, slow_app(broadcaster)))

    nursery.start_soon(connect)
    await trio.sleep(0.5)
    assert broadcaster.client_count == 1
    await broadcaster.aclose()
    assert trio.current_time() == 0.5
    await trio.sleep(2)
    (stream,) = opened
    assert stream.complete
    assert re.fullmatch(rb"retry: \d+\n\n", stream.raw_bytes)


async def test_a_client_that_is_pruned_or_sent_away_before_its_response_begins_is_told(
    nursery: trio.Nursery, autojump_clock: MockClock
) -> None:
    broadcaster = Broadcaster(1, strict=False)
    opened: list[Any] = []

    async def connect() -> None:
        opened.append(await open_event_stream(nursery, slow_app(broadcaster, key="ann")))

    nursery.start_soon(connect)
    await trio.sleep(0.5)
    for data in "12":
        broadcaster.broadcast("x", data)
    assert broadcaster.client_count == 0
    assert broadcaster.disconnect("ann", final=True) == 1
    await trio.sleep(2)
    (stream,) = opened
    assert [event.data async for event in stream] == ["1"]
    assert stream.last_event_id == END_ID


async def test_topics_of_a_route_may_be_an_iterator(nursery: trio.Nursery) -> None:
    broadcaster = Broadcaster(strict=False)
    app = QuartTrio(__name__)
    app.add_url_rule("/events", view_func=sse_route(broadcaster, topics=iter(["a"])))
    streams = [await open_event_stream(nursery, app) for _ in range(2)]
    broadcaster.broadcast("x", "y", topic="a")
    assert [(await stream.receive()).data for stream in streams] == ["y", "y"]
