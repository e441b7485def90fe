"""The fast lane, on sockets that take what the test allows: each event once, whole and in order."""

from __future__ import annotations

import signal
import socket
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from typing import cast, final

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_sse import Broadcaster, sse_app
from trio_sse._delivery.bypass import EXTENSION, Bypass, chunked
from trio_sse._delivery.direct import DirectStream
from trio_sse._delivery.lane import Lane
from trio_sse._delivery.socket_writer import SocketWriter, close_socket
from trio_sse._delivery.writer import Writer
from trio_sse.testing import open_event_stream

from ..support.asgi import App, Message, Receive, Send
from ..support.events import broadcast, wire
from ..support.stingy_socket import StingySocket
from ..support.waiting import until


@final
@attrs.define(eq=False)
class Wired:
    """A client of the direct way, over a socket of the test's."""

    sock: StingySocket
    bypass: Bypass
    events: bytes = b""
    _framed: bytes = b""

    def read(self) -> bytes:
        """Return all events that have arrived whole."""
        self._framed += self.sock.received()
        while b"\r\n" in self._framed:
            length, _, rest = self._framed.partition(b"\r\n")
            size = int(length, 16)
            if len(rest) < size + 2:
                break
            assert rest[size : size + 2] == b"\r\n"
            self.events, self._framed = self.events + rest[:size], rest[size + 2 :]
        return self.events


def has_read(client: Wired, events: bytes) -> bool:
    return client.read() == events


def behind(wired: Wired, app: App) -> App:
    """Offer the bypass of a client to an app; its first bytes, which open it, arrive elsewhere."""

    async def with_bypass(scope: Message, receive: Receive, send: Send) -> None:
        async def watched_send(message: Message) -> None:
            await send(message)
            if message["type"] == "http.response.body" and message["more_body"]:
                wired.bypass.observe(chunked(message["body"]))

        await app({**scope, "extensions": {EXTENSION: wired.bypass}}, receive, watched_send)

    return with_bypass


@asynccontextmanager
async def wired_clients(broadcaster: Broadcaster, count: int) -> AsyncGenerator[list[Wired]]:
    """Let clients come, all of one writer."""
    writer, clients = Writer(), list[Wired]()
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(writer.run)  # noqa: ASYNC113 (all tasks are waited for below)
            for _ in range(count):
                sock = StingySocket.pair()
                socket_writer = SocketWriter(sock, trio.Lock(), 30)
                bypass = Bypass(socket_writer, chunked, writer, socket_writer.abort)
                clients.append(Wired(sock, bypass))
                await open_event_stream(nursery, behind(clients[-1], sse_app(broadcaster)))
            await wait_all_tasks_blocked()
            assert broadcaster.statistics().clients_direct == count
            yield clients
            await wait_all_tasks_blocked()
            nursery.cancel_scope.cancel()
    finally:
        for client in clients:
            client.sock.close_both()


@pytest.fixture
def broadcaster() -> Broadcaster:
    return Broadcaster(8, strict=False, history_size=0)


@pytest.mark.parametrize("burst", [1, 3])
async def test_what_is_not_taken_whole_goes_on_where_it_was_cut(
    broadcaster: Broadcaster, burst: int
) -> None:
    """At each byte, by one among others; what is broadcast meanwhile comes behind it."""
    size = len(chunked(wire(burst)))
    async with wired_clients(broadcaster, 3) as clients:
        for cut in range(size):
            clients[1].sock.grants = [cut, 1] if cut % 2 else [cut, 0, 2, 3]
            broadcast(broadcaster, *range(burst))
            await trio.lowlevel.checkpoint()
            broadcast(broadcaster, *range(burst))
            await until(partial(has_read, clients[1], wire(burst) * 2 * (cut + 1)))
        assert {client.read() for client in clients} == {clients[1].events}


@pytest.mark.usefixtures("short_turns")
@pytest.mark.parametrize("gone", [{0}, {2}, {4}, {1, 2}, {0, 1, 2, 3}, {0, 1, 2, 3, 4}])
async def test_those_who_leave_in_a_round_change_nothing_for_the_others(
    broadcaster: Broadcaster, gone: set[int]
) -> None:
    """They are told at their own turn, before it, or after it."""
    for when in range(5):
        async with wired_clients(broadcaster, 5) as clients:

            def leave(clients: list[Wired] = clients) -> None:
                for number in gone:
                    clients[number].sock.peer.close()

            clients[when].sock.on_send = leave
            for number in range(3):
                broadcast(broadcaster, number)
                await wait_all_tasks_blocked()
            left = [client for n, client in enumerate(clients) if n not in gone]
            assert [client.read() for client in left] == [wire(3)] * len(left)
            assert broadcaster.client_count == len(left)


async def test_the_places_of_many_who_have_left_are_closed(broadcaster: Broadcaster) -> None:
    async with wired_clients(broadcaster, 40) as clients:
        for number, client in enumerate(clients):
            broadcast(broadcaster, number)
            await wait_all_tasks_blocked()
            if number % 4:
                client.sock.peer.close()
        broadcast(broadcaster, 40)
        await wait_all_tasks_blocked()
        assert [client.read() for client in clients[::4]] == [wire(41)] * 10
        assert broadcaster.client_count == 10


def test_a_lane_stays_small_whoever_has_come_and_gone() -> None:
    lane, streams = Lane(), [cast("DirectStream", object()) for _ in range(10)]
    for _ in range(100):
        for stream in streams:
            lane.add(stream, len)
        lane.write(b"an event", 100)
        for stream in streams:
            assert lane.remove(stream)
        lane.rewind()
    assert lane.due == 0


@pytest.mark.usefixtures("short_turns")
@pytest.mark.parametrize("amid", [False, True], ids=["between rounds", "amid a round"])
async def test_who_has_got_the_descriptor_of_one_that_is_closed_gets_nothing_of_its_events(
    broadcaster: Broadcaster, amid: bool
) -> None:
    async with wired_clients(broadcaster, 3) as clients:
        others = list[socket.socket]()

        def close_and_accept() -> None:
            descriptor = clients[1].sock.fileno()
            close_socket(clients[1].sock)
            others.extend(socket.socketpair())
            assert descriptor in {other.fileno() for other in others}
            clients[0].sock.on_send = lambda: None

        if amid:
            clients[0].sock.on_send = close_and_accept
        else:
            close_and_accept()
        broadcast(broadcaster, 0)
        await wait_all_tasks_blocked()
        assert [clients[n].read() for n in (0, 2)] == [wire(1)] * 2
        with others[0], others[1]:
            for other in others:
                other.setblocking(False)
                with pytest.raises(BlockingIOError):
                    other.recv(1)
        assert broadcaster.client_count == 2


@pytest.mark.parametrize("burst", [1, 20], ids=["in a round", "in a broadcast"])
def test_an_interrupt_comes_after_what_it_strikes_in(burst: int) -> None:
    """No event is sent twice, or cut."""
    broadcaster = Broadcaster(8, strict=False, history_size=0)

    async def main() -> None:
        async with wired_clients(broadcaster, 3) as clients:

            def interrupt() -> None:
                clients[1].sock.on_send = lambda: None
                signal.raise_signal(signal.SIGINT)

            async def be_interrupted() -> None:
                broadcast(broadcaster, *range(burst))
                await trio.sleep_forever()

            clients[1].sock.on_send = interrupt
            with pytest.raises(KeyboardInterrupt):
                await be_interrupted()
            await wait_all_tasks_blocked()
            assert [client.read() for client in clients] == [wire(burst)] * 3

    trio.run(main)
