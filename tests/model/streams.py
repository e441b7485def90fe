"""What one connection may tell a client: each block is held against what was broadcast.

A `Stream` reads what has arrived; how it arrives is the business of the classes in `ways`.
"""

from __future__ import annotations

import math
from typing import Final

import attrs
import trio

from trio_sse import END_EVENT, POSITION_EVENT, RESET_EVENT
from trio_sse._core.hub import hub_of
from trio_sse._core.options import StreamOptions

from .life import END, Life, Memory, Page

BEAT: Final = b": heartbeat\n\n"


class Stream:
    """One connection of a client, from its request on."""

    def __init__(
        self, life: Life, page: Page, memory: Memory, way: tuple[str, ...], max_age: float
    ) -> None:
        self.life, self.broadcaster = life, life.broadcaster
        self.page = page
        self.way, self.max_age = way, max_age
        self.claimed, self.memory = memory, memory
        #: The places where a block ends, and what the client knows there.
        self.known = [(0, memory)]
        #: Whether the client is still to be told where the stream is.
        self.lost = not memory.id
        self.reset = self.timed = self.final = self.may_be_final = False
        #: The number of the last event before it was registered, and of the last one it is owed.
        self.joined: int | None = None
        self.owed: int | None = None
        #: How often the snapshot was called, and what has arrived of it.
        self.snapshots = 0
        self.state: list[tuple[str, str]] = []
        self.wire: bytearray = bytearray()
        #: When it is settled at the latest which way its events go.
        self.decided_at = -math.inf
        self.stalled = self.left = self.complete = self.done = False
        #: The places where a chunk ends, and how many events there were when it was handed over:
        #: when time had last gone on, and then.
        self._chunks: list[tuple[int, tuple[int, int]]] = []

    def snapshot(self) -> list[tuple[str, object]]:
        self.snapshots += 1
        return [*self.life.state(self.life.count)]

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

    @property
    def is_up_to_date(self) -> bool:
        """Whether the client has every event of its page."""
        return self._has_all_until(self.life.count)

    def look(self, *, broadcast: bool = False) -> None:
        """Read on; see whether the client is registered, and whether it may be out again."""
        if not self.left and not self.broadcaster.closed:
            registered = not hub_of(self.broadcaster).admits(StreamOptions(key=self, key_limit=1))
            if registered and self.joined is None:
                self.joined = self.life.count
            elif not registered and self.joined is not None and self.owed is None:
                self.owed = self.life.count - broadcast
                self.read()
                assert broadcast or self.max_age < math.inf, "out, though neither full nor old"
                if broadcast:
                    self._check_full()
        self.read()

    def arrive(self, chunk: bytes, counts: tuple[int, int] | None = None) -> None:
        """Put bytes on the wire, which were handed over now or when there were so many events."""
        self.wire += chunk
        self._chunks.append((len(self.wire), counts or self.counts))

    @property
    def counts(self) -> tuple[int, int]:
        return self.life.count_asleep, self.life.count

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
            if self.wire[start:end].endswith(BEAT) and self._is_position_at(end):
                end = self.wire.index(b"\n\n", end) + 2  # One write.
            self._take(self.wire[start:end].decode())
            self.known.append((end, self.memory))
        if self.complete:
            self._check_end()

    def _is_position_at(self, start: int) -> bool:
        block, empty, _ = self.wire[start:].partition(b"\n\n")
        return bool(empty) and b"event: stream-position" in block

    def check_settled(self) -> None:
        """Check that nothing is held back, now that all tasks wait."""
        if self.left:
            assert self.done
        elif self.alive and not self.stalled and self.decided_at < trio.current_time():
            assert self.joined is not None
            assert self.owed is None, "left connected and silent"
            assert self.is_up_to_date
            assert self.snapshots == (self.page.snapshot and (self.reset or not self.claimed.id))

    def check_beaten(self) -> None:
        """Check that there was a heartbeat with the current id, if that is not the last event's."""
        if self.alive and not self.stalled:
            assert self.memory.n == self.life.count, "an id that ages"

    def _take(self, block: str) -> None:
        """Take a block; whether a client keeps an id without data makes no difference to any."""
        before, beat, block = block.rpartition(BEAT.decode())
        assert not before or before.startswith("retry: ")
        lines = [line.partition(": ") for line in (before + block).split("\n") if line]
        fields = {name: value for name, _, value in lines}
        # One of an empty replay that nothing has followed stands before that of the end.
        retries = max(sum(name == "retry" for name, _, _ in lines), 1)
        assert len(fields) == len(lines) - retries + 1
        assert "id" not in fields or fields["data"], "an id that some clients drop"
        first = not self.timed
        self.timed |= fields.pop("retry", None) is not None
        assert self.timed or not self.life.reconnection_time or not (fields or beat)
        if beat:
            assert not fields or fields.keys() == {"event", "id", "data"}
            self._take_heartbeat(fields.get("id"))
        elif not fields:
            assert first or self.owed is not None or not lines
        elif fields["event"] in (POSITION_EVENT, END_EVENT):
            assert fields["data"] == "{}"
            self._take_id(fields["id"], final=fields["event"] == END_EVENT)
        elif "id" in fields:
            self._take_event(fields)
        elif fields["event"] == RESET_EVENT:
            assert fields["data"]
            self._take_reset()
        else:
            assert self.lost, "a snapshot, though the client knows where it is"
            self.state.append((fields["event"], fields["data"]))

    def _take_heartbeat(self, event_id: str | None) -> None:
        """A heartbeat has the id if that has moved since one was told, and no event is due."""
        assert not self.lost
        assert self.memory.life is self.life
        place = self.known[-1][0]
        least, most = next(counts for end, counts in self._chunks if end > place)
        if event_id is None:
            busy = self.owed is not None or self.life.last(most, self.page) > self.memory.n
            assert busy or least <= self.memory.n, "a heartbeat without the id, which has moved"
        else:
            n = self.life.read_id(event_id)
            assert max(least, self.memory.n + 1) <= n <= most, "a heartbeat with a needless id"
            assert self.life.last(n, self.page) <= self.memory.n, "a heartbeat ahead of an event"
            self.memory = Memory(event_id, self.life, n)

    def _take_id(self, event_id: str, *, final: bool) -> None:
        assert final == (event_id == END)
        if final:
            assert self.final or self.may_be_final
            self.memory = attrs.evolve(self.memory, id=END)
            return
        assert self.lost, "an id, though the client knows where it is"
        n = self.life.read_id(event_id)
        assert n == self.joined or (self.joined is None and n <= self.life.count)
        assert not self.reset or self.life.is_gap(self.claimed, n), "a false reset"
        expected = self.life.state(n) if self.page.snapshot else []
        assert self.state == [(event, str(data)) for event, data in expected]
        self.lost = False
        self.memory = Memory(event_id, self.life, n)

    def _take_reset(self) -> None:
        assert self.claimed.id, "a reset on a first connect"
        assert not self.reset
        assert self.memory == self.claimed, "a reset amid a replay"
        self.reset = self.lost = True

    def _take_event(self, fields: dict[str, str]) -> None:
        assert not self.lost
        assert self.memory.life is self.life
        n = self.life.read_id(fields["id"])
        assert self.memory.n < n == self.life.last(n, self.page), "an event that was not due"
        assert self.life.last(n - 1, self.page) <= self.memory.n, "an event was lost"
        assert fields == {"id": fields["id"], **self.life.event(n)}
        self.memory = Memory(fields["id"], self.life, n)

    def _has_all_until(self, n: int) -> bool:
        return (
            not self.lost
            and self.memory.life is self.life
            and self.life.last(self.memory.n, self.page) == self.life.last(n, self.page)
        )

    def _check_full(self) -> None:
        """Check that the last broadcast found no room, as far as the bytes tell."""
        handed = 0 if self.memory is self.claimed else self.memory.n
        waiting = self.life.amount(max(handed, self.joined or 0), self.page)
        assert waiting > self.life.buffer_size
        assert self.life.last(self.life.count, self.page) == self.life.count

    def _check_end(self) -> None:
        assert self.known[-1][0] == len(self.wire), "the end came amid a block"
        if self.owed is not None:
            assert self._has_all_until(self.owed)
            assert not self.final or self.memory.id == END
