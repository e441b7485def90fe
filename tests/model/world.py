"""A browser and what it must see: the model that the library is held against.

A `World` is a program with one broadcaster after another, each a `Life`, and the clients that come
and go meanwhile. `life` has what was broadcast, `streams` what a connection may tell,
and `ways` the connections.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from typing import Protocol, final

import trio
from trio.testing import wait_all_tasks_blocked

from trio_sse import Broadcaster
from trio_sse._delivery.writer import Writer

from .life import END, TOPICS, Life, Memory, Page
from .streams import Stream
from .ways import HttpStream, InnerStream


class Step(Protocol):
    """Something that happens."""

    async def happen(self, world: World) -> None: ...


@final
class World:
    """All that there is in one example, and what may happen to it."""

    def __init__(
        self,
        buffer_size: int,
        history_size: int,
        reconnection_time: tuple[float, float] | None,
        pages: Sequence[Page],
    ) -> None:
        self.nursery: trio.Nursery
        self.writer = Writer()
        self._options = buffer_size, history_size, reconnection_time
        self._lives: list[Life] = []
        self._pages = pages
        self._memories = [Memory()] * len(pages)
        self._streams: list[Stream | None] = [None] * len(pages)
        self._leaving: list[Stream] = []
        self._start()

    @property
    def life(self) -> Life:
        return self._lives[-1]

    @property
    def broadcaster(self) -> Broadcaster:
        return self.life.broadcaster

    async def run(self, steps: Iterable[Step]) -> None:
        """Let it all happen; then nobody may miss anything, and nothing may be left behind."""
        async with trio.open_nursery() as self.nursery:
            self.nursery.start_soon(self.writer.run)
            for step in steps:
                await step.happen(self)
                self._look()
            await self._come_to_rest()
            self.nursery.cancel_scope.cancel()

    def broadcast(self, topics: Iterable[str | None], size: int) -> None:
        """Broadcast one event of each of these topics."""
        for topic in () if self.broadcaster.closed else topics:
            self.life.broadcast(topic, size)
            for stream in self._open:
                stream.look(broadcast=True)

    def come(
        self,
        reader: int,
        way: tuple[str, ...],
        *,
        lie: str | bytes | None = None,
        decoy: bytes = b"",
        in_query: bool = False,
        max_age: float = math.inf,
    ) -> None:
        """Let a client connect: with the id that it knows, or with a lie."""
        self.leave(reader)
        life, page, memory = self.life, self._pages[reader], self._memories[reader]
        sent = memory.id.encode() if lie is None else self._forge(lie)
        claimed = self._read_claim(sent)
        assert lie is not None or memory.id in ("", END) or claimed == memory
        header, query = (b"", sent) if in_query else (sent, decoy if sent else b"")
        self._streams[reader] = (
            InnerStream(life, page, claimed, sent)
            if "subscribe" in way and not self.broadcaster.closed
            else HttpStream(
                life, page, claimed, way, max_age, header, query, self.nursery, self.writer
            )
        )

    def leave(self, reader: int, *, cut: int = 0) -> None:
        """Let a client leave; if it loses its connection, then the last bytes too."""
        stream = self._streams[reader]
        if stream is not None:
            stream.look()
            arrived = max(len(stream.wire) - cut, 0)
            memory = [known for end, known in stream.known if end <= arrived][-1]
            self._memories[reader] = stream.claimed if memory.id == stream.claimed.id else memory
            stream.leave()
            if not cut:
                stream.notice()
            self._streams[reader] = None
            self._leaving.append(stream)

    def stall(self, reader: int) -> None:
        if stream := self._streams[reader]:
            stream.stall()

    def resume(self, reader: int) -> None:
        if stream := self._streams[reader]:
            stream.resume()

    def disconnect(self, reader: int, *, final: bool) -> None:
        stream = self._streams[reader]
        if stream is not None and stream.life is self.life:
            ended = self.broadcaster.disconnect(stream, final=final)
            if stream.owed is None:
                assert ended == (stream.joined is not None)
                if ended:
                    stream.owed, stream.final = self.life.count, final
            elif ended:  # It drains, and may have been at its end already.
                stream.may_be_final = stream.may_be_final or final

    def close(self) -> None:
        for stream in self._open:
            if stream.life is self.life and stream.joined is not None:
                stream.owed = self.life.count if stream.owed is None else stream.owed
        self.broadcaster.close()

    def restart(self) -> None:
        self.close()
        self._start()

    async def go_on(self, steps: int) -> None:
        """Let the tasks run, though not until they have nothing to do."""
        for _ in range(steps):
            await trio.lowlevel.checkpoint()

    async def settle(self) -> None:
        for stream in self._leaving:
            stream.notice()
        await wait_all_tasks_blocked()
        self._look()
        for stream in [*self._open, *self._leaving]:
            stream.check_settled()
        self._leaving.clear()

    async def sleep(self, seconds: float) -> None:
        """Let time go on, and wake amid all that is due in that moment."""
        await self.settle()
        self.life.count_asleep = self.life.count
        await trio.sleep(seconds)
        self._look()

    async def wait(self, seconds: float) -> None:
        await self.sleep(seconds)
        await self.settle()
        for stream in self._open if seconds > self.broadcaster.heartbeat_interval else ():
            stream.check_beaten()

    @property
    def _open(self) -> list[Stream]:
        return [stream for stream in self._streams if stream is not None]

    def _start(self) -> None:
        self._lives.append(Life(len(self._lives), *self._options))

    def _look(self) -> None:
        for stream in self._open:
            stream.look()

    def _forge(self, lie: str | bytes) -> bytes:
        if isinstance(lie, bytes):
            return lie
        oldest = max(self.life.count - self.life.history_size, 0)
        other = self._lives[-2].epoch if len(self._lives) > 1 else ""
        return lie.format(
            epoch=self.life.epoch or "0123456789ab",
            other=other or "ba9876543210",
            next=self.life.count + 1,
            last=self.life.count,
            oldest=oldest,
            too_old=max(oldest - 1, 0),
        ).encode()

    def _read_claim(self, sent: bytes) -> Memory:
        """Return what a client that sends this id claims to know."""
        text = sent.decode(errors="replace")
        epoch, _, number = text.rpartition("-")
        for life in self._lives:
            if epoch and epoch == life.epoch and re.fullmatch("0|[1-9][0-9]{0,9}", number):
                return Memory(text, life, int(number))
        return Memory(text)

    async def _come_to_rest(self) -> None:
        """Let everybody miss something and come back, for good; they have it all then."""
        if self.broadcaster.closed:
            self.restart()
        for reader in range(len(self._streams)):
            self.resume(reader)
        await self.wait(2)  # A bypass that stays shut is given up after a second.
        for reader in range(len(self._streams)):
            self.leave(reader)
        self.broadcast([None, *TOPICS], 0)
        for reader, page in enumerate(self._pages):
            self.come(reader, page.way)
        self.broadcast(["a"], 0)
        await self.wait(16)
        for topic in (None, *TOPICS):
            self.broadcast([topic], 0)
            await self.wait(16)
        for reader, stream in enumerate(self._streams):
            assert stream is not None
            if stream.complete:
                assert stream.memory.id == END
            else:
                assert stream.life is self.life
                assert stream.is_up_to_date
            self.leave(reader)
        await self.settle()
        assert (self.broadcaster.client_count, self.broadcaster.statistics().streams) == (0, 0)
        epochs = [life.epoch for life in self._lives if life.epoch]
        assert len({*epochs}) == len(epochs)
