"""The state that a stream begins with: no change of it is lost, and none applied twice."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from typing import Any, Final, final

import attrs
import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_sse import RESET_EVENT, Broadcaster, sse_app
from trio_sse.testing import open_event_stream

from ..support.asgi import Tap, with_scope
from ..support.thorough import THOROUGH
from ..support.ways import WAYS, Way, see, stream_app

STATE: Final = [("price", {"bid": 42}), ("price", "as it is")]


#: Of what happens meanwhile.
chance: Final = random.Random()  # noqa: S311 (keeps no secret)


@pytest.fixture
def broadcaster() -> Broadcaster:
    return Broadcaster(strict=False, history_size=4)


# What a stream begins with


async def come_between_two_events(nursery: trio.Nursery, way: Way, last_event_id: str) -> str:
    """Return what such a client gets, with E for the epoch."""
    broadcaster = Broadcaster(strict=False, reconnection_time=(2, 2))
    app = way.app(broadcaster, snapshot=lambda: STATE)
    broadcaster.broadcast("tick", "before")
    connection = await way.open(nursery, app, last_event_id)
    broadcaster.broadcast("tick", "after")
    await wait_all_tasks_blocked()
    return connection.wire.decode().replace(connection.seen.id.partition("-")[0], "E")


async def test_a_first_stream_begins_with_the_state_and_where_it_is(
    nursery: trio.Nursery, way: Way
) -> None:
    assert await come_between_two_events(nursery, way, "") == (
        "retry: 2000\n"
        'event: price\ndata: {"bid":42}\n\n'
        "event: price\ndata: as it is\n\n"
        "id: E-1\nevent: stream-position\ndata: {}\n\n"
        "id: E-2\nevent: tick\ndata: after\n\n"
    )


async def test_after_a_reset_the_state_comes_again_behind_it(
    nursery: trio.Nursery, way: Way
) -> None:
    assert await come_between_two_events(nursery, way, "?") == (
        "retry: 2000\n"
        f"event: {RESET_EVENT}\ndata: the last event ID is malformed\n\n"
        'event: price\ndata: {"bid":42}\n\n'
        "event: price\ndata: as it is\n\n"
        "id: E-1\nevent: stream-position\ndata: {}\n\n"
        "id: E-2\nevent: tick\ndata: after\n\n"
    )


async def test_one_who_gets_just_what_it_missed_gets_no_state(
    nursery: trio.Nursery, way: Way, broadcaster: Broadcaster
) -> None:
    called = 0

    def snapshot() -> list[tuple[str, object]]:
        nonlocal called
        called += 1
        return [("state", "x")]

    app = way.app(broadcaster, snapshot=snapshot)
    first = await way.open(nursery, app)
    broadcaster.broadcast("tick", "1")
    missed = await way.open(nursery, app, first.seen.id)
    assert missed.seen.events == [("tick", "1")]
    nothing = await way.open(nursery, app, missed.seen.id)
    assert nothing.seen.events == []
    assert called == 1


async def test_without_a_history_each_stream_begins_with_the_state(
    nursery: trio.Nursery, way: Way
) -> None:
    broadcaster = Broadcaster(strict=False, history_size=0)
    app = way.app(broadcaster, snapshot=lambda: STATE)
    for last_event_id in ("", "0123456789ab-1"):
        connection = await way.open(nursery, app, last_event_id)
        assert connection.wire == (
            b'event: price\ndata: {"bid":42}\n\nevent: price\ndata: as it is\n\n'
        )


async def test_there_may_be_no_state_yet(
    nursery: trio.Nursery, way: Way, broadcaster: Broadcaster
) -> None:
    connection = await way.open(nursery, way.app(broadcaster, snapshot=list))
    assert re.fullmatch(rb"id: \S+-0\nevent: stream-position\ndata: {}\n\n", connection.wire)


async def test_a_state_may_be_larger_than_a_buffer_and_come_from_a_generator(
    nursery: trio.Nursery, way: Way
) -> None:
    broadcaster = Broadcaster(1, strict=False)

    def snapshot() -> Iterator[tuple[str, object]]:
        for number in range(3000):
            yield "state", f"{number} {'x' * 50}"

    connection = await way.open(nursery, way.app(broadcaster, snapshot=snapshot))
    await wait_all_tasks_blocked()
    assert [int(data.split()[0]) for data in connection.seen.data] == [*range(3000)]
    assert broadcaster.statistics().clients_pruned == 0


@pytest.mark.parametrize("method", ["HEAD", "POST"])
async def test_who_gets_no_stream_costs_no_state(
    nursery: trio.Nursery, broadcaster: Broadcaster, method: str
) -> None:
    called = 0

    def snapshot() -> list[tuple[str, object]]:
        nonlocal called
        called += 1
        return []

    for app in (sse_app, stream_app):
        asked = with_scope(app(broadcaster, snapshot=snapshot), method=method)
        stream = await open_event_stream(nursery, asked)
        assert stream.complete
    assert called == 0


# What cannot be sent


async def test_a_state_is_sent_as_a_broadcast_is(nursery: trio.Nursery, way: Way) -> None:
    broadcaster = Broadcaster(history_size=0, dumps=lambda data: f"<{data!r}>")
    broadcaster.register_event("count", int)
    broadcaster.register_event("pair", list[int])
    state = [("count", 1), ("pair", (1, 2))]
    connection = await way.open(nursery, way.app(broadcaster, snapshot=lambda: state))
    assert connection.seen.events == [("count", "<1>"), ("pair", "<[1, 2]>")]


WRONG: Final = {
    "unregistered": ([("unknown", 1)], ValueError, "'unknown' is not registered"),
    "reserved": ([(RESET_EVENT, "x")], ValueError, "choose another name"),
    "wrong payload": ([("count", 1), ("count", "x")], ValueError, "'count' does not fit int"),
    "no JSON": (
        [("any", object())],
        TypeError,
        "'any' cannot be turned into JSON: objects of type object",
    ),
    "no text": ([("any", b"\xff")], ValueError, "must be UTF-8"),
    "no pairs": (["any"], TypeError, "must return .event type, data. pairs"),
}


@pytest.fixture
def strict() -> Broadcaster:
    broadcaster = Broadcaster()
    broadcaster.register_event("count", int)
    broadcaster.register_event("any")
    return broadcaster


@pytest.mark.parametrize("name", WAYS)
@pytest.mark.parametrize(("state", "error", "message"), WRONG.values(), ids=WRONG)
async def test_a_state_that_cannot_be_sent_cuts_the_stream(
    strict: Broadcaster, name: str, state: Any, error: type[Exception], message: str
) -> None:
    """A browser comes back to a cut; to a 500 it does not."""
    way = WAYS[name]()
    app = Tap(way.app(strict, snapshot=lambda: state))
    with pytest.RaisesGroup(
        pytest.RaisesExc(error, match=message), allow_unwrapped=True, flatten_subgroups=True
    ):
        async with trio.open_nursery() as nursery:
            await way.open(nursery, app)
    assert [message.get("body") for message in app.sent] == [None, b"\n"]
    assert strict.client_count == strict.statistics().streams == 0


async def test_what_the_callable_itself_raises_leaves_no_client_behind(
    nursery: trio.Nursery, broadcaster: Broadcaster
) -> None:
    def snapshot() -> Iterator[tuple[str, object]]:
        assert broadcaster.client_count == 1
        yield "state", "x"
        raise KeyError("gone")

    app = sse_app(broadcaster, key="ann", key_limit=1, snapshot=snapshot)
    for _ in range(2):  # The second is not turned away.
        with pytest.RaisesGroup(KeyError, allow_unwrapped=True, flatten_subgroups=True):
            async with trio.open_nursery() as inner:
                await open_event_stream(inner, app)
    assert broadcaster.client_count == broadcaster.statistics().streams == 0
    with trio.fail_after(1):
        await broadcaster.aclose()


# What happens meanwhile


async def test_a_state_that_broadcasts_loses_nothing(
    nursery: trio.Nursery, way: Way, broadcaster: Broadcaster
) -> None:
    """Its own event comes to all, and to its own client behind the state, even after a cut."""

    def snapshot() -> Iterator[tuple[str, object]]:
        yield "state", broadcaster.client_count
        broadcaster.broadcast("came", broadcaster.client_count)

    app = way.app(broadcaster, snapshot=snapshot)
    first = await way.open(nursery, app)
    second = await way.open(nursery, app)
    await wait_all_tasks_blocked()
    assert first.seen.events == [("state", "1"), ("came", "1"), ("came", "2")]
    assert second.seen.events == [("state", "2"), ("came", "2")]
    head = second.wire[: second.wire.index(b"event: came")]
    again = await way.open(nursery, app, see(head).id)
    assert again.seen.events == [("came", "2")]


async def test_a_state_that_broadcasts_more_than_a_buffer_holds_prunes_its_own_client(
    nursery: trio.Nursery, way: Way
) -> None:
    broadcaster = Broadcaster(2, strict=False)

    def snapshot() -> list[tuple[str, object]]:
        for number in range(3):
            broadcaster.broadcast("tick", number)
        return [("state", 3)]

    connection = await way.open(nursery, way.app(broadcaster, snapshot=snapshot))
    await wait_all_tasks_blocked()
    assert connection.seen.events == [("state", "3"), ("tick", "0"), ("tick", "1")]
    assert connection.seen.id.endswith("-2")
    assert connection.stream.complete
    assert broadcaster.statistics().streams == 0


async def test_a_broadcaster_may_be_closed_by_the_state(
    nursery: trio.Nursery, way: Way, broadcaster: Broadcaster
) -> None:
    def snapshot() -> list[tuple[str, object]]:
        broadcaster.close()
        return [("state", "last")]

    connection = await way.open(nursery, way.app(broadcaster, snapshot=snapshot))
    await wait_all_tasks_blocked()
    assert connection.seen.events == [("state", "last")]
    assert connection.stream.complete
    assert broadcaster.statistics().streams == 0


@final
@attrs.define
class Counter:
    """A state of which every change is told, as an event for all or for those of a topic."""

    broadcaster: Broadcaster
    value: int = 0

    def snapshot(self) -> list[tuple[str, object]]:
        return [("value", self.value)]

    def change(self) -> None:
        self.value += 1
        self.broadcaster.broadcast("add", 1, topic=chance.choice([None, "ours"]))
        if chance.random() < 0.2:
            self.broadcaster.broadcast("add", 1000, topic="theirs")

    async def change_now_and_then(self, count: int) -> None:
        for _ in range(count):
            self.change()
            for _ in range(chance.randrange(8)):
                await trio.lowlevel.checkpoint()


@final
@attrs.define
class View:
    """What a client has made of a state and its changes, and from where it goes on."""

    value: int = -(10**9)
    id: str = ""

    def take(self, wire: bytes) -> None:
        seen = see(wire, self.id)
        self.id = seen.id
        for event, data in seen.events:
            if event != RESET_EVENT:
                self.value = int(data) + (self.value if event == "add" else 0)


@pytest.mark.parametrize("history_size", [0, 4, 200] if THOROUGH else [4])
async def test_state_and_changes_make_the_state_at_every_step_of_connecting(
    nursery: trio.Nursery, way: Way, history_size: int, autojump_clock: MockClock
) -> None:
    """Whatever happens meanwhile, and wherever each client is cut before it comes again.

    In any order of the tasks, which Trio lets vary: so it is tried often.
    """
    broadcaster = Broadcaster(strict=False, history_size=history_size, heartbeat_interval=1)
    counter = Counter(broadcaster)
    app = way.app(broadcaster, topics=["ours"], snapshot=counter.snapshot)
    views = [View() for _ in range(3)]
    begins = set[str]()
    for _ in range(20):
        nursery.start_soon(counter.change_now_and_then, chance.randrange(12))
        opened = [(view, await way.open(nursery, app, view.id)) for view in views]
        if chance.random() < 0.3:
            await trio.sleep(2)  # With a heartbeat, or two.
        await wait_all_tasks_blocked()
        for view, connection in opened:
            wire = connection.wire
            whole = attrs.evolve(view)
            whole.take(wire)
            assert whole.value == counter.value
            begins.update(re.findall(r"event: (\S+)", wire.decode())[:1])
            view.take(wire[: chance.choice([chance.randrange(len(wire) + 1), len(wire)])])
            connection.disconnect()
        for _ in range(chance.choice([0, 0, 1, 5])):
            counter.change()
    assert "value" in begins
    if history_size == 4:
        assert RESET_EVENT in begins
    if history_size == 200:
        assert "add" in begins


async def test_a_snapshot_may_end_the_very_stream_for_good() -> None:
    broadcaster = Broadcaster(strict=False)

    def snapshot() -> list[tuple[str, object]]:
        broadcaster.disconnect("ada", final=True)
        return [("state", 1)]

    async with trio.open_nursery() as nursery:
        stream = await open_event_stream(
            nursery, sse_app(broadcaster, key="ada", snapshot=snapshot)
        )
        await wait_all_tasks_blocked()
        assert stream.complete
        assert stream.raw_bytes.endswith(b"id: end\nevent: stream-end\ndata: {}\n\n")
