"""The bypass that `serve` hands to a request: what it promises, seen by an app of our own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_sse import Broadcaster, sse_app

from ..support.asgi import HEAD, Message, Receive, Send, chunk, with_lifespan
from ..support.clients import Response
from ..support.hardened import hardened
from ..support.tcp import read_until
from ..support.waiting import until


async def answer(
    check: Callable[[Any, Send], Any],
    *,
    tls: bool,
    announced: bytes = b"first",
    sent: bytes = b"first",
) -> Response:
    """Let an app announce and send its first bytes, then do what the test wants with the bypass."""

    @with_lifespan
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        bypass = scope["extensions"]["trio_sse.direct"]
        await send(HEAD)
        with pytest.raises(trio.ClosedResourceError):
            bypass.send_nowait(b"too early")
        bypass.await_echo(announced)
        await send(chunk(sent))
        await check(bypass, send)
        await send(chunk(b"last", last=True))
        with pytest.raises(trio.ClosedResourceError):
            bypass.send_nowait(b"too late")

    async with hardened(app, write_timeout=30) as served:
        response = await (await served.http1(tls=tls)).request()
        async for _ in response:
            pass
        return response


async def test_it_opens_for_the_announced_bytes_and_keeps_the_order_with_hypercorns(
    tls: bool,
) -> None:
    async def check(bypass: Any, send: Send) -> None:
        await trio.lowlevel.checkpoint()
        bypass.send_nowait(b" direct ")

    response = await answer(check, tls=tls)
    assert bytes(response.body) == b"first direct last"


async def test_it_stays_shut_for_other_bytes(tls: bool) -> None:
    async def check(bypass: Any, send: Send) -> None:
        await trio.lowlevel.checkpoint()
        with pytest.raises(trio.ClosedResourceError):
            bypass.send_nowait(b" direct ")

    response = await answer(check, tls=tls, sent=b"frist")
    assert bytes(response.body) == b"fristlast"


async def test_bytes_of_the_apps_own_shut_it(tls: bool) -> None:
    async def check(bypass: Any, send: Send) -> None:
        await send(chunk(b" own "))
        with pytest.raises(trio.ClosedResourceError):
            bypass.send_nowait(b" direct ")

    response = await answer(check, tls=tls)
    assert bytes(response.body) == b"first own last"


async def test_what_a_full_socket_does_not_take_is_kept_and_flushed_in_order(tls: bool) -> None:
    sent: list[bytes] = []

    async def check(bypass: Any, send: Send) -> None:
        try:
            while True:
                sent.append(b"%d;" % len(sent) * 20_000)
                bypass.send_nowait(sent[-1])
        except trio.WouldBlock:
            await bypass.flush()
        bypass.flush_nowait()

    response = await answer(check, tls=tls)
    assert bytes(response.body) == b"first" + b"".join(sent) + b"last"


async def test_who_waits_for_the_socket_wakes_when_it_is_aborted(tls: bool) -> None:
    done = trio.Event()

    def fill(bypass: Any) -> None:
        while True:
            bypass.send_nowait(b"x" * 8_000_000)

    async def check(bypass: Any) -> None:
        with pytest.raises(trio.WouldBlock):
            fill(bypass)
        for _ in range(20):  # The kernel may take more, but not all.
            with pytest.raises(trio.WouldBlock):
                bypass.flush_nowait()
        with pytest.RaisesGroup(trio.BrokenResourceError):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(bypass.flush)
                await wait_all_tasks_blocked()
                bypass.abort()
        done.set()

    @with_lifespan
    async def app(scope: Message, receive: Receive, send: Send) -> None:
        bypass = scope["extensions"]["trio_sse.direct"]
        await send(HEAD)
        bypass.await_echo(b"first")
        await send(chunk(b"first"))
        await check(bypass)

    async with hardened(app, write_timeout=30) as served:
        await (await served.http1(tls=tls)).request()
        await done.wait()


async def test_an_app_that_goes_on_after_its_response_leaves_the_next_ones_bypass_alone() -> None:
    broadcaster = Broadcaster(strict=False)
    stream_app = sse_app(broadcaster)
    go_on, gone = trio.Event(), trio.Event()

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        if scope.get("path") != "/":
            await stream_app(scope, receive, send)
            return
        await send({**HEAD, "headers": [(b"content-length", b"2")]})
        await send(chunk(b"ok", last=True))
        await go_on.wait()
        gone.set()

    async with hardened(app) as served:
        client = await served.connect()
        await client.send_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        await read_until(client, b"ok")
        await client.send_all(b"GET /events HTTP/1.1\r\nhost: x\r\n\r\n")
        await until(lambda: broadcaster.statistics().clients_direct == 1)
        go_on.set()
        await gone.wait()
        await wait_all_tasks_blocked(0.01)
        broadcaster.broadcast("x", "for you")
        await read_until(client, b"for you")
        assert broadcaster.statistics().clients_direct == 1
