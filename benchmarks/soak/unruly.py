"""A minute of clients as they are: slow, stalled, half-closed, reset, pipelined, reused; or good.

Events of a few bytes to 200 kB come in random bursts, by `sse_app` and a Quart-Trio route, over
HTTP/1.1 and HTTP/2, with and without TLS. Each client doubts every byte (`reader` and `streams` in
`benchmarks.clients`). A stream may end after a whole event, or be cut by a reset if the client was
too slow; a FIN may cut it only if the client has sent its own.
"""

from __future__ import annotations

import random
import socket
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, cast

import trio

from ..clients.reader import CorruptError, Reader
from ..clients.streams import Streams
from ..load.client import RESET_ON_CLOSE, any_server
from ..report.finding import Finding
from ..servers.certificate import make_certificate
from ..servers.processes import Server
from ..servers.remains import list_left, no_more_than, report_at_rest, wait_until
from ..servers.subjects import site

_SECONDS: Final = 60.0
_CLIENTS: Final = 40

#: So short that some of those who stall are aborted.
_WRITE_TIMEOUT: Final = 2.0
_PATIENCE: Final = 15.0

#: The kernel's receive buffers: the small are full soon.
_RECEIVE_BUFFERS: Final = (4096, 65536)

#: With which windows the streams of HTTP/2 begin.
_WINDOWS: Final = (500, 5_000, 65_535, 1_000_000)

#: How many events a burst has, and the power of ten that none is larger than.
_BURSTS: Final = ((1, 5.3), (1, 5.3), (3, 5.0), (10, 4.0), (40, 3.5), (400, 2.5))
_PAUSE: Final = 0.15

#: Where the server is besides; over TLS it is one port on.
_HOST: Final = "127.0.0.2"


@dataclass
class _Tally:
    streams: int = 0
    events: int = 0
    faults: list[str] = field(default_factory=list[str])


@dataclass
class _Visit:
    """One connection, and what its client does."""

    stream: trio.SocketStream | trio.SSLStream[trio.SocketStream]
    chance: random.Random
    reader: Reader | Streams
    half_closed: bool = False

    @property
    def transport(self) -> trio.SocketStream:
        """Where the bytes go, sealed or not."""
        if isinstance(self.stream, trio.SSLStream):
            return self.stream.transport_stream
        return self.stream

    async def ask(self, *methods: str) -> None:
        self.reader.ask(self.chance.choice(["/events", "/quart"]), *methods)
        await self.send()

    async def send(self) -> None:
        """Send what is to be sent: all of it, though the time of a visit may be over."""
        if output := self.reader.take_output():
            with trio.move_on_after(_PATIENCE, shield=True):
                await self.stream.send_all(output)

    async def read(self, *, size: int = 65536, pause: float = 0.0, seconds: float = 3.0) -> None:
        """Read for a random time, at most so long, or to the end of a connection that is whole."""
        with trio.move_on_after(self.chance.uniform(0, seconds)):
            while data := await self.stream.receive_some(size):
                self.reader.feed(bytes(data))
                await self.send()
                await trio.sleep(pause)
            if not (self.reader.between or self.half_closed):
                raise CorruptError("a FIN within a response")

    async def stall(self) -> None:
        await trio.sleep(self.chance.uniform(0, 2 * _WRITE_TIMEOUT))


async def _well_behaved(visit: _Visit) -> None:
    await visit.ask("GET")
    await visit.read(seconds=10)


async def _slow(visit: _Visit) -> None:
    await visit.ask("GET")
    await visit.read(size=visit.chance.choice([100, 2000, 20000]), pause=0.01, seconds=10)


async def _stalling(visit: _Visit) -> None:
    await visit.ask("GET")
    for _ in range(3):
        await visit.read()
        await visit.stall()
    await visit.read()


async def _half_closing(visit: _Visit) -> None:
    await visit.ask("GET")
    await visit.read()
    visit.half_closed = True
    await visit.transport.send_eof()
    await visit.read()


async def _resetting(visit: _Visit) -> None:
    visit.transport.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    await visit.ask("GET")
    await visit.read()


async def _pipelining(visit: _Visit) -> None:
    await visit.ask(*visit.chance.choice([("GET", "GET"), ("HEAD", "HEAD", "GET")]))
    await visit.read()
    await visit.stall()
    await visit.read(seconds=10)


async def _reusing(visit: _Visit) -> None:
    await visit.ask("HEAD")
    while not visit.reader.between:
        visit.reader.feed(bytes(await visit.stream.receive_some()))
    await visit.ask("GET")
    await visit.read()


async def _with_streams(visit: _Visit) -> None:
    """Have one to five streams, of which some are left, and of some nothing is taken."""
    chance, reader = visit.chance, cast("Streams", visit.reader)
    if chance.random() < 0.3:
        visit.transport.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    for _ in range(chance.randint(1, 8)):
        if len(reader.open) < 5:
            await visit.ask(*["GET"] * chance.randint(1, 5 - len(reader.open)))
        await visit.read(size=chance.choice([100, 2000, 65536]), pause=chance.choice([0, 0.01]))
        action = chance.choice([reader.leave, reader.keep, None])
        if action and reader.open:
            action(chance.choice(reader.open))
            await visit.send()
        else:
            await visit.stall()


_MANNERS: Final[tuple[Callable[[_Visit], Awaitable[None]], ...]] = (
    _well_behaved,
    _slow,
    _stalling,
    _half_closing,
    _resetting,
    _pipelining,
    _reusing,
)


def check(cache: Path, seconds: float = _SECONDS) -> list[Finding]:
    """Return what was not as it was sent, and what is left of the clients."""
    tally = _Tally()
    with Server(site(_WRITE_TIMEOUT, _HOST, *make_certificate(cache)), cache) as server:
        before = report_at_rest(server)
        trio.run(_run, server, tally, seconds)
        wait_until(server, no_more_than(before), _PATIENCE)
        after = server.ask("report")
    checked = f"{tally.streams:,} streams of unruly clients, {tally.events:,} events"
    return [
        Finding("; ".join([f"{checked}: corrupt", *tally.faults[:1]]), len(tally.faults), 0),
        *list_left(before, after),
    ]


async def _run(server: Server, tally: _Tally, seconds: float) -> None:
    """Let clients come and go for so long; then send what tells the server who has gone."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_publish, server, random.Random(0))  # noqa: S311 (repeatable)
        with trio.move_on_after(seconds):
            async with trio.open_nursery() as clients:
                for number in range(1, _CLIENTS + 1):
                    chance = random.Random(number)  # noqa: S311
                    clients.start_soon(_come_and_go, server.port, chance, tally)
        await trio.sleep(1)
        nursery.cancel_scope.cancel("the time is over")


async def _publish(server: Server, chance: random.Random) -> None:
    while True:
        count, largest = chance.choice(_BURSTS)
        sizes = [int(10 ** chance.uniform(0.7, largest)) for _ in range(chance.randint(1, count))]
        server.tell(" ".join(map(str, ["seal", *sizes])))
        await trio.sleep(chance.uniform(0, 2 * _PAUSE))


async def _come_and_go(port: int, chance: random.Random, tally: _Tally) -> None:
    while True:
        http2, tls = chance.random() < 0.5, chance.random() < 0.5
        reader = Streams(chance.choice(_WINDOWS)) if http2 else Reader()
        manner = _with_streams if http2 else chance.choice(_MANNERS)
        try:
            async with await _connect(port, chance, http2=http2, tls=tls) as stream:
                await manner(_Visit(stream, chance, reader))
        except CorruptError as error:
            tally.faults.append(f"{manner.__name__}: {error}")
        except (OSError, trio.BrokenResourceError):
            pass  # Reset, as it was too slow.
        finally:
            tally.streams += reader.streams
            tally.events += reader.events


async def _connect(
    port: int, chance: random.Random, *, http2: bool, tls: bool
) -> trio.SocketStream | trio.SSLStream[trio.SocketStream]:
    sock = trio.socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, chance.choice(_RECEIVE_BUFFERS))
    await sock.connect((_HOST, port + tls))
    stream = trio.SocketStream(sock)
    context = any_server("h2" if http2 else "http/1.1")
    return trio.SSLStream(stream, context, https_compatible=True) if tls else stream
