"""Over real sockets, through the Trio worker of stock hypercorn."""

from __future__ import annotations

import signal
import socket
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext
from itertools import cycle, islice
from pathlib import Path
from subprocess import PIPE
from typing import Final

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_sse import Broadcaster, sse_app

from .support.apps import AppOf, quart_app, starlette_app
from .support.clients import Client, Response
from .support.hostile import REQUEST
from .support.remains import remains
from .support.server import Server, serving
from .support.tcp import reset_when_closed
from .support.thorough import THOROUGH
from .support.waiting import PATIENCE, until

Connect = Callable[[Server], Awaitable[Client]]
Leave = Callable[[Client, Response], Awaitable[None]]

BOTH_PROTOCOLS: Final = pytest.mark.parametrize("connect", [Server.http1, Server.http2])
PROGRAM: Final = """from trio_sse import Broadcaster, sse_app

broadcaster = Broadcaster(strict=False)

async def app(scope, receive, send):
    if scope.get("path") == "/publish":
        broadcaster.broadcast("tick", "from another process")
    await sse_app(broadcaster)(scope, receive, send)
"""


#: Clients that come and go: CI has the time for a thousand.
VISITS: Final = 1000 if THOROUGH else 240


@asynccontextmanager
async def serving_every_app(broadcaster: Broadcaster) -> AsyncGenerator[list[Server]]:
    whole, quart, route = (app_of(broadcaster) for app_of in (sse_app, quart_app, starlette_app))
    async with serving(whole) as a, serving(quart) as b, serving(route) as c:
        yield [a, b, c]


async def collect(response: Response, into: list[str]) -> None:
    async for event in response:
        into.append(event.data)  # noqa: PERF401 (tests watch it grow)


async def rst(client: Client, _: Response) -> None:
    reset_when_closed(client.stream)
    await client.stream.aclose()


WAYS_TO_LEAVE: Final[dict[str, tuple[Connect, Leave]]] = {
    "FIN": (Server.http1, lambda client, _: client.stream.aclose()),
    "RST": (Server.http1, rst),
    "half close": (Server.http1, lambda client, _: client.stream.send_eof()),
    "RST_STREAM": (Server.http2, lambda _, response: response.aclose()),
}


async def test_50_clients_of_every_app_and_protocol_get_each_of_1000_events_once_and_in_order(
    broadcaster: Broadcaster,
) -> None:
    received: list[list[str]] = [[] for _ in range(50)]
    async with serving_every_app(broadcaster) as servers, trio.open_nursery() as nursery:
        shared = [await server.http2() for server in servers]
        for number, into in enumerate(received):
            client = shared[number % 3] if number % 2 else await servers[number % 3].http1()
            nursery.start_soon(collect, await client.request(), into)
        await until(lambda: broadcaster.client_count == 50)
        for number in range(1000):
            broadcaster.broadcast("tick", str(number))
            if number % 100 == 99:
                await broadcaster.wait_all_taken()
        broadcaster.close()
    assert received == [[str(number) for number in range(1000)]] * 50


@pytest.mark.parametrize("leave_by", WAYS_TO_LEAVE)
async def test_a_client_that_leaves_is_noticed_and_the_others_read_on(
    app_of: AppOf, broadcaster: Broadcaster, leave_by: str
) -> None:
    connect, leave = WAYS_TO_LEAVE[leave_by]
    async with serving(app_of(broadcaster)) as server:
        client = await connect(server)
        leaving = await client.request()
        # A stream that is reset leaves the others of its connection alone.
        staying = await (client if leave_by == "RST_STREAM" else await server.http1()).request()
        await until(lambda: broadcaster.client_count == 2)
        with trio.fail_after(5):
            await leave(client, leaving)
            await until(lambda: broadcaster.client_count == 1)
        broadcaster.broadcast("tick", "for those who stayed")
        assert (await staying.receive()).data == "for those who stayed"


async def test_clients_that_come_and_go_leave_no_task_no_descriptor_and_no_client(
    broadcaster: Broadcaster,
) -> None:
    async def come_and_go(servers: list[Server]) -> None:
        visits = zip(cycle(servers), cycle(WAYS_TO_LEAVE.values()), strict=False)
        for server, (connect, leave) in islice(visits, VISITS // 4):
            client = await connect(server)
            response = await client.request()
            broadcaster.broadcast("tick", "while clients come and go")
            await leave(client, response)
            await client.stream.aclose()

    async with serving_every_app(broadcaster) as servers:
        await wait_all_tasks_blocked()
        before = remains(broadcaster)
        async with trio.open_nursery() as nursery:
            for shift in range(4):
                nursery.start_soon(come_and_go, servers[shift % 3 :] + servers[: shift % 3])
        await until(lambda: remains(broadcaster) == before)


async def test_a_stalled_client_is_pruned_and_gets_its_backlog_while_the_others_miss_nothing(
    app_of: AppOf,
) -> None:
    broadcaster = Broadcaster(buffer_size=8, strict=False)
    received: list[list[str]] = [[], [], []]
    sent: list[str] = []
    async with serving(app_of(broadcaster)) as server, trio.open_nursery() as nursery:
        stalled = await (await server.http1(receive_buffer=4096)).request()
        others: list[Client] = [await server.http1(), await server.http1(), await server.http2()]
        for client, into in zip(others, received, strict=True):
            nursery.start_soon(collect, await client.request(), into)
        await until(lambda: broadcaster.client_count == 4)
        while broadcaster.client_count == 4:
            sent.append(f"{len(sent)} {'x' * 100_000}")
            broadcaster.broadcast("tick", sent[-1])
            await until(lambda: received == [sent] * 3)
        # It reads again: all that was queued before the event that found its buffer full.
        assert [event.data for event in await stalled.rest()] == sent[:-1]
        broadcaster.close()
    assert received == [sent] * 3


@BOTH_PROTOCOLS
async def test_a_head_request_is_answered_at_once_and_the_connection_serves_on(
    app_of: AppOf, broadcaster: Broadcaster, connect: Connect
) -> None:
    async with serving(app_of(broadcaster)) as server:
        client = await connect(server)
        head = await client.request("HEAD")
        assert (head.status, await head.rest()) == (200, [])
        response = await client.request()
        await until(lambda: broadcaster.client_count == 1)
        broadcaster.broadcast("tick", "after the HEAD")
        assert (await response.receive()).data == "after the HEAD"


@BOTH_PROTOCOLS
async def test_other_methods_are_refused(broadcaster: Broadcaster, connect: Connect) -> None:
    async with serving(sse_app(broadcaster)) as server:
        response = await (await connect(server)).request("POST")
        assert (response.status, await response.rest()) == (405, [])


async def test_the_body_of_a_get_request_is_drained_and_the_client_leaving_is_noticed(
    app_of: AppOf, broadcaster: Broadcaster
) -> None:
    async with serving(app_of(broadcaster)) as server:
        client = await server.http1()
        response = await client.request(body=b"x" * 2_000_000)
        await until(lambda: broadcaster.client_count == 1)
        broadcaster.broadcast("tick", "after the body")
        assert (await response.receive()).data == "after the body"
        await client.stream.aclose()
        await until(lambda: broadcaster.client_count == 0)


async def test_a_pipelined_request_is_answered_when_the_stream_before_it_has_ended(
    app_of: AppOf, broadcaster: Broadcaster
) -> None:
    async with serving(app_of(broadcaster)) as server:
        client = await server.http1()
        await client.stream.send_all(REQUEST + REQUEST)
        first = await client.request(sent=True)
        await until(lambda: broadcaster.client_count == 1)
        broadcaster.broadcast("tick", "to the first")
        broadcaster.close()
        assert [event.data for event in await first.rest()] == ["to the first"]
        second = await client.request(sent=True)
        assert (second.status, await second.rest()) == (200, [])
        assert second.body.startswith(b"retry: ")


async def test_a_client_that_pipelined_and_left_is_noticed_by_the_heartbeat(app_of: AppOf) -> None:
    broadcaster = Broadcaster(heartbeat_interval=0.02)
    async with serving(app_of(broadcaster)) as server:
        client = await server.http1()
        await client.stream.send_all(REQUEST + REQUEST)
        await client.request(sent=True)
        await until(lambda: broadcaster.client_count == 1)
        await client.stream.aclose()
        await until(lambda: broadcaster.statistics().streams == 0)


async def test_a_shutdown_that_closes_the_broadcaster_first_ends_every_stream_cleanly(
    app_of: AppOf, broadcaster: Broadcaster
) -> None:
    close = broadcaster.aclose
    async with serving(app_of(broadcaster), before_shutdown=close, graceful_timeout=3600) as server:
        clients: list[Client] = [await server.http1(), await server.http1()]
        # Quart sends its last chunk after aclose() has returned: too late for hypercorn's HTTP/2.
        clients += [] if app_of is quart_app else [await server.http2()] * 3
        responses = [await client.request() for client in clients]
        await until(lambda: broadcaster.client_count == len(clients))
        broadcaster.broadcast("tick", "the last")
        server.shutdown.set()
        for response in responses:
            assert [event.data for event in await response.rest()] == ["the last"]


async def test_a_stream_that_a_shutdown_cancels_still_gets_its_last_chunk_but_not_in_quart(
    app_of: AppOf, broadcaster: Broadcaster
) -> None:
    async with serving(app_of(broadcaster), graceful_timeout=0.1) as server:
        response = await (await server.http1()).request()
        server.shutdown.set()
        with pytest.raises(trio.BrokenResourceError) if app_of is quart_app else nullcontext():
            assert await response.rest() == []


async def check_program(path: Path, signal_number: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server, descriptor = Server(listener.getsockname()[1]), listener.fileno()
        command = f"hypercorn -k trio -b fd://{descriptor} --graceful-timeout 0 program:app"
        arguments = [sys.executable, "-m", *command.split()]
        process = await trio.lowlevel.open_process(
            arguments, pass_fds=[descriptor], cwd=path, stderr=PIPE
        )
        try:
            response = await (await server.http1()).request()
            await (await server.http1()).request("HEAD", "/publish")
            assert (await response.receive()).data == "from another process"
            process.send_signal(signal_number)
            assert await response.rest() == []
            assert await process.wait() == 0
        finally:
            process.terminate()
            server.close_connections()
    assert process.stderr is not None
    assert b"Traceback" not in b"".join([chunk async for chunk in process.stderr])


async def test_the_hypercorn_command_serves_a_module_and_ends_on_a_signal(tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PROGRAM)
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            for signal_number in (signal.SIGINT, signal.SIGTERM)[: 2 if THOROUGH else 1]:
                nursery.start_soon(check_program, tmp_path, signal_number)
