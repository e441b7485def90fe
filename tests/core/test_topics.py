"""Topics: an event with one reaches only those who asked for it, live and when they come back."""

from __future__ import annotations

import gc
import random
import re
import tracemalloc
from typing import Any, Final, cast

import pytest
import trio
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_sse import RESET_EVENT, Broadcaster, Subscription, sse_app
from trio_sse._delivery.shared_queue import SharedQueue

from ..support.streams import position
from ..support.thorough import THOROUGH
from ..support.ways import WAYS, Connection, Way, see

HEARTBEAT: Final = b": heartbeat\n\n"

#: What was broadcast: the topic, and the data.
Told = tuple[str | None, str]


@pytest.fixture
def broadcaster() -> Broadcaster:
    return Broadcaster(strict=False, history_size=8)


def tell(broadcaster: Broadcaster, *told: Told) -> None:
    for topic, data in told:
        broadcaster.broadcast("tick", data, topic=topic)


def tell_many(broadcaster: Broadcaster, count: int, topic: str | None) -> None:
    tell(broadcaster, *((topic, f"{topic} {number}") for number in range(count)))


def wanted(told: list[Told], topics: set[str]) -> list[str]:
    """Return what one who asked for these topics must get."""
    return [data for topic, data in told if topic is None or topic in topics]


async def drain(subscription: Subscription) -> list[str | None]:
    await trio.lowlevel.checkpoint()
    data: list[str | None] = []
    while True:
        try:
            data.append(subscription.receive_nowait().data)
        except trio.WouldBlock:
            return data


async def where(broadcaster: Broadcaster) -> str:
    """Return the current id."""
    async with trio.open_nursery() as nursery:
        connection = await WAYS["sse_app"]().open(nursery, sse_app(broadcaster))
        connection.disconnect()
    return connection.seen.id


# Live


TOLD: Final[list[Told]] = [
    (None, "1"),
    ("a", "2"),
    ("b", "3"),
    (None, "4"),
    ("nobody's", "5"),
    ("b", "6"),
    ("a", "7"),
    (None, "8"),
    ("", "9"),
]

ASKED: Final = ((), ("a",), ("b",), ("a", "b"), ("b", "a", "a", "unknown"), ("",))


async def test_an_event_with_a_topic_reaches_those_who_asked_for_it_and_any_other_all(
    nursery: trio.Nursery, way: Way, broadcaster: Broadcaster
) -> None:
    """In the order of the broadcasts, and once, however many topics a client has."""
    opened = [
        (asked, await way.open(nursery, way.app(broadcaster, topics=asked)))
        for asked in ASKED
        for _ in range(2)
    ]
    await wait_all_tasks_blocked()
    for at in range(0, len(TOLD), 4):  # With all at rest between, so that the direct ones follow.
        tell(broadcaster, *TOLD[at : at + 4])
        await wait_all_tasks_blocked()
    for asked, connection in opened:
        assert connection.seen.data == wanted(TOLD, set(asked))


async def test_a_subscriber_gets_its_topics_and_what_has_none(broadcaster: Broadcaster) -> None:
    subscriptions = [(asked, broadcaster.subscribe(topics=asked)) for asked in ASKED]
    tell(broadcaster, *TOLD)
    for asked, subscription in subscriptions:
        assert await drain(subscription) == wanted(TOLD, set(asked))


async def test_topics_may_be_asked_for_as_any_collection_even_one_that_is_used_up(
    nursery: trio.Nursery, broadcaster: Broadcaster
) -> None:
    way = WAYS["sse_app"]()
    app = way.app(broadcaster, topics=iter(["a", "b"]))
    connections = [await way.open(nursery, app) for _ in range(2)]
    tell(broadcaster, *TOLD)
    await wait_all_tasks_blocked()
    for connection in connections:
        assert connection.seen.data == wanted(TOLD, {"a", "b"})


async def test_a_client_that_does_not_read_is_pruned_by_its_own_topics_only(
    broadcaster: Broadcaster,
) -> None:
    broadcaster = Broadcaster(2, strict=False)
    with broadcaster.subscribe(topics=["a"]) as ours, broadcaster.subscribe(topics=["b"]) as theirs:
        tell_many(broadcaster, 3, "b")
        assert broadcaster.client_count == 1
        assert await drain(ours) == []
        assert (await theirs.receive()).data == "b 0"


async def test_one_who_has_left_gets_no_more_of_its_topics(broadcaster: Broadcaster) -> None:
    with broadcaster.subscribe(topics=["a"]) as stays:
        with broadcaster.subscribe(topics=["a", "b"]):
            tell(broadcaster, ("a", "1"))
        tell(broadcaster, ("a", "2"), ("b", "3"))
        assert await drain(stays) == ["1", "2"]
        assert broadcaster.statistics().clients_pruned == 0


async def test_topics_that_nobody_asks_for_any_more_leave_nothing_behind() -> None:
    """A topic for each user is 10,000 topics a day."""
    broadcaster = Broadcaster(strict=False, history_size=4)

    def come_and_go(start: int, count: int) -> None:
        for number in range(start, start + count):
            topic = f"user {number}"
            with broadcaster.subscribe(topics=[topic, f"{topic}, too"]):
                tell(broadcaster, (topic, "x"), (f"nobody {number}", "x"))

    await trio.lowlevel.checkpoint()
    come_and_go(0, 10)
    tracemalloc.start()
    try:
        come_and_go(10, 10)
        before, _ = tracemalloc.get_traced_memory()
        come_and_go(1000, 1000)
        after, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert after - before < 1000 * 30  # One str is twice as large.


async def test_a_shared_queue_is_gone_with_the_last_client_that_asked_for_its_topics(
    nursery: trio.Nursery, broadcaster: Broadcaster
) -> None:
    before = count_shared_queues()
    way = WAYS["sse_app, direct"]()
    connections = [
        await way.open(nursery, way.app(broadcaster, topics=[str(number)])) for number in range(5)
    ]
    await wait_all_tasks_blocked()
    assert count_shared_queues() == before + 5
    for connection in connections[1:]:
        connection.disconnect()
    await wait_all_tasks_blocked()
    assert count_shared_queues() == before + 1


def count_shared_queues() -> int:
    gc.collect()
    return sum(type(one) is SharedQueue for one in gc.get_objects())


# Coming back


async def test_one_who_comes_back_gets_what_it_missed_of_its_topics_once(
    nursery: trio.Nursery, way: Way, broadcaster: Broadcaster
) -> None:
    id_ = await where(broadcaster)
    tell(broadcaster, *TOLD[:-1])
    for asked in ASKED:
        app = way.app(broadcaster, topics=asked)
        connection = await way.open(nursery, app, id_)
        again = await way.open(nursery, app, connection.seen.id or id_)
        assert connection.seen.data == wanted(TOLD[:-1], set(asked))
        assert again.seen.data == []
        with broadcaster.subscribe(last_event_id=id_, topics=asked) as subscription:
            assert await drain(subscription) == wanted(TOLD[:-1], set(asked))


async def test_one_whose_id_is_too_old_is_told_even_if_none_of_its_topics_was_missed(
    nursery: trio.Nursery, way: Way, broadcaster: Broadcaster
) -> None:
    """Nobody can know by then what it was that was forgotten."""
    id_ = await where(broadcaster)
    app = way.app(broadcaster, topics=["a"])
    tell_many(broadcaster, 8, "b")
    exact = await way.open(nursery, app, id_)
    tell_many(broadcaster, 1, "b")
    late = await way.open(nursery, app, id_)
    assert exact.seen.events == []
    ((event, reason),) = late.seen.events
    assert event == RESET_EVENT
    assert "too old" in reason


async def test_those_who_come_back_together_get_each_their_own_topics(
    nursery: trio.Nursery, way: Way
) -> None:
    """In any order, though they share the bytes of what they missed."""
    broadcaster = Broadcaster(strict=False, history_size=300)
    id_ = await where(broadcaster)
    told: list[Told] = [(("a", "b", None)[n % 3], str(n)) for n in range(150)]
    told += [("a", str(n)) for n in range(150, 300)]
    tell(broadcaster, *told)
    sets = ("a", "b", "ab", "", "c")
    for asked in [*sets, *reversed(sets), *sets]:
        connection = await way.open(nursery, way.app(broadcaster, topics=[*asked]), id_)
        await wait_all_tasks_blocked()
        assert connection.seen.data == wanted(told, set(asked))
        connection.disconnect()


topics = st.sampled_from([None, "a", "b", "c"])

#: Some topics in turn, and how often: so that blocks of 64 have none, one or several.
stretches = st.lists(st.tuples(st.lists(topics, min_size=1, max_size=3), st.integers(1, 40)))

#: What a client asks for, and how much it has seen.
askers = st.tuples(st.sets(st.sampled_from("abcd")), st.just(0) | st.integers(0, 99))


@settings(
    max_examples=300 if THOROUGH else 15,
    deadline=None,
    database=None,
    phases=[Phase.generate, Phase.shrink],  # To explain takes longer than a test may.
    suppress_health_check=[HealthCheck.too_slow],
)
@given(
    first=stretches,
    later=stretches,
    history_size=st.sampled_from([1, 63, 64, 65, 130, 1000, 1000, 1000]),
    clients=st.lists(askers, min_size=3, max_size=6),
)
def test_what_is_replayed_is_what_the_model_says(
    first: list[tuple[list[str | None], int]],
    later: list[tuple[list[str | None], int]],
    history_size: int,
    clients: list[tuple[set[str], int]],
) -> None:
    """Also when the history moves on between those who share what is joined for them."""
    broadcaster = Broadcaster(strict=False, history_size=history_size)
    told: list[Told] = []
    epoch = ""

    def go_on(stretches: list[tuple[list[str | None], int]]) -> None:
        for names, times in stretches:
            for name in names * times:
                told.append((name, str(len(told))))
                tell(broadcaster, told[-1])

    async def come(asked: set[str], percent: int) -> None:
        number = len(told) * percent // 100
        expected = wanted(told[number:], asked)
        if number < len(told) - history_size:
            expected = ["the last event ID is too old"]
        id_ = f"{epoch}-{number}"
        with broadcaster.subscribe(last_event_id=id_, topics=asked) as subscription:
            assert await drain(subscription) == expected
        async with trio.open_nursery() as nursery:
            app = sse_app(broadcaster, topics=asked)
            connection = await WAYS["sse_app"]().open(nursery, app, id_)
            connection.disconnect()
        assert connection.seen.data == expected

    async def main() -> None:
        nonlocal epoch
        epoch = (await where(broadcaster)).partition("-")[0]
        for stretches in (first, later):
            go_on(stretches)
            for client in clients:
                await come(*client)

    trio.run(main)


# Wrong topics


async def test_one_str_is_no_collection_of_topics(broadcaster: Broadcaster) -> None:
    with pytest.raises(TypeError, match=r"must be a collection of str, such as a list, got 'abc'"):
        broadcaster.subscribe(topics="abc")
    with pytest.raises(TypeError, match="must be a collection of str"):
        sse_app(broadcaster, topics="abc")
    with pytest.raises(TypeError, match="must be a collection of str"):
        await broadcaster.stream(cast("Any", None), topics="abc")
    assert broadcaster.client_count == 0


@pytest.mark.parametrize("topic", [1, b"a", ("a", 1), None], ids=repr)
async def test_a_topic_that_is_no_str_is_refused_wherever_it_is_named(
    broadcaster: Broadcaster, topic: Any
) -> None:
    message = r"a topic must be a str, got "
    with pytest.raises(TypeError, match=message):
        broadcaster.subscribe(topics=["a", topic])
    with pytest.raises(TypeError, match=message):
        sse_app(broadcaster, topics=["a", topic])
    with pytest.raises(TypeError, match=message):
        await broadcaster.stream(cast("Any", None), topics=["a", topic])
    if topic is not None:
        with pytest.raises(TypeError, match=message):
            broadcaster.broadcast("tick", "x", topic=topic)
    assert broadcaster.client_count == broadcaster.statistics().events_broadcast == 0
    tell(broadcaster, (None, "first"))
    assert (await where(broadcaster)).endswith("-1")


# Heartbeats


def heartbeat(id_: str) -> bytes:
    return HEARTBEAT + position(id_)


async def test_a_heartbeat_tells_where_the_stream_is_once_if_it_has_moved_unseen(
    nursery: trio.Nursery, way: Way, broadcaster: Broadcaster, autojump_clock: MockClock
) -> None:
    connection = await way.open(nursery, way.app(broadcaster, topics=["a"]))
    await wait_all_tasks_blocked()
    begin = connection.wire
    await trio.sleep_until(14)
    tell_many(broadcaster, 3, "b")
    await trio.sleep_until(16)
    moved = heartbeat(await where(broadcaster))
    assert connection.wire == begin + moved
    await trio.sleep_until(46)
    assert connection.wire == begin + moved + HEARTBEAT * 2


async def test_a_heartbeat_is_plain_if_all_events_were_the_clients(
    nursery: trio.Nursery, way: Way, broadcaster: Broadcaster, autojump_clock: MockClock
) -> None:
    connection = await way.open(nursery, way.app(broadcaster, topics=["a"]))
    await trio.sleep_until(1)
    tell(broadcaster, ("b", "1"), ("a", "2"), (None, "3"))
    await trio.sleep_until(20)
    assert connection.wire.endswith(b"data: 3\n\n" + HEARTBEAT)
    tell(broadcaster, ("b", "4"), ("a", "5"))
    await trio.sleep_until(40)
    assert connection.wire.endswith(b"data: 5\n\n" + HEARTBEAT)


@pytest.mark.parametrize("name", ["sse_app, direct", "stream, direct"])
async def test_a_heartbeat_is_plain_too_for_one_who_has_caught_up(
    nursery: trio.Nursery, name: str, broadcaster: Broadcaster, autojump_clock: MockClock
) -> None:
    way = WAYS[name]()
    connection = await way.open(nursery, way.app(broadcaster, topics=["a"]))
    assert connection.bypass is not None
    await wait_all_tasks_blocked()
    connection.bypass.fill()
    tell(broadcaster, ("b", "1"), ("a", "2"))
    await wait_all_tasks_blocked()
    connection.bypass.room.set()
    await trio.sleep(16)
    assert connection.wire.endswith(b"data: 2\n\n" + HEARTBEAT)


async def test_a_heartbeat_is_plain_without_a_history(
    nursery: trio.Nursery, way: Way, autojump_clock: MockClock
) -> None:
    broadcaster = Broadcaster(strict=False, history_size=0)
    connection = await way.open(nursery, way.app(broadcaster))
    await trio.sleep_until(1.5)  # When the direct way is open.
    tell_many(broadcaster, 3, "b")
    await trio.sleep_until(17)
    assert connection.wire == HEARTBEAT


async def test_a_heartbeat_tells_an_exact_replay_that_the_stream_went_on_behind_it(
    nursery: trio.Nursery, way: Way, broadcaster: Broadcaster, autojump_clock: MockClock
) -> None:
    id_ = await where(broadcaster)
    tell(broadcaster, ("a", "1"), ("b", "2"))
    last = await where(broadcaster)
    behind = await way.open(nursery, way.app(broadcaster, topics=["a"]), id_)
    nothing = await way.open(nursery, way.app(broadcaster, topics=["c"]), id_)
    everything = await way.open(nursery, way.app(broadcaster, topics=["a", "b"]), id_)
    await trio.sleep(20)
    assert behind.wire.endswith(b"data: 1\n\n" + heartbeat(last))
    assert nothing.wire == heartbeat(last)
    assert everything.wire.endswith(b"data: 2\n\n" + HEARTBEAT)


async def test_clients_that_came_at_different_times_are_each_told_what_they_have_not_seen(
    nursery: trio.Nursery, way: Way, broadcaster: Broadcaster, autojump_clock: MockClock
) -> None:
    """Also those who share a queue on the direct way."""
    app = way.app(broadcaster, topics=["a"])
    early = [await way.open(nursery, app) for _ in range(3)]
    await trio.sleep_until(5)
    tell(broadcaster, ("a", "1"), ("b", "2"))
    await trio.sleep_until(10)
    last = await where(broadcaster)
    late = [await way.open(nursery, app) for _ in range(3)]
    await trio.sleep_until(21)  # Fifteen seconds after the event, and not yet so after coming.
    for connection in early:
        assert connection.wire.endswith(b"data: 1\n\n" + heartbeat(last))
    await trio.sleep_until(26)
    for connection in late:
        assert connection.wire == position(last) + HEARTBEAT


async def test_a_quiet_topic_beside_a_chatty_one_does_not_age_out(
    nursery: trio.Nursery, way: Way, broadcaster: Broadcaster, autojump_clock: MockClock
) -> None:
    app = way.app(broadcaster, topics=["quiet"])
    connection = await way.open(nursery, app)
    for _ in range(5):
        tell_many(broadcaster, 7, "chatty")
        await trio.sleep(16)
    id_ = connection.seen.id
    assert id_ == await where(broadcaster)
    connection.disconnect()
    tell_many(broadcaster, 3, "chatty")
    tell(broadcaster, ("quiet", "missed"))
    tell_many(broadcaster, 4, "chatty")
    again = await way.open(nursery, app, id_)
    assert again.seen.events == [("tick", "missed")]


@pytest.mark.usefixtures("short_turns")
async def test_no_heartbeat_is_ahead_of_an_event_that_still_waits(
    nursery: trio.Nursery, way: Way, mock_clock: MockClock
) -> None:
    """Else one who is cut right behind it has lost that event. Often, since it is a race."""
    broadcaster = Broadcaster(strict=False, heartbeat_interval=1)
    app = way.app(broadcaster, topics=["a"])
    connections: list[Connection] = [await way.open(nursery, app) for _ in range(3)]
    await wait_all_tasks_blocked()
    for _ in range(20):
        mock_clock.jump(1)
        for _ in range(random.randrange(3)):  # noqa: S311 (keeps no secret)
            await trio.lowlevel.checkpoint()
        tell(broadcaster, ("a", "mine"), ("b", "theirs"))
        await wait_all_tasks_blocked()
    for connection in connections:
        assert connection.seen.data == ["mine"] * 20
        numbers = re.findall(rb"^id: \S+-(\d+)$", connection.wire, re.MULTILINE)
        assert numbers == sorted(numbers, key=int)


def test_a_cut_anywhere_is_read_up_to_its_last_whole_block() -> None:
    wire = b"retry: 1\n\nid: 1\nevent: x\ndata: a\n\n: c\n\n" + position("2") + b"data: b\n\n"
    assert see(wire).events == [("x", "a"), ("message", "b")]
    assert see(wire).id == "2"
    assert see(wire[:-1]).events == [("x", "a")]
    assert see(wire[:20], "0") == see(b"", "0")
