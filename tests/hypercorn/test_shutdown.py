"""How `trio_sse.hypercorn.serve` begins and ends, whatever its clients and its app do."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, cast

import pytest
import trio
from hypercorn.middleware import ProxyFixMiddleware
from trio.testing import wait_all_tasks_blocked

from trio_sse import Broadcaster, sse_app

from ..support.apps import AppOf
from ..support.asgi import END, HEAD, App, Flood, Message, Receive, Send, chunk, with_lifespan
from ..support.clients import Client, Response
from ..support.hardened import Served, hardened
from ..support.remains import remains
from ..support.waiting import until

#: Seconds beyond any deadline, for machines that are slow.
SLACK: Final = 5.0


@pytest.fixture
def broadcaster() -> Broadcaster:
    return Broadcaster(1000, strict=False)


def noting_lifespan(app: App, note: Callable[[str], None]) -> App:
    async def noting(scope: Message, receive: Receive, send: Send) -> None:
        async def receive_and_note() -> Message:
            message = await receive()
            note(message["type"])
            return message

        await app(scope, receive_and_note if scope["type"] == "lifespan" else receive, send)

    return noting


async def is_refused(served: Served) -> bool:
    """Tell whether both addresses are closed."""
    refused = 0
    for port in (served.plain.port, served.secure.port):
        with trio.socket.socket() as sock, suppress(ConnectionRefusedError):
            with suppress(ConnectionResetError):  # Amid the closing.
                await sock.connect(("127.0.0.1", port))
            refused -= 1
        refused += 1
    return refused == 2


async def test_a_shutdown_does_not_wait_longer_for_clients_that_do_not_read(
    app_of: AppOf, broadcaster: Broadcaster
) -> None:
    app = app_of(broadcaster)
    async with hardened(app, write_timeout=math.inf, graceful_timeout=0.2) as served:
        stalled = await served.stalled()
        responses = [await client.request() for client in await served.every_client()]
        await until(lambda: broadcaster.client_count == 4 + len(stalled))
        for _ in range(10):
            broadcaster.broadcast("tick", "x" * 100_000)
            for response in responses:
                await response.receive()
        with trio.fail_after(0.2 + 1 + SLACK):
            served.shutdown.set()
            for response in responses:
                assert await response.rest() == []
            await served.returned.wait()
        assert remains(broadcaster)[2:] == (0, 0)


@pytest.mark.parametrize("by", ["trigger", "cancellation"])
async def test_an_app_that_ignores_the_disconnect_cannot_keep_the_server_from_ending(
    by: str,
) -> None:
    flood = Flood(listens=False)
    async with hardened(flood, write_timeout=math.inf, graceful_timeout=0.1) as served:
        await served.stalled()
        await until(lambda: len(flood.sent) == 8)
        with trio.fail_after(0.1 + 1 + SLACK):
            served.shutdown.set() if by == "trigger" else served.scope.cancel()
            await served.returned.wait()


async def test_a_request_amid_the_shutdown_is_told_to_come_back_later_or_refused(
    app_of: AppOf, broadcaster: Broadcaster
) -> None:
    async with hardened(app_of(broadcaster), graceful_timeout=0.5) as served:
        clients = await served.every_client()
        for client in clients:
            assert await (await client.request("HEAD")).rest() == []
        await served.stalled()  # So that the shutdown lasts.
        await until(lambda: broadcaster.client_count == 8)
        for _ in range(10):
            broadcaster.broadcast("tick", "x" * 100_000)
        served.shutdown.set()
        while not await is_refused(served):
            pass
        await wait_all_tasks_blocked(0.01)
        for client in clients:
            await comes_to_nothing(client)
        await served.returned.wait()


async def comes_to_nothing(client: Client) -> None:
    try:
        response: Response = await client.request()
    except (AssertionError, trio.BrokenResourceError):
        return  # Cut before a response.
    assert await response.rest() == []
    if response.status != 503:  # Said to who does not ask for an event stream by name.
        assert response.body.startswith(b"retry: ")  # A browser asks again after that time.


async def test_a_server_with_a_limit_of_requests_ends_after_it(broadcaster: Broadcaster) -> None:
    app = sse_app(broadcaster)
    async with hardened(app, max_requests=2, graceful_timeout=3600) as served:
        responses = [await client.request() for client in (await served.every_client())[:3]]
        for response in responses:
            assert await response.rest() == []
        await served.returned.wait()


async def test_an_app_without_lifespan_is_served() -> None:
    async def plain(scope: Message, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        await send({**HEAD, "status": 204})
        await send(END)

    async with hardened(plain) as served:
        (line,) = served.log.take()
        assert "without Lifespan support" in line
        for client in await served.every_client():
            assert (await client.request()).status == 204


async def set_later(served: Served) -> None:
    await wait_all_tasks_blocked(0.02)
    served.shutdown.set()


async def expect_all(client: Client) -> None:
    response = await client.request()
    await response.rest()
    assert response.body == b"all of it"


async def test_when_the_trigger_fires_each_stream_gets_what_was_queued_and_a_clean_end(
    asgi_app_of: AppOf, broadcaster: Broadcaster
) -> None:
    lifespan: list[tuple[str, int]] = []
    events = [f"{number} {'x' * 20_000}" for number in range(20)]

    def note(phase: str) -> None:
        lifespan.append((phase, broadcaster.statistics().streams))

    app = noting_lifespan(asgi_app_of(broadcaster), note)
    async with hardened(app, graceful_timeout=3600) as served:
        responses = [await client.request() for client in await served.clients("http/1.1")]
        await until(lambda: broadcaster.client_count == 2)
        for event in events:
            broadcaster.broadcast("tick", event)
        served.shutdown.set()
        for response in responses:
            assert [event.data for event in await response.rest()] == events
        await served.returned.wait()
        assert await is_refused(served)
    assert lifespan == [("lifespan.startup", 0), ("lifespan.shutdown", 0)]


async def test_a_cancelled_server_ends_at_once_with_a_clean_end_for_those_who_read(
    asgi_app_of: AppOf, broadcaster: Broadcaster
) -> None:
    app = asgi_app_of(broadcaster)
    async with hardened(app, write_timeout=math.inf, graceful_timeout=3600) as served:
        stalled = await served.stalled()
        responses = [await client.request() for client in await served.clients("http/1.1")]
        await until(lambda: broadcaster.client_count == 2 + len(stalled))
        for _ in range(10):
            broadcaster.broadcast("tick", "x" * 100_000)
            for response in responses:
                await response.receive()
        with trio.fail_after(1 + SLACK):
            served.scope.cancel()
            for response in responses:
                assert await response.rest() == []
            await served.returned.wait()
        assert remains(broadcaster)[2:] == (0, 0)
        assert await is_refused(served)


async def test_a_shutdown_waits_for_a_response_that_is_not_ours() -> None:
    @with_lifespan
    async def slow(scope: Message, receive: Receive, send: Send) -> None:
        await send(HEAD)
        asked.set()
        await served.shutdown.wait()
        await wait_all_tasks_blocked(0.02)
        await send(chunk(b"all of it", last=True))

    asked = trio.Event()
    async with hardened(slow, graceful_timeout=3600) as served:
        clients = await served.clients("http/1.1")
        async with trio.open_nursery() as nursery:
            for client in clients:
                nursery.start_soon(expect_all, client)
            await asked.wait()
            nursery.start_soon(set_later, served)
        await served.returned.wait()


async def test_connections_that_are_kept_alive_do_not_hold_up_a_shutdown(
    asgi_app_of: AppOf, broadcaster: Broadcaster
) -> None:
    async with hardened(asgi_app_of(broadcaster), graceful_timeout=3600) as served:
        for client in await served.every_client():
            assert await (await client.request("HEAD")).rest() == []
        served.shutdown.set()
        await served.returned.wait()


def behind_a_proxy(app: App) -> App:
    """The app as hypercorn's own middleware for proxies calls it: with a deep copy of the scope."""

    async def copied(scope: Message, receive: Receive, send: Send) -> None:
        extensions = {name: copy.copy(value) for name, value in scope["extensions"].items()}
        await app({**scope, "extensions": extensions}, receive, send)

    proxied: Any = ProxyFixMiddleware(cast("Any", copied), mode="legacy")

    async def whole(scope: Message, receive: Receive, send: Send) -> None:
        await (app if scope["type"] == "lifespan" else proxied)(scope, receive, send)

    return whole


@pytest.mark.parametrize("protocol", ["http1", "http2"])
async def test_a_stream_behind_a_middleware_that_copies_the_scope_is_one_of_the_servers(
    protocol: str, broadcaster: Broadcaster
) -> None:
    async with hardened(behind_a_proxy(sse_app(broadcaster)), graceful_timeout=5) as served:
        client: Client = await getattr(served, protocol)()
        stream = await client.request()
        await until(lambda: broadcaster.client_count == 1)
        broadcaster.broadcast("x", "1")
        assert (await stream.receive()).data == "1"
        assert broadcaster.statistics().clients_direct == 1
        served.shutdown.set()
        with pytest.raises(trio.EndOfChannel):
            await stream.receive()
