"""Where `trio_sse.hypercorn.serve` listens, and how it goes on accepting."""

from __future__ import annotations

import errno
import gc
import logging
import os
import resource
import socket
from collections.abc import Generator
from contextlib import contextmanager, suppress
from functools import partial

import hypercorn
import pytest
import trio
from hypercorn.utils import LifespanFailureError
from trio.testing import MockClock

from trio_sse import Broadcaster, sse_app
from trio_sse.hypercorn import serve

from ..support.asgi import END, HEAD, Message, Receive, Send, app_sending, with_lifespan
from ..support.clients import Http1Client
from ..support.hardened import hardened
from ..support.server import ServerLog
from ..support.tcp import free_port
from ..support.waiting import PATIENCE

APP = with_lifespan(app_sending(HEAD, END))


async def test_where_it_runs_is_logged() -> None:
    log = ServerLog(logging.INFO)
    async with hardened(APP, errorlog=log.logger) as served:
        assert log.take() == [
            f"Running on https://127.0.0.1:{served.secure.port}",
            f"Running on http://127.0.0.1:{served.plain.port}",
        ]


@pytest.mark.parametrize("turned", [False, True])
async def test_every_address_of_both_families_can_be_listened_at(
    nursery: trio.Nursery, turned: bool
) -> None:
    port = free_port()
    config = hypercorn.Config()
    config.errorlog = None
    config.bind = [f"0.0.0.0:{port}", f"[::]:{port}"][:: -1 if turned else 1]
    urls: list[str] = await nursery.start(serve, APP, config)
    assert {url.rpartition(":")[0] for url in urls} == {"http://0.0.0.0", "http://[::]"}
    for host in ("127.0.0.1", "::1"):
        async with await trio.open_tcp_stream(host, port) as stream:
            assert (await Http1Client(stream).request()).status == 200
    nursery.cancel_scope.cancel()


async def test_an_address_that_others_listen_at_is_an_error() -> None:
    config = hypercorn.Config()
    with socket.create_server(("::", 0), family=socket.AF_INET6) as other:
        port = other.getsockname()[1]
        config.bind = [f"0.0.0.0:{port}", f"[::]:{port}"]
        with pytest.raises(OSError, match="in use"):
            await serve(APP, config)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
async def test_what_was_opened_before_an_address_that_others_listen_at_is_closed() -> None:
    config = hypercorn.Config()
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        config.bind = [f"0.0.0.0:{port}", f"[::]:{port}"]
        before = os.listdir("/proc/self/fd")
        with pytest.raises(OSError, match="in use"):
            await serve(APP, config)
        gc.collect()  # Hypercorn leaves the one that it could not bind.
        assert os.listdir("/proc/self/fd") == before


async def test_an_application_that_does_not_start_leaves_its_addresses_to_others() -> None:
    async def broken(scope: Message, receive: Receive, send: Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": "no database"})

    config = hypercorn.Config()
    config.errorlog = None
    port = free_port()
    config.bind = [f"127.0.0.1:{port}"]
    with pytest.RaisesGroup(LifespanFailureError, flatten_subgroups=True):
        await serve(broken, config)
    socket.create_server(("127.0.0.1", port)).close()


@contextmanager
def no_descriptor_left() -> Generator[None]:
    """Let this process open nothing more."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = max(map(int, os.listdir("/proc/self/fd"))) + 1
    filling: list[int] = []
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    try:
        with suppress(OSError):
            while True:
                filling.append(os.dup(0))
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        for descriptor in filling:
            os.close(descriptor)


async def test_a_process_with_no_room_for_a_connection_says_so_once_a_second_and_goes_on(
    autojump_clock: MockClock,
) -> None:
    async with hardened(APP) as served:
        with trio.socket.socket() as sock:
            with no_descriptor_left():
                await sock.connect(("127.0.0.1", served.plain.port))
                await trio.sleep(5)
            complaints = served.log.take()
            assert 2 <= len(complaints) <= 6
            assert os.strerror(errno.EMFILE) in complaints[0]
            assert "ulimit" in complaints[0]
            response = await Http1Client(trio.SocketStream(sock)).request()
            assert response.status == 200


async def test_a_socket_that_is_broken_is_an_error() -> None:
    config = hypercorn.Config()
    config.errorlog = None

    async def break_one(sock: socket.socket) -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(serve, sse_app(Broadcaster()), config)
            sock.shutdown(socket.SHUT_RD)

    with socket.create_server(("127.0.0.1", 0)) as sock:
        config.bind = [f"fd://{os.dup(sock.fileno())}"]
        with pytest.RaisesGroup(OSError, flatten_subgroups=True), trio.fail_after(PATIENCE):
            await break_one(sock)


async def test_the_kernel_gives_up_on_a_peer_that_is_gone_after_the_write_timeout(
    nursery: trio.Nursery,
) -> None:
    """Also where nobody waits to write: what it has taken may never be acknowledged."""
    config = hypercorn.Config()
    config.errorlog = None
    with socket.create_server(("127.0.0.1", 0)) as sock:
        config.bind = [f"fd://{os.dup(sock.fileno())}"]
        await nursery.start(partial(serve, write_timeout=12.5), APP, config)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 12_500
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        nursery.cancel_scope.cancel()
