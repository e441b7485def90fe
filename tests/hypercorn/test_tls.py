"""TLS on buffers in memory: records arrive whole and in order, and each end of it is told apart."""

from __future__ import annotations

import ssl
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, final

import pytest
import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import wait_all_tasks_blocked

from trio_sse import Broadcaster, sse_app
from trio_sse.hypercorn._tls import TlsBuffers, TlsWriter

from ..support.clients import Http1Client
from ..support.events import take_data
from ..support.hardened import SMALL, certificate, hardened, tls_context
from ..support.hostile import REQUEST
from ..support.stingy_socket import StingySocket
from ..support.waiting import until

EVENT: Final = b"an event"


@final
class Pair:
    """Our side of a connection, and a client of Python's own."""

    def __init__(
        self,
        sslobject_class: type[ssl.SSLObject] = ssl.SSLObject,
        buffers: TlsBuffers | None = None,
        early: bytes = b"",
    ) -> None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*certificate())
        context.sslobject_class = sslobject_class
        self.sock = StingySocket.pair()
        self.buffers = buffers or TlsBuffers()
        self._early = early
        writing = self.sock, trio.Lock(), 30
        self.ours = TlsWriter(context, self.buffers, self._receive, *writing)
        self._to_client, self._from_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = tls_context("http/1.1").wrap_bio(self._to_client, self._from_client)
        #: What is on its way from the client, besides its handshake.
        self.sent: list[bytes] = []
        #: Whether the socket had taken all at each time when something was read from it.
        self.was_empty: list[bool] = []

    def read(self) -> bytes:
        """Return what the client understands of what has arrived."""
        self._to_client.write(self.sock.received())
        read = b""
        with suppress(ssl.SSLWantReadError):
            while more := self.client.read(100_000):
                read += more
        return read

    def send(self, data: bytes) -> None:
        self.client.write(data)
        self.sent.append(self._from_client.read())

    def leave(self) -> None:
        """Say, as the client, that nothing more will come."""
        with suppress(ssl.SSLWantReadError):
            self.client.unwrap()
        self.sent.append(self._from_client.read())

    async def _receive(self) -> bytes:
        await trio.lowlevel.checkpoint()
        self.was_empty.append(self.ours.is_empty)
        if self.sent:
            return self.sent.pop(0)
        self._to_client.write(self.sock.received())
        with suppress(ssl.SSLWantReadError):
            self.client.do_handshake()
            self.client.write(self._early)
            self._early = b""
        return self._from_client.read()


@asynccontextmanager
async def paired(pair: Pair) -> AsyncGenerator[Pair]:
    """Shake hands, and in the end leave nothing in the buffers that connections share."""
    try:
        await pair.ours.do_handshake()
        yield pair
        assert not pair.buffers.incoming.pending
        assert not pair.buffers.outgoing.pending
    finally:
        pair.sock.close_both()


async def test_a_record_that_is_cut_anywhere_goes_on_where_it_was_cut() -> None:
    """What is sealed behind it comes behind it."""
    async with paired(Pair()) as pair:
        sealed = len(EVENT) + 22  # The head, the kind and the tag of a record.
        for cut in range(sealed):
            pair.sock.grants = [cut]
            with pytest.raises(trio.WouldBlock):
                pair.ours.put(EVENT)
            with pytest.raises(trio.WouldBlock):
                pair.ours.sender(b" behind it")
            await pair.ours.flush()
            assert pair.read() == EVENT + b" behind it"


@given(chunks=st.lists(st.integers(0, 70_000).map(bytes), max_size=4))
@settings(max_examples=20, deadline=None)
async def test_what_is_put_arrives_whatever_its_size(chunks: list[bytes]) -> None:
    async with paired(Pair()) as pair:
        received, expected = b"", 0
        for data in chunks:
            expected += len(data)
            with suppress(trio.WouldBlock):
                assert pair.ours.put(data) == len(data)
            while len(received) < expected:
                with suppress(trio.WouldBlock):
                    pair.ours.flush_nowait()
                received += pair.read()
        assert received == b"".join(chunks)


async def test_after_our_end_nothing_can_be_put_and_the_client_knows() -> None:
    async with paired(Pair()) as pair:
        pair.ours.close()
        with pytest.raises(trio.BrokenResourceError, match="sealed"):
            pair.ours.put(EVENT)
        assert pair.read() == pair.client.read(1) == b""  # It would raise if more could come.


async def test_after_the_clients_end_it_still_gets_what_is_put() -> None:
    async with paired(Pair()) as pair:
        pair.leave()
        for _ in range(2):
            assert await pair.ours.receive() == b""
        pair.ours.put(EVENT)
        assert pair.sock.received()


async def test_a_client_whose_connection_ends_without_a_word_is_gone() -> None:
    async with paired(Pair()) as pair:
        for _ in range(2):
            assert await pair.ours.receive() == b""


async def test_what_is_no_tls_ends_the_connection() -> None:
    async with paired(Pair()) as pair:
        pair.sent.append(b"\x17\x03\x03\x00\x20" + bytes(32))
        with pytest.raises(trio.BrokenResourceError, match="no TLS"):
            await pair.ours.receive()
        with pytest.raises(trio.BrokenResourceError, match="sealed"):
            pair.ours.put(EVENT)


async def test_what_a_client_has_sent_with_its_handshake_is_received() -> None:
    async with paired(Pair(early=b"early")) as pair:
        pair.send(b"late")
        assert [await pair.ours.receive() for _ in range(2)] == [b"early", b"late"]


async def test_connections_share_buffers_and_nothing_else() -> None:
    """Records come in pieces, in turns, and one is no record."""
    buffers = TlsBuffers()
    async with (
        paired(Pair(buffers=buffers)) as one,
        paired(Pair(buffers=buffers)) as two,
        paired(Pair(buffers=buffers)) as bad,
    ):
        pairs = {one: b"of one", two: b"of two"}
        for pair, data in pairs.items():
            pair.send(data)
            pair.send(b" and more")
            whole = b"".join(pair.sent)
            pair.sent[:] = [whole[:3], whole[3:40], whole[40:]]
        received = dict.fromkeys(pairs, b"")
        bad.sent.append(b"\x17\x03\x03\x00\x20" + bytes(40))
        for _ in range(2):
            for pair, data in pairs.items():
                if received[pair] != data + b" and more":
                    received[pair] += await pair.ours.receive()
                pair.ours.put(data)
            with pytest.raises(trio.BrokenResourceError):
                await bad.ours.receive()
        for pair, data in pairs.items():
            assert received[pair] == data + b" and more"
            assert pair.read() == data * 2


@final
class _Answering(ssl.SSLObject):
    """What has something to say about all that it reads, as to a client that asks for new keys."""

    def read(self, len: int = 1024, buffer: Any = None) -> Any:  # noqa: A002 (its names)
        if self.selected_alpn_protocol() is None and self.version():
            self.write(b"answer")
        return super().read(len, buffer)


async def test_a_client_that_takes_no_answer_is_not_read() -> None:
    """Else it could fill the memory by asking."""
    async with paired(Pair(_Answering)) as pair:
        pair.send(b"read")
        pair.sock.grants = [0, 0, 1]
        assert await pair.ours.receive() == b"read"
        assert pair.read().startswith(b"answer")
        assert all(pair.was_empty)


async def read_to_the_end(client: trio.SSLStream[trio.SocketStream]) -> None:
    while await client.receive_some():
        pass


@pytest.mark.parametrize("when", ["served", "idle", "shut down"])
async def test_the_end_of_a_connection_is_told_within_tls(when: str) -> None:
    """So a client can tell it from a cut."""
    broadcaster = Broadcaster(strict=False)
    async with hardened(sse_app(broadcaster), keep_alive_timeout=0.05) as served:
        plain = await served.secure.connect()
        client = trio.SSLStream(plain, tls_context("http/1.1"))
        if when != "idle":
            await client.send_all(REQUEST)
            await until(lambda: broadcaster.client_count == 1)
            if when == "shut down":
                served.shutdown.set()
            else:
                broadcaster.close()
        else:
            await client.do_handshake()
        await read_to_the_end(client)


async def test_what_is_unsent_at_the_end_shows_as_a_cut() -> None:
    broadcaster = Broadcaster(strict=False)
    async with hardened(sse_app(broadcaster), write_timeout=0.2) as served:
        plain = await served.secure.connect(SMALL)
        client = trio.SSLStream(plain, tls_context("http/1.1"))
        await client.send_all(REQUEST)
        await until(lambda: broadcaster.statistics().clients_direct == 1)
        for _ in range(100):
            broadcaster.broadcast("x", "y" * 100_000)
        await until(lambda: broadcaster.statistics().streams == 0)
        with pytest.raises(trio.BrokenResourceError):
            await read_to_the_end(client)


async def test_a_client_that_leaves_amid_the_handshake_is_gone() -> None:
    async with hardened(sse_app(Broadcaster())) as served:
        stream = await served.secure.connect()
        await stream.send_eof()
        assert await stream.receive_some() == b""


async def test_a_client_that_cannot_agree_is_told_why() -> None:
    async with hardened(sse_app(Broadcaster())) as served:
        context = tls_context.__wrapped__("http/1.1")
        context.maximum_version = ssl.TLSVersion.TLSv1_2
        context.set_ciphers("AES128-SHA")
        client = trio.SSLStream(await served.secure.connect(), context)
        with pytest.raises(trio.BrokenResourceError) as refused:
            await client.do_handshake()
        assert "ALERT" in str(refused.value.__cause__)


async def test_streams_over_tls_and_plain_ones_go_the_direct_way_and_share_events() -> None:
    broadcaster = Broadcaster(strict=False)
    async with hardened(sse_app(broadcaster)) as served:
        clients = [await served.http1(tls=tls) for tls in (False, True, True, False)]
        streams = [await client.request() for client in clients]
        await until(lambda: broadcaster.statistics().clients_direct == 4)
        for n in range(50):
            broadcaster.broadcast("x", n)
            if n % 7 == 0:
                await trio.lowlevel.checkpoint()
        for stream in streams:
            assert await take_data(stream, 50) == [str(n) for n in range(50)]


async def test_a_client_that_reads_late_gets_each_event_once_and_in_order() -> None:
    broadcaster = Broadcaster(2_000, strict=False)
    async with hardened(sse_app(broadcaster)) as served:
        late = Http1Client(await served.connect(tls=True, receive_buffer=SMALL))
        stream = await late.request()
        await until(lambda: broadcaster.statistics().clients_direct == 1)
        for n in range(1_000):
            broadcaster.broadcast("x", f"{n} {'y' * 10_000}")
            if n % 10 == 0:
                await wait_all_tasks_blocked()
        data = await take_data(stream, 1_000)
        assert [str(each).split()[0] for each in data] == [str(n) for n in range(1_000)]
