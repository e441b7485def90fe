"""What one connection may do to `trio_sse.hypercorn.serve`: nothing to the others."""

from __future__ import annotations

import math
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import hypercorn
import hypercorn.trio
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_sse import Broadcaster, sse_app
from trio_sse.hypercorn import serve

from ..support.apps import AppOf
from ..support.asgi import CHUNK, App, Flood, Message, Receive, Send
from ..support.clients import Client, Http1Client, Response
from ..support.hardened import Served, hardened, was_reset
from ..support.hostile import CRASHES, STREAM_CRASHES
from ..support.remains import remains
from ..support.server import port_of
from ..support.tcp import free_port
from ..support.waiting import PATIENCE, until

#: Bytes that one HTTP/2 stream may have waiting.
LIMIT: Final = 256 * 1024


@pytest.fixture
def broadcaster() -> Broadcaster:
    return Broadcaster(1000, strict=False)


def ignoring_websockets(app: App) -> App:
    async def ignoring(scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            await app(scope, receive, send)

    return ignoring


async def readers(served: Served) -> list[Response]:
    return [await client.request() for client in await served.every_client()]


async def expect(data: str, responses: list[Response]) -> None:
    for response in responses:
        assert (await response.receive()).data == data


@pytest.mark.parametrize("crash", CRASHES)
async def test_a_request_that_crashes_its_connection_ends_no_other_and_is_one_line_in_the_log(
    broadcaster: Broadcaster, crash: str
) -> None:
    async with hardened(ignoring_websockets(sse_app(broadcaster))) as served:
        streams = await readers(served)
        await until(lambda: broadcaster.client_count == 4)
        before = remains(broadcaster)
        async with await served.connect() as attacker:
            await CRASHES[crash](attacker)
            await was_reset(attacker)  # Or closed: it has ended.
        await until(lambda: remains(broadcaster) == before)
        (line,) = served.log.take()
        assert line.startswith("a connection crashed")
        assert "\n" not in line
        broadcaster.broadcast("tick", "after the crash")
        await expect("after the crash", streams)


@pytest.mark.parametrize("crash", CRASHES | STREAM_CRASHES)
async def test_stock_hypercorn_still_ends_with_the_connection_that_crashes(
    broadcaster: Broadcaster, crash: str
) -> None:
    config = hypercorn.Config()
    config.bind, config.errorlog = ["127.0.0.1:0"], None
    app = ignoring_websockets(sse_app(broadcaster))
    # hypercorn's own type of an application is narrower than that of any framework.
    stock: Any = hypercorn.trio.serve  # pyright: ignore[reportUnknownMemberType, reportUnknownVariableType]

    async def serve_and_attack() -> None:
        async with trio.open_nursery() as nursery:
            (url,) = await nursery.start(partial(stock, app, config))
            async with await trio.open_tcp_stream("127.0.0.1", port_of(url)) as attacker:
                await (CRASHES | STREAM_CRASHES)[crash](attacker)
                await trio.sleep_forever()

    crashed = False
    with trio.fail_after(PATIENCE):
        try:
            await serve_and_attack()
        except* Exception:
            crashed = True
    assert crashed


async def test_clients_that_take_no_byte_are_aborted_and_leave_nothing_and_others_miss_nothing(
    app_of: AppOf, broadcaster: Broadcaster
) -> None:
    app = app_of(broadcaster)
    async with hardened(app, write_timeout=0.3, keep_alive_timeout=3600) as served:
        streams = await readers(served)
        await until(lambda: broadcaster.client_count == 4)
        await wait_all_tasks_blocked(0.05)
        tasks, descriptors, *counts = remains(broadcaster)
        stalled = await served.stalled()
        await until(lambda: broadcaster.client_count == 4 + len(stalled))
        expected = (tasks, descriptors + len(stalled), *counts)
        for number in range(10):
            broadcaster.broadcast("tick", f"{number} {'x' * 100_000}")
            await expect(f"{number} {'x' * 100_000}", streams)
        with trio.fail_after(10):
            while remains(broadcaster) != expected:
                broadcaster.broadcast("tick", "meanwhile")
                await expect("meanwhile", streams)
                await trio.sleep(0.01)
        assert broadcaster.statistics().clients_pruned == 0
        resets = {kind: await was_reset(stream) for kind, stream in stalled.items()}
        assert resets == dict.fromkeys(stalled, True)


async def test_clients_that_were_pruned_are_aborted_too_when_they_take_no_byte(
    asgi_app_of: AppOf,
) -> None:
    broadcaster = Broadcaster(2, strict=False)
    async with hardened(asgi_app_of(broadcaster), write_timeout=0.3) as served:
        stalled = await served.stalled()
        await until(lambda: broadcaster.client_count == len(stalled))
        await wait_all_tasks_blocked(0.05)
        while broadcaster.client_count:
            broadcaster.broadcast("tick", "x" * 100_000)
            await trio.sleep(0.001)
        with trio.fail_after(10):
            await until(lambda: broadcaster.statistics().streams == 0)
        assert broadcaster.statistics().clients_pruned == len(stalled)


async def test_stalled_clients_of_any_other_app_are_aborted_and_leave_nothing(
    broadcaster: Broadcaster,
) -> None:
    flood = Flood()
    async with hardened(flood, write_timeout=0.3, keep_alive_timeout=3600) as served:
        await wait_all_tasks_blocked(0.05)
        tasks, descriptors, *_ = remains(broadcaster)
        stalled = await served.stalled()
        reading = await (await served.http1()).request()
        await reading.rest()
        assert len(reading.body) == max(flood.sent) == 10_000_000
        await reading.aclose()
        with trio.fail_after(10):
            await until(lambda: remains(broadcaster)[:2] == (tasks, descriptors + len(stalled)))
        resets = {kind: await was_reset(stream) for kind, stream in stalled.items()}
        assert resets == dict.fromkeys(stalled, True)


async def test_what_an_http2_stream_with_a_shut_window_may_have_buffered_is_bounded() -> None:
    flood = Flood()
    async with hardened(flood) as served:
        stream = (await served.stalled())["HTTP/2, window 0"]
        await wait_all_tasks_blocked(0.05)
        assert max(flood.sent) <= LIMIT + 65_535 + 2 * CHUNK
        await stream.aclose()


@pytest.mark.parametrize("connect", [Served.http1, Served.http2])
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
async def test_a_client_that_reads_slowly_gets_everything_and_a_clean_end(
    jumping_clock: MockClock, connect: Callable[..., Awaitable[Client]], tls: bool
) -> None:
    flood = Flood()
    async with hardened(flood, write_timeout=10) as served:
        client = await connect(served, tls=tls)
        response = await client.request()
        for _ in range(10):
            while flood.sent[0] < 10_000_000 and len(response.body) < flood.sent[0] - LIMIT:
                await client.read_for(response)
            await wait_all_tasks_blocked(0.005)
            jumping_clock.jump(1)
            await client.read_for(response)
        assert await response.rest() == []
        assert response.complete
        assert len(response.body) == 10_000_000


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\n\r\n"])
async def test_who_shakes_no_hands_is_let_go_in_silence(
    broadcaster: Broadcaster, said: bytes
) -> None:
    async with (
        hardened(sse_app(broadcaster), ssl_handshake_timeout=0.1) as served,
        await served.secure.connect() as stream,
    ):
        await stream.send_all(said)
        await was_reset(stream)


async def start(app: App, config: hypercorn.Config) -> None:
    async with trio.open_nursery() as nursery:
        await nursery.start(serve, app, config)
        raise AssertionError("it has started")


async def test_start_returns_the_url_of_every_kind_of_address(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # a Unix socket's path may have 107 bytes
    passed = socket.create_server(("127.0.0.1", 0))
    number = passed.getsockname()[1]
    config = hypercorn.Config()
    config.bind = ["unix:socket", f"fd://{passed.detach()}", "[::1]:0"][: 3 if has_ipv6() else 2]
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            urls: list[str] = await nursery.start(serve, sse_app(Broadcaster()), config)
            assert urls[:2] == ["http://unix:socket", f"http://127.0.0.1:{number}"]
            streams: list[trio.SocketStream] = [
                await trio.open_unix_socket("socket"),
                await trio.open_tcp_stream("127.0.0.1", number),
            ]
            for url in urls[2:]:
                assert url.startswith("http://[::1]:")
                streams.append(await trio.open_tcp_stream("::1", port_of(url)))
            for stream in streams:
                async with stream:
                    assert (await Http1Client(stream).request()).status == 200
            nursery.cancel_scope.cancel()


def has_ipv6() -> bool:
    with socket.socket(socket.AF_INET6) as sock, suppress(OSError):
        sock.bind(("::1", 0))
        return True
    return False


@pytest.mark.parametrize(("asked", "queue"), [(None, 1024), (7, 7)])
async def test_a_thousand_may_wait_for_accept_unless_another_backlog_is_set(
    asked: int | None, queue: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    queues: list[int] = []
    listen = socket.socket.listen

    def listen_and_note(sock: socket.socket, backlog: int) -> None:
        queues.append(backlog)
        listen(sock, backlog)

    monkeypatch.setattr(socket.socket, "listen", listen_and_note)
    settings = {} if asked is None else {"backlog": asked}
    async with hardened(sse_app(Broadcaster()), **settings):
        assert queues == [queue, queue]


@pytest.mark.parametrize("seconds", [0, -1, math.nan, -math.inf])
async def test_a_write_timeout_that_is_no_time_is_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match=r"write_timeout must be greater than 0"):
        await serve(sse_app(Broadcaster()), hypercorn.Config(), write_timeout=seconds)


async def test_nobody_is_accepted_before_the_application_has_started(nursery: trio.Nursery) -> None:
    starts = trio.Event()
    port = free_port()

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await receive()
        await starts.wait()
        await send({"type": "lifespan.startup.complete"})
        await trio.sleep_forever()

    config = hypercorn.Config()
    config.bind = [f"127.0.0.1:{port}"]
    nursery.start_soon(serve, app, config)
    await wait_all_tasks_blocked(0.05)
    with pytest.raises(OSError, match="attempts to connect"):
        await trio.open_tcp_stream("127.0.0.1", port)
    starts.set()
    await wait_all_tasks_blocked(0.05)
    await (await trio.open_tcp_stream("127.0.0.1", port)).aclose()


async def test_a_read_timeout_is_warned_about_once_with_the_fix() -> None:
    async def serve_some() -> None:
        async with hardened(sse_app(Broadcaster()), read_timeout=60) as served:
            for client in await served.every_client():
                await client.request("HEAD")

    with pytest.warns(UserWarning, match=r"read_timeout ends .* leave it unset") as warned:
        await serve_some()
    assert len(warned) == 1


# (hypercorn forgets the socket that it could not bind.)
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"
)
async def test_an_address_in_use_is_an_error() -> None:
    config = hypercorn.Config()
    with socket.create_server(("127.0.0.1", 0)) as other:
        config.bind = ["127.0.0.1:0", f"127.0.0.1:{other.getsockname()[1]}"]
        with pytest.RaisesGroup(OSError, flatten_subgroups=True):
            await start(sse_app(Broadcaster()), config)
