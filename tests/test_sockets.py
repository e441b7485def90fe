"""Over real sockets, through the Trio worker of stock hypercorn."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from itertools import cycle, islice
from pathlib import Path
from subprocess import PIPE
from typing import Final

import pytest
import trio

from trio_sse import Broadcaster, sse_app

from .conftest import Door, quart_door, starlette_door
from .servers import PATIENCE, Client, Response, Server, serving, until

Connect = Callable[[Server], Awaitable[Client]]
Leave = Callable[[Client, Response], Awaitable[None]]

BOTH_PROTOCOLS: Final = pytest.mark.parametrize(
    "connect", [Server.http1, Server.http2], ids=["http1", "http2"]
)

#: Two requests in one segment.
PIPELINED: Final = b"GET /events HTTP/1.1\r\nhost: testserver\r\naccept: text/event-stream\r\n\r\n" * 2

MODULE: Final = """
from trio_sse import Broadcaster, sse_app

broadcaster = Broadcaster(strict=False)
events = sse_app(broadcaster)

async def app(scope, receive, send):
    if scope.get("path") == "/publish":
        broadcaster.broadcast("tick", "from another process")
    await events(scope, receive, send)
"""


@pytest.fixture
def broadcaster() -> Broadcaster:
    return Broadcaster(strict=False)


@asynccontextmanager
async def serving_every_door(broadcaster: Broadcaster) -> AsyncGenerator[list[Server]]:
    async with AsyncExitStack() as stack:
        doors: list[Door] = [sse_app, quart_door, starlette_door]
        yield [await stack.enter_async_context(serving(door(broadcaster))) for door in doors]


async def collect(response: Response, into: list[str]) -> None:
    async for event in response:
        into.append(event.data)


async def fin(client: Client, _: Response) -> None:
    await client.stream.aclose()


async def rst(client: Client, _: Response) -> None:
    client.reset()
    await trio.lowlevel.checkpoint()


async def half_close(client: Client, _: Response) -> None:
    await client.stream.send_eof()


async def rst_stream(_: Client, response: Response) -> None:
    await response.aclose()


WAYS_TO_LEAVE: Final[dict[str, tuple[Connect, Leave]]] = {
    "http1 FIN": (Server.http1, fin),
    "http1 RST": (Server.http1, rst),
    "http1 half close": (Server.http1, half_close),
    "http2 RST_STREAM": (Server.http2, rst_stream),
    "http2 FIN": (Server.http2, fin),
    "http2 RST": (Server.http2, rst),
}


async def test_50_clients_of_every_door_and_protocol_get_each_of_1000_events_once_and_in_order(
    broadcaster: Broadcaster,
) -> None:
    received: list[list[str]] = [[] for _ in range(50)]
    with trio.fail_after(PATIENCE):
        async with serving_every_door(broadcaster) as servers, trio.open_nursery() as nursery:
            shared = [await server.http2() for server in servers]
            for number, into in enumerate(received):
                own = await servers[number % 3].http1()
                client = shared[number % 3] if number % 2 else own
                nursery.start_soon(collect, await client.request(), into)
            await until(lambda: broadcaster.client_count == 50)
            for number in range(1000):
                broadcaster.broadcast("tick", str(number))
                if number % 100 == 99:
                    await broadcaster.wait_all_taken()
            broadcaster.close()
    assert received == [[str(number) for number in range(1000)]] * 50
    assert broadcaster.statistics().streams == 0


@pytest.mark.parametrize(("connect", "leave"), WAYS_TO_LEAVE.values(), ids=WAYS_TO_LEAVE.keys())
async def test_a_client_that_leaves_is_noticed_and_the_others_read_on(
    door: Door, broadcaster: Broadcaster, connect: Connect, leave: Leave
) -> None:
    async with serving(door(broadcaster)) as server:
        staying = await (await connect(server)).request()
        client = await connect(server)
        leaving = await client.request()
        await until(lambda: broadcaster.client_count == 2)
        left_at = trio.current_time()
        await leave(client, leaving)
        await until(lambda: broadcaster.client_count == 1)
        assert trio.current_time() - left_at < 5
        broadcaster.broadcast("tick", "for those who stayed")
        assert (await staying.receive()).data == "for those who stayed"


async def test_1000_clients_that_come_and_go_leave_no_task_no_descriptor_and_no_client(
    broadcaster: Broadcaster,
) -> None:
    def remains() -> tuple[int, int, int, int]:
        tasks = trio.lowlevel.current_statistics().tasks_living
        descriptors = len(os.listdir("/proc/self/fd"))
        return tasks, descriptors, broadcaster.client_count, broadcaster.statistics().streams

    async def come_and_go(servers: list[Server]) -> None:
        visits = zip(cycle(servers), cycle(WAYS_TO_LEAVE.values()), strict=False)
        for server, (connect, leave) in islice(visits, 250):
            client = await connect(server)
            response = await client.request()
            broadcaster.broadcast("tick", "while clients come and go")
            await leave(client, response)
            await client.stream.aclose()

    with trio.fail_after(PATIENCE):
        async with serving_every_door(broadcaster) as servers:
            before = remains()
            async with trio.open_nursery() as nursery:
                for shift in range(4):
                    nursery.start_soon(come_and_go, servers[shift % 3 :] + servers[: shift % 3])
            await until(lambda: remains() == before)


async def test_a_stalled_client_is_pruned_and_gets_its_backlog_while_the_others_miss_nothing(
    door: Door,
) -> None:
    broadcaster = Broadcaster(buffer_size=8, strict=False)
    received: list[list[str]] = [[], [], []]
    with trio.fail_after(PATIENCE):
        async with serving(door(broadcaster)) as server, trio.open_nursery() as nursery:
            stalled = await (await server.http1(receive_buffer=4096)).request()
            for connect, into in zip([Server.http1, Server.http2, Server.http1], received, strict=True):
                nursery.start_soon(collect, await (await connect(server)).request(), into)
            await until(lambda: broadcaster.client_count == 4)
            sent: list[str] = []
            while broadcaster.client_count == 4:
                sent.append(f"{len(sent)} {'x' * 100_000}")
                broadcaster.broadcast("tick", sent[-1])
                await until(lambda: received == [sent] * 3)
            backlog = [event.data for event in await stalled.rest()]
            assert backlog == sent[:-1]
            broadcaster.close()
    assert len(sent) > 8
    assert received == [sent] * 3


@BOTH_PROTOCOLS
async def test_a_head_request_is_answered_at_once_and_the_connection_serves_on(
    door: Door, broadcaster: Broadcaster, connect: Connect
) -> None:
    with trio.fail_after(PATIENCE):
        async with serving(door(broadcaster)) as server:
            client = await connect(server)
            head = await client.request("HEAD")
            assert (head.status, head.headers["content-type"]) == (200, "text/event-stream")
            assert await head.rest() == []
            response = await client.request()
            await until(lambda: broadcaster.client_count == 1)
            broadcaster.broadcast("tick", "after the HEAD")
            assert (await response.receive()).data == "after the HEAD"


@BOTH_PROTOCOLS
async def test_other_methods_are_refused(broadcaster: Broadcaster, connect: Connect) -> None:
    with trio.fail_after(PATIENCE):
        async with serving(sse_app(broadcaster)) as server:
            response = await (await connect(server)).request("POST")
            assert (response.status, response.headers["allow"]) == (405, "GET, HEAD")
            assert await response.rest() == []
