"""The socket writer of a connection: how long the kernel may take nothing, on virtual time."""

from __future__ import annotations

import socket

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_sse._delivery.socket_writer import SocketWriter

TIMEOUT = 1.0


def full_writer() -> tuple[SocketWriter, socket.socket, trio.socket.SocketType]:
    """Return a socket writer with something unsent, its socket, and the one that does not read."""
    ours, other = socket.socketpair()
    ours.setblocking(False)
    theirs = trio.socket.from_stdlib_socket(other)
    writer = SocketWriter(ours, trio.Lock(), TIMEOUT)
    with pytest.raises(trio.WouldBlock):
        writer.put(b"x" * 10_000_000)
    return writer, ours, theirs


async def flush_in_bits(full: SocketWriter) -> None:
    while True:
        with trio.move_on_after(TIMEOUT * 0.4):
            await full.flush()


async def test_the_write_timeout_counts_through_waits_that_are_cancelled(
    autojump_clock: MockClock,
) -> None:
    """As those are that are interrupted for heartbeats, or to look whether the client has left."""
    full, ours, theirs = full_writer()
    with ours, theirs, pytest.raises(trio.BrokenResourceError):
        await flush_in_bits(full)
    assert trio.current_time() == pytest.approx(TIMEOUT)


async def test_each_byte_taken_renews_the_write_timeout(autojump_clock: MockClock) -> None:
    full, ours, theirs = full_writer()
    with ours, theirs:
        for _ in range(5):
            with trio.move_on_after(TIMEOUT * 0.9):
                await full.flush()
            await theirs.recv(1_000_000)
        assert trio.current_time() == pytest.approx(TIMEOUT * 5 * 0.9)
        full.abort()


async def test_what_is_put_behind_what_the_socket_has_not_taken_arrives_in_order() -> None:
    full, ours, theirs = full_writer()
    for more in (b"1", b"2", b"3"):
        with pytest.raises(trio.WouldBlock):
            full.put(more)
    with ours, theirs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(full.flush)
            received = bytearray()
            while not received.endswith(b"123"):
                received += await theirs.recv(1_000_000)
    assert received == b"x" * 10_000_000 + b"123"


async def test_all_who_wait_hear_of_the_end_of_the_connection() -> None:
    full, ours, theirs = full_writer()
    heard: list[str] = []

    async def wait() -> None:
        with pytest.raises(trio.BrokenResourceError):
            await full.flush()
        heard.append("the end")

    with ours, theirs:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait)
            nursery.start_soon(wait)
            await wait_all_tasks_blocked()
            full.abort()
    assert heard == ["the end"] * 2
