"""A browser and what it must see: the model that the library is held against.

A `World` is a program with one broadcaster after another, each a *life*; in it, the n-th broadcast
has the data that `World.told` says. A client has a `Memory` across its reconnects: what a browser
knows, the last event ID, and besides, as a browser cannot, the number of the event up to which it
was told everything. That goes by what was broadcast, and trusts no id.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Iterable
from itertools import count
from typing import Final, Protocol, cast, final
from urllib.parse import quote_from_bytes

import attrs
import quart
import trio
from quart_trio import QuartTrio
from trio.testing import wait_all_tasks_blocked

from trio_sse import RESET_EVENT, Broadcaster, Subscription, sse_app
from trio_sse._writer import Writer

from .conftest import App, Message, with_plain_receive
from .test_direct import FakeDoor, behind

#: The ways in. With "direct" there is a way past `send`; it opens at once, late or too late.
DOORS: Final = (
    ("sse_app",),
    ("quart",),
    ("sse_app", "direct", "at once"),
    ("quart", "direct", "at once"),
    ("sse_app", "direct", "late"),
    ("quart", "direct", "late"),
    ("sse_app", "direct", "too late"),
    ("quart", "direct", "too late"),
    ("sse_app", "plain receive"),
    ("subscribe",),
)

END: Final = "end"


@final
@attrs.frozen
class Memory:
    """What a client has: the id to come back with, and all events of a life up to the n-th."""

    id: str = ""
    life: int = -1
    n: int = 0


@functools.cache
def quart_app() -> QuartTrio:
    """The app of all broadcasters: its route goes by the stream that is in the scope."""

    async def events() -> quart.Response:
        stream: Stream = cast("Message", quart.request.scope)["stream"]
        return await stream.broadcaster.stream(
            quart.request, key=stream.key, max_age=stream.max_age
        )

    app = QuartTrio(__name__)
    app.add_url_rule("/events", view_func=events)
    return app


class Stream:
    """One connection of a client, from its request on; each block is checked as it arrives."""

    def __init__(self, world: World, memory: Memory, door: tuple[str, ...], max_age: float) -> None:
        self.world = world
        self.life, self.broadcaster = world.life, world.broadcaster
        self.door, self.max_age = door, max_age
        self.key = next(world.keys)
        self.claimed, self.memory = memory, memory
        #: The places where a block ends, and what the client knows there.
        self.known = [(0, memory)]
        #: Whether the client is still to be told where the stream is.
        self.lost = memory.life == -1
        self.reset = self.timed = self.final = False
        #: The number of the last event before it was registered, and of the last one it is owed.
        self.joined: int | None = None
        self.owed: int | None = None
        self.wire: bytearray = bytearray()
        #: When it is settled at the latest which way its events go.
        self.decided_at = -math.inf
        self.stalled = self.left = self.complete = self.done = False

    def stall(self) -> None:
        self.stalled = True

    def resume(self) -> None:
        self.stalled = False

    def leave(self) -> None:
        """Go without a word: the server can see it when it writes, and is told later."""
        self.left = True

    def notice(self) -> None:
        """Let the server know that the client has left, if it does not yet."""

    def pull(self) -> None:
        """Take what has arrived, if that needs to be asked for."""

    @property
    def alive(self) -> bool:
        return not (self.left or self.complete)

    def check_full(self) -> None:
        """Check that the last broadcast found no room, as far as the bytes tell."""
        handed = 0 if self.memory is self.claimed else self.memory.n
        assert self.world.count - max(handed, self.joined or 0) > self.world.buffer_size

    def look(self, *, broadcast: bool = False) -> None:
        """Read on; see whether the client is registered, and whether it may be out again."""
        if not self.left and not self.broadcaster.closed:
            registered = not self.broadcaster.admits(self.key, 1)
            if registered and self.joined is None:
                self.joined = self.world.count
            elif not registered and self.joined is not None and self.owed is None:
                self.owed = self.world.count - broadcast
                self.read()
                assert broadcast or self.max_age < math.inf, "out, though neither full nor old"
                if broadcast:
                    self.check_full()
        self.read()

    def read(self) -> None:
        """Check the blocks that are complete."""
        if self.left:
            return
        self.pull()
        while True:
            start = self.known[-1][0]
            end = (
                start + 1 if self.wire.startswith(b"\n", start) else self.wire.find(b"\n\n", start)
            )
            if end < 0:
                break
            end += 2 * (end > start + 1)
            self._take(self.wire[start:end].decode())
            self.known.append((end, self.memory))
        if self.complete:
            self._check_end()

    def _take(self, block: str) -> None:
        lines = [line.partition(": ") for line in block.split("\n") if line]
        fields = {name: value for name, _, value in lines}
        assert len(fields) == len(lines)
        self.timed |= "retry" in fields
        assert self.timed or not self.world.reconnection_time or not fields
        if "data" not in fields:
            assert fields in ({}, {"": "heartbeat"}) or fields.keys() <= {"id", "retry"}
            if "id" in fields:
                self._take_id(fields["id"])
        elif fields["event"] == RESET_EVENT:
            assert "id" not in fields
            assert fields["data"]
            self._take_reset()
        else:
            self._take_event(fields)

    def _take_id(self, event_id: str) -> None:
        if event_id == END:
            assert self.final
            self.memory = attrs.evolve(self.memory, id=END)
            return
        assert self.lost, "an id, though the client knows where it is"
        n = self.world.read_id(event_id, self.life)
        assert n == self.joined or (self.joined is None and n <= self.world.count)
        assert not self.reset or self._is_gap(n), "a false reset"
        self.lost = False
        self.memory = Memory(event_id, self.life, n)

    def _take_reset(self) -> None:
        assert self.claimed.life != -1, "a reset on a first connect"
        assert not self.reset
        assert self.memory == self.claimed, "a reset amid a replay"
        self.reset = self.lost = True

    def _take_event(self, fields: dict[str, str]) -> None:
        assert not self.lost
        told = Memory(fields["id"], self.life, self.world.read_id(fields["id"], self.life))
        assert (told.life, told.n) == (self.memory.life, self.memory.n + 1)
        assert fields == {"id": told.id, **self.world.told[self.life][told.n - 1]}
        self.memory = told

    def _is_gap(self, joined: int) -> bool:
        oldest = joined - self.world.history_size
        return self.claimed.life != self.life or not oldest <= self.claimed.n <= joined

    def _check_end(self) -> None:
        assert self.known[-1][0] == len(self.wire), "the end came amid a block"
        if self.owed is not None:
            assert (self.lost, self.memory.life, self.memory.n) == (False, self.life, self.owed)
            assert not self.final or self.memory.id == END

    def check_settled(self) -> None:
        """Check that nothing is held back, now that all tasks wait."""
        if self.left:
            assert self.done
        elif self.alive and not self.stalled and self.decided_at < trio.current_time():
            assert self.joined is not None
            assert self.owed is None, "left connected and silent"
            assert (self.lost, self.memory.life, self.memory.n) == (
                False,
                self.life,
                len(self.world.told[self.life]),
            )


@final
class HttpStream(Stream):
    """A response, and the server that carries it."""

    def __init__(
        self,
        world: World,
        memory: Memory,
        door: tuple[str, ...],
        max_age: float,
        header: bytes,
        query: bytes,
    ) -> None:
        super().__init__(world, memory, door, max_age)
        self.refused = (header or query) == END.encode()
        self.status = 0
        if "direct" in door and "at once" not in door:
            self.decided_at = math.inf
        self._fake = FakeDoor(world.writer)
        self._fake.chunks = _Noted(self.wire)
        self._flowing = trio.Event()
        self._flowing.set()
        self._tell, self._messages = trio.open_memory_channel[Message](math.inf)
        self._tell.send_nowait({"type": "http.request", "body": b"", "more_body": False})
        world.nursery.start_soon(self._run, self._app(), self._scope(header, query))

    def stall(self) -> None:
        if not self.stalled:
            super().stall()
            self._flowing = trio.Event()
            self._fake.fill()

    def resume(self) -> None:
        super().resume()
        self._flowing.set()
        self._fake.room.set()

    def leave(self) -> None:
        super().leave()
        self._fake.broken = True
        self.resume()

    def notice(self) -> None:
        self._tell.send_nowait({"type": "http.disconnect"})

    def _check_end(self) -> None:
        super()._check_end()
        assert self.status == (204 if self.refused else 200)
        if self.joined is None and self.max_age == math.inf:
            assert self.refused or self.broadcaster.closed
            assert self.memory == self.claimed

    def _app(self) -> App:
        app = (
            quart_app()
            if "quart" in self.door
            else sse_app(self.broadcaster, key=self.key, max_age=self.max_age)
        )
        if "plain receive" in self.door:
            return with_plain_receive(app)
        if "direct" in self.door:
            return behind(self._fake, app, opens="at once" in self.door)
        return app

    def _scope(self, header: bytes, query: bytes) -> Message:
        headers = [(b"host", b"test"), (b"accept", b"text/event-stream")]
        return {
            "type": "http",
            "asgi": {"version": "3.0"},
            "http_version": "1.1",
            "method": "GET",
            "scheme": "http",
            "path": "/events",
            "raw_path": b"/events",
            "query_string": f"x=%ff&lastEventId={quote_from_bytes(query)}".encode(),
            "root_path": "",
            "stream": self,
            "headers": [*headers, *([(b"last-event-id", header)] if header else [])],
        }

    async def _run(self, app: App, scope: Message) -> None:
        await app(scope, self._messages.receive, self._send)
        self.done = True
        assert self.left or self.complete

    async def _open_late(self) -> None:
        await trio.sleep(0.5 if "late" in self.door else 3)
        self._fake.opened.set()

    async def _send(self, message: Message) -> None:
        await trio.lowlevel.checkpoint()
        await self._flowing.wait()
        if self.left:
            return
        if message["type"] == "http.response.start":
            self.status = message["status"]
        else:
            assert not self.complete
            if self.decided_at == math.inf:
                self.decided_at = trio.current_time() + 1
                self.world.nursery.start_soon(self._open_late)
            self.wire += message.get("body", b"")
            self.complete = not message.get("more_body", False)


@final
class InnerStream(Stream):
    """A subscription, as a stream: its events are taken when the client looks."""

    def __init__(self, world: World, memory: Memory, sent: bytes) -> None:
        super().__init__(world, memory, ("subscribe",), math.inf)
        self._subscription: Subscription = self.broadcaster.subscribe(
            last_event_id=sent.decode(errors="replace") or None, key=self.key
        )
        self.timed = True  # There is nothing to reconnect.
        self.joined = world.count
        if self.lost:
            self.lost = False
            self.memory = Memory("", self.life, world.count)

    def leave(self) -> None:
        super().leave()
        self._subscription.close()
        self.done = True

    def pull(self) -> None:
        try:
            while not self.stalled:
                self.wire += self._subscription.receive_nowait().encode()
        except trio.WouldBlock:
            pass
        except (trio.EndOfChannel, trio.BrokenResourceError):
            self.complete = self.done = True

    def _take_reset(self) -> None:
        super()._take_reset()
        assert self._is_gap(self.joined or 0), "a false reset"
        self.lost = False
        self.memory = Memory(self.claimed.id, self.life, self.joined or 0)

    def _check_end(self) -> None:
        self.final = False  # There is nobody to keep from coming back.
        super()._check_end()


@final
class _Noted(list[bytes]):
    """The chunks that a door takes, put on the wire between what goes through `send`."""

    def __init__(self, wire: bytearray) -> None:
        self._wire = wire

    def append(self, chunk: bytes) -> None:
        self._wire += chunk


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
        readers: int,
    ) -> None:
        self.buffer_size, self.history_size = buffer_size, history_size
        self.reconnection_time = reconnection_time
        #: The events of each life, as they are on the wire but for their ids.
        self.told: list[list[dict[str, str]]] = []
        self.keys = count()
        self.nursery: trio.Nursery
        self.writer = Writer()
        self._epochs: dict[int, str] = {}
        self._memories = [Memory()] * readers
        self._streams: list[Stream | None] = [None] * readers
        self._leaving: list[Stream] = []
        self._start()

    @property
    def life(self) -> int:
        return len(self.told) - 1

    @property
    def count(self) -> int:
        return len(self.told[-1])

    async def run(self, steps: Iterable[Step]) -> None:
        """Let it all happen; then nobody may miss anything, and nothing may be left behind."""
        async with trio.open_nursery() as self.nursery:
            self.nursery.start_soon(self.writer.run)
            for step in steps:
                await step.happen(self)
                self._look()
            await self._come_to_rest()
            self.nursery.cancel_scope.cancel()

    def broadcast(self, count: int, size: int) -> None:
        for _ in range(0 if self.broadcaster.closed else count):
            data = f"{self.life}.{self.count + 1} {'x' * size}"
            self.told[-1].append({"event": "tick", "data": data})
            self.broadcaster.broadcast("tick", data)
            for stream in self._open:
                stream.look(broadcast=True)

    def come(
        self,
        reader: int,
        door: tuple[str, ...] = ("sse_app",),
        *,
        lie: str | bytes | None = None,
        decoy: bytes = b"",
        in_query: bool = False,
        max_age: float = math.inf,
    ) -> None:
        """Let a client connect: with the id that it knows, or with a lie."""
        self.leave(reader)
        memory = self._memories[reader]
        sent = memory.id.encode() if lie is None else self._forge(lie)
        claimed = self._read_claim(sent)
        assert lie is not None or memory.id in ("", END) or claimed == memory
        header, query = (b"", sent) if in_query else (sent, decoy if sent else b"")
        self._streams[reader] = (
            InnerStream(self, claimed, sent)
            if "subscribe" in door and not self.broadcaster.closed
            else HttpStream(self, claimed, door, max_age, header, query)
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
        if stream is not None and stream.broadcaster is self.broadcaster:
            ended = self.broadcaster.disconnect(stream.key, final=final)
            assert ended == (stream.joined is not None and stream.owed is None)
            if ended:
                stream.owed, stream.final = self.count, final

    def close(self) -> None:
        for stream in self._open:
            if stream.broadcaster is self.broadcaster and stream.joined is not None:
                stream.owed = self.count if stream.owed is None else stream.owed
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

    async def wait(self, seconds: float) -> None:
        await self.settle()
        await trio.sleep(seconds)
        await self.settle()

    def read_id(self, event_id: str, life: int) -> int:
        """Return the number in an id that was received, and learn the life's epoch."""
        epoch, _, number = event_id.rpartition("-")
        assert self._epochs.setdefault(life, epoch) == epoch
        assert len({*self._epochs.values()}) == len(self._epochs)
        return int(number)

    @property
    def _open(self) -> list[Stream]:
        return [stream for stream in self._streams if stream is not None]

    def _start(self) -> None:
        self.told.append([])
        self.broadcaster = Broadcaster(
            self.buffer_size,
            strict=False,
            history_size=self.history_size,
            reconnection_time=self.reconnection_time,
        )

    def _look(self) -> None:
        for stream in self._open:
            stream.look()

    def _forge(self, lie: str | bytes) -> bytes:
        if isinstance(lie, bytes):
            return lie
        oldest = max(self.count - self.history_size, 0)
        return lie.format(
            epoch=self._epochs.get(self.life, "0123456789ab"),
            other=self._epochs.get(self.life - 1, "ba9876543210"),
            next=self.count + 1,
            last=self.count,
            oldest=oldest,
            too_old=max(oldest - 1, 0),
        ).encode()

    def _read_claim(self, sent: bytes) -> Memory:
        """Return what a client that sends this id claims to know."""
        text = sent.decode(errors="replace")
        epoch, _, number = text.rpartition("-")
        for life, known in self._epochs.items():
            if epoch == known and re.fullmatch("0|[1-9][0-9]{0,9}", number):
                return Memory(text, life, int(number))
        return Memory(text, -2) if text else Memory()

    async def _come_to_rest(self) -> None:
        """Let everybody who may come back come back, for good; they miss nothing then."""
        if self.broadcaster.closed:
            self.restart()
        for reader in range(len(self._streams)):
            self.resume(reader)
        await self.wait(2)  # A door that stays shut is given up after a second.
        for reader, stream in enumerate(self._streams):
            if stream is None or not stream.alive or stream.max_age < math.inf:
                self.come(reader)
        await self.wait(0)
        for reader, stream in enumerate(self._streams):
            assert stream is not None
            assert self._is_up_to_date(stream)
            self.leave(reader)
        await self.settle()
        assert (self.broadcaster.client_count, self.broadcaster.statistics().streams) == (0, 0)

    def _is_up_to_date(self, stream: Stream) -> bool:
        if stream.complete:
            return stream.memory.id == END
        return (stream.memory.life, stream.memory.n) == (self.life, self.count)
