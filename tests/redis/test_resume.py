"""A client that comes back, to another process too: what it missed, or word that none knows it."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_sse import RESET_EVENT, sse_app
from trio_sse.testing import EventStream, open_event_stream

from ..support.apps import AppOf
from ..support.asgi import App
from ..support.events import numbers, take, take_data
from ..support.redis_line import line_to
from ..support.redis_server import RedisServer
from ..support.relay_nodes import Node, Nodes
from ..support.streams import check_reset, come_back, position
from ..support.thorough import THOROUGH
from ..support.waiting import until
from ..support.ways import stream_app

#: In each request for a page of the past: how large it and its events may be.
_PAGE: Final = b"\r\n262144\r\n$7\r\n1048576\r\n"


async def come_back_until_served(
    nursery: trio.Nursery, app: App, last_event_id: str
) -> EventStream:
    """Come back as a browser does, which is told to if it is too early."""
    while True:
        stream = await come_back(nursery, app, last_event_id)
        await until(partial(has_begun, stream))
        if not stream.complete:
            return stream


def come_back_soon(nursery: trio.Nursery, app: App, last_event_id: str) -> list[EventStream]:
    """Request the stream meanwhile: it is in the list once its response has begun."""
    streams: list[EventStream] = []

    async def come() -> None:
        streams.append(await come_back(nursery, app, last_event_id))

    nursery.start_soon(come)
    return streams


def has_begun(stream: EventStream) -> bool:
    return stream.complete or b"data" in stream.raw_bytes


async def publish(node: Node, count: int) -> list[str]:
    """Publish the numbers from 1 on; return the ids of the first and the last, when it is here."""
    first = await node.publish("1")
    node.broadcast(*numbers(2, count - 1))
    last = await node.publish(str(count))
    await until_at(node, last[0])
    return [*first, *last]


async def until_at(node: Node, event_id: str) -> None:
    """Wait until an event has come to a node."""
    await until(lambda: node.relay.statistics().head == event_id)


async def test_who_comes_back_to_another_node_gets_exactly_what_it_missed(
    nodes: Nodes, nursery: trio.Nursery, app_of: AppOf
) -> None:
    here, there = await nodes.start(), await nodes.start()
    ids = await here.publish("1", "2", "3", "4")
    await until(lambda: there.relay.statistics().received == 4)
    for seen in range(1, 5):
        stream = await come_back(nursery, app_of(there.broadcaster), ids[seen - 1])
        (extra,) = await here.publish("live")
        events = await take(stream, 4 - seen + seen)
        assert [event.id for event in events][: 4 - seen] == ids[seen:]
        assert extra in stream.raw_bytes.decode()
        stream.disconnect()


@pytest.mark.parametrize("count", [40, 251, 252, 700] if THOROUGH else [252])
async def test_what_a_node_does_not_have_comes_out_of_redis_page_by_page(
    nodes: Nodes, nursery: trio.Nursery, app_of: AppOf, count: int
) -> None:
    here = await nodes.start(history_size=4)
    first, last = await publish(here, count)
    later = await nodes.start(history_size=4)
    for lives, node in enumerate((here, later), 1):
        await until_at(node, last)
        stream = await come_back(nursery, app_of(node.broadcaster), first)
        assert await take_data(stream, count - 1) == numbers(2, count)
        (last,) = await here.publish("live")
        events = await take(stream, lives)
        assert [event.data for event in events] == ["live"] * lives
        assert events[-1].id == last
        assert node.relay.statistics().recalling == 0
        # No block more than the events: there was no reset, and no position.
        assert stream.raw_bytes.count(b"\n\n") == count - 1 + lives
        stream.disconnect()


async def test_topics_are_chosen_from_what_was_missed_as_from_what_comes(
    nodes: Nodes, nursery: trio.Nursery
) -> None:
    here, there = await nodes.start(), await nodes.start(history_size=2)
    (first,) = await here.publish("first")
    for number in range(10):
        here.broadcast(f"{number} a", topic="a")
        here.broadcast(f"{number} b", topic="b")
        here.broadcast(f"{number}")
    await here.publish("last")
    await until(lambda: there.relay.statistics().received == 32)
    app = sse_app(there.broadcaster, topics=["a"])
    wanted = [text for number in range(10) for text in (f"{number} a", f"{number}")]
    streams = [await come_back(nursery, app, first) for _ in range(2)]
    streams.append(await come_back(nursery, sse_app(there.broadcaster), first))
    assert await take_data(streams[0], 21) == [*wanted, "last"]
    assert await take_data(streams[1], 21) == [*wanted, "last"]
    assert await take_data(streams[2], 11) == [*numbers(0, 9), "last"]


async def test_a_node_that_is_behind_the_client_waits_until_it_is_not(
    nodes: Nodes, nursery: trio.Nursery, app_of: AppOf, redis: RedisServer
) -> None:
    async with line_to(redis) as line:
        ahead, behind = await nodes.start(), await nodes.start(line.url)
        hold = line.hold(replies_to=b"XREAD")
        ids = await ahead.publish("1", "2", "3")
        await hold.caught.wait()
        streams = come_back_soon(nursery, app_of(behind.broadcaster), ids[1])
        await until(lambda: behind.relay.statistics().recalling == 1)
        await until(lambda: line.answered(_PAGE) == 1)
        await wait_all_tasks_blocked(0.01)
        assert behind.relay.statistics().recalling == 1
        assert behind.relay.statistics().head == "0-0"
        hold.release()
        await until(lambda: len(streams) == 1)
        assert [(event.data, event.id) for event in await take(streams[0], 1)] == [("3", ids[2])]
        (live,) = await ahead.publish("4")
        assert [(event.data, event.id) for event in await take(streams[0], 1)] == [("4", live)]
        await behind.end()


#: Ids that do not tell what was missed, and what their clients are told.
_USELESS: Final = {
    "{trimmed}": "too old, or of events that were lost",
    "{deleted}": "too old, or of events that were lost",
    "1-1": "too old, or of events that were lost",
    "0-0": "too old, or of events that were lost",
    "9999999999999-0": "still to come",
    "18446744073709551615-18446744073709551615": "still to come",
    "18446744073709551616-0": "malformed",
    "1-18446744073709551616": "malformed",
    "123456789012345678901-1": "malformed",
    "01-1": "malformed",
    "-": "malformed",
    "+": "malformed",
    "$": "malformed",
    "1": "malformed",
    "1-1 ": "malformed",
    "(1-1": "malformed",
    "1-1 + COUNT": "malformed",
    "١-١": "malformed",  # noqa: RUF001 (Arabic digits)
    "x" * 100_000: "malformed",
    "\ud800": "malformed",
    "0123456789ab-1": "malformed",
}


async def test_an_id_that_does_not_tell_what_was_missed_is_answered_with_a_reset(
    nodes: Nodes, nursery: trio.Nursery, app_of: AppOf
) -> None:
    node = await nodes.start(history_size=2)
    ids = await node.publish(*numbers(1, 9))
    await until_at(node, ids[-1])
    nodes.ask("XTRIM", "MAXLEN", 8)
    nodes.ask("XDEL", ids[4])
    for text, reason in _USELESS.items():
        sent = text.replace("{trimmed}", ids[0]).replace("{deleted}", ids[4])
        header = sent.encode("utf-8", "surrogatepass").decode("latin-1")
        stream = await come_back(nursery, app_of(node.broadcaster), header)
        (event,) = await take(stream, 1)
        check_reset(stream, event, reason, ids[-1])
    assert nodes.ask("EXISTS") == 1
    assert node.relay.statistics().sessions_lost == 0


@pytest.mark.parametrize("app_of", [sse_app, stream_app], ids=["sse_app", "stream"])
async def test_a_reset_is_followed_by_the_state_and_by_where_that_is(
    nodes: Nodes, nursery: trio.Nursery, app_of: Callable[..., App]
) -> None:
    node = await nodes.start()
    (last,) = await node.publish("x")
    await until(lambda: node.relay.statistics().received == 1)
    app = app_of(node.broadcaster, snapshot=lambda: [("state", "now")])
    stream = await come_back(nursery, app, "1-1")
    reset, state = await take(stream, 2)
    assert (reset.event, state.event, state.data) == (RESET_EVENT, "state", "now")
    assert stream.raw_bytes.endswith(b"event: state\ndata: now\n\n" + position(last))
    exact = await come_back(nursery, app, last)
    await node.publish("y")
    assert [(event.event, event.data) for event in await take(exact, 1)] == [("tick", "y")]


async def test_who_came_before_the_first_event_may_come_back_to_any_node(
    nodes: Nodes, nursery: trio.Nursery, app_of: AppOf
) -> None:
    here = await nodes.start()
    stream = await open_event_stream(nursery, app_of(here.broadcaster))
    await until(lambda: stream.raw_bytes == position("0-0"))
    stream.disconnect()
    await publish(here, 30)
    later = await nodes.start(history_size=2)
    for node in (here, later):
        stream = await come_back(nursery, app_of(node.broadcaster), "0-0")
        assert await take_data(stream, 30) == numbers(1, 30)


async def test_redis_keeps_as_many_events_as_was_asked_for(nodes: Nodes) -> None:
    node = await nodes.start(maxlen=150)
    await publish(node, 900)
    assert 150 <= nodes.ask("XLEN") < 450  # It trims by whole blocks of a hundred.


async def test_what_was_trimmed_while_it_was_read_is_a_gap_and_none_of_it_is_sent(
    nodes: Nodes, nursery: trio.Nursery, app_of: AppOf
) -> None:
    async with nodes.over_line(history_size=2) as (line, node):
        first, _ = await publish(node, 600)
        hold = line.hold(replies_to=b"XRANGE")
        streams = come_back_soon(nursery, app_of(node.broadcaster), first)
        await hold.caught.wait()
        nodes.ask("XTRIM", "MAXLEN", 100)
        hold.release()
        await until(lambda: len(streams) == 1)
        assert [event.event for event in await take(streams[0], 1)] == [RESET_EVENT]
        assert b"tick" not in streams[0].raw_bytes


async def test_while_redis_is_away_what_is_at_hand_is_served_and_others_come_back_later(
    nodes: Nodes, nursery: trio.Nursery, app_of: AppOf
) -> None:
    async with nodes.over_line(history_size=2, timeout=0.2) as (line, node):
        ids = await node.publish("1", "2", "3", "4")
        await until(lambda: node.relay.statistics().received == 4)
        line.refuses = True
        line.cut()
        await until(lambda: not node.relay.statistics().ready)
        live = await open_event_stream(nursery, app_of(node.broadcaster))
        await until(lambda: live.raw_bytes == position(ids[-1]))
        covered = await come_back(nursery, app_of(node.broadcaster), ids[1])
        assert await take_data(covered, 2) == ["3", "4"]
        later = await come_back(nursery, app_of(node.broadcaster), ids[0])
        await until(lambda: later.complete)
        # A browser would take any status but 200 for the end.
        assert later.status == 200
        assert later.raw_bytes == b"" or later.raw_bytes.startswith(b"retry: ")
        line.refuses = False
        again = await come_back_until_served(nursery, app_of(node.broadcaster), ids[0])
        assert await take_data(again, 3) == ["2", "3", "4"]
        await node.publish("5")
        for stream in (live, covered, again):
            assert await take_data(stream, 1) == ["5"]


async def test_before_the_relay_has_started_clients_wait_and_then_come_back_later(
    nodes: Nodes, nursery: trio.Nursery, app_of: AppOf, redis: RedisServer
) -> None:
    node = Node(redis.url, nodes.stream, timeout=0.05)
    later = await open_event_stream(nursery, app_of(node.broadcaster))
    await until(lambda: later.complete)
    assert later.status == 200
    patient = Node(redis.url, nodes.stream)
    streams: list[EventStream] = []

    async def come() -> None:
        streams.append(await open_event_stream(nursery, app_of(patient.broadcaster)))

    nursery.start_soon(come)
    await until(lambda: patient.relay.statistics().recalling == 1)
    await nodes.run(patient)
    await until(lambda: patient.broadcaster.client_count == len(streams) == 1)
    await patient.publish("x")
    assert await take_data(streams[0], 1) == ["x"]


async def test_a_permission_that_was_withdrawn_is_no_failure_of_the_clients_request(
    nodes: Nodes, nursery: trio.Nursery, app_of: AppOf, redis: RedisServer
) -> None:
    user = f"user-{nodes.stream}"
    redis.ask("ACL", "SETUSER", user, "on", ">password", "~*", "+@all")
    url = redis.url.replace("//", f"//{user}:password@")
    node = await nodes.start(url, history_size=1, timeout=0.2)
    ids = await node.publish("1", "2", "3")
    await until(lambda: node.relay.statistics().received == 3)
    redis.ask("ACL", "SETUSER", user, "-xrange")
    stream = await come_back(nursery, app_of(node.broadcaster), ids[0])
    await until(lambda: stream.complete)
    assert b"tick" not in stream.raw_bytes
    redis.ask("ACL", "SETUSER", user, "+@all")
    stream = await come_back_until_served(nursery, app_of(node.broadcaster), ids[0])
    assert await take_data(stream, 2) == ["2", "3"]


async def test_many_who_come_back_from_the_same_place_read_it_once(
    nodes: Nodes, nursery: trio.Nursery, app_of: AppOf
) -> None:
    async with nodes.over_line(history_size=2) as (line, node):
        first, _ = await publish(node, 300)
        hold = line.hold(replies_to=b"XRANGE")
        before = line.accepted
        app = app_of(node.broadcaster)
        waiting = [come_back_soon(nursery, app, first) for _ in range(10)]
        await until(lambda: node.relay.statistics().recalling == 10)
        hold.release()
        await until(lambda: node.broadcaster.client_count == 10 and all(waiting))
        # Two pages, by one connection.
        assert (line.accepted - before, line.answered(_PAGE)) == (1, 2)
        for (stream,) in waiting:
            assert await take_data(stream, 299) == numbers(2, 300)


async def test_who_comes_back_from_within_what_is_read_for_another_is_no_burden(
    nodes: Nodes, nursery: trio.Nursery
) -> None:
    async with nodes.over_line(history_size=2) as (line, node):
        await node.publish("0")
        ids = await publish(node, 300)
        ((early, _),) = nodes.ask("XRANGE", ids[0], "+", "COUNT", 101)[100:]
        hold = line.hold(replies_to=second_page_after(nodes, ids[0]))
        app = sse_app(node.broadcaster)
        first = come_back_soon(nursery, app, ids[0])
        await hold.caught.wait()
        second = come_back_soon(nursery, app, early.decode())
        await until(lambda: node.relay.statistics().recalling == 2)
        hold.release()
        await until(lambda: len(first) == len(second) == 1)
        assert await take_data(first[0], 299) == numbers(2, 300)
        assert await take_data(second[0], 199) == numbers(102, 300)
        assert line.answered(_PAGE) == 2


def second_page_after(nodes: Nodes, first: str) -> bytes:
    """Return the id by which the second page after another one is asked for."""
    entry_id, _ = nodes.ask("XRANGE", first, "+", "COUNT", 251)[250]
    return bytes(entry_id)


async def test_ids_that_somebody_makes_up_cost_nobody_a_turn(
    nodes: Nodes, nursery: trio.Nursery
) -> None:
    """Each has its turn as it came, whatever its id looks like."""
    async with nodes.over_line(history_size=2) as (line, node):
        first, _ = await publish(node, 300)
        app = sse_app(node.broadcaster)
        hold = line.hold(replies_to=_PAGE, only_first=True)
        ids = ["3-0", first, "1-0", "2-7", "99999999999999-0"]
        streams: list[list[EventStream]] = []
        for number, event_id in enumerate(ids, 1):
            streams.append(come_back_soon(nursery, app, event_id))
            await until(partial(is_waiting, node, number))
        await hold.caught.wait()
        hold.release()
        await until(lambda: all(streams))
        asked = [bytes(request) for request in line.requests if _PAGE in request]
        turns = [next(n for n, request in enumerate(asked) if i.encode() in request) for i in ids]
        assert turns == sorted(turns)
        assert await take_data(streams[1][0], 299) == numbers(2, 300)
        for (stream,) in [*streams[:1], *streams[2:]]:
            assert [event.event for event in await take(stream, 1)] == [RESET_EVENT]


def is_waiting(node: Node, count: int) -> bool:
    return node.relay.statistics().recalling == count


async def test_what_is_read_for_one_who_has_left_harms_nobody(
    nodes: Nodes, nursery: trio.Nursery
) -> None:
    async with nodes.over_line(history_size=2) as (line, node):
        ids = await publish(node, 30)
        app = sse_app(node.broadcaster)
        hold = line.hold(replies_to=_PAGE)
        async with trio.open_nursery() as impatient:
            impatient.start_soon(come_back, impatient, app, ids[0])
            await hold.caught.wait()
            impatient.cancel_scope.cancel()
        assert node.relay.statistics().recalling == 0
        hold.release()
        stream = await come_back(nursery, app, ids[0])
        assert await take_data(stream, 29) == numbers(2, 30)


async def test_what_is_kept_of_what_was_read_is_bounded_and_so_are_those_who_wait(
    nodes: Nodes, nursery: trio.Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trio_sse.redis._replay._MAX_KEPT", 100)
    monkeypatch.setattr("trio_sse.redis._replay._MAX_WANTED", 1)
    monkeypatch.setattr("trio_sse.redis._replay._IDLE", 0.01)
    async with nodes.over_line(history_size=2) as (line, node):
        ids = await publish(node, 300)
        hold = line.hold(replies_to=b"XRANGE")
        streams = come_back_soon(nursery, sse_app(node.broadcaster), ids[0])
        await hold.caught.wait()
        one_more = await come_back(nursery, sse_app(node.broadcaster), "1-1")
        assert one_more.complete
        hold.release()
        await until(lambda: len(streams) == 1)
        assert await take_data(streams[0], 299) == numbers(2, 300)
        # Nobody asks, so the connection is given back; the next one opens another.
        await until(lambda: line.connections == 2)
        again = await come_back(nursery, sse_app(node.broadcaster), ids[0])
        assert await take_data(again, 299) == numbers(2, 300)


async def test_a_slow_client_that_was_pruned_gets_exactly_what_it_missed(
    nodes: Nodes, nursery: trio.Nursery, app_of: AppOf
) -> None:
    here, there = await nodes.start(buffer_size=4), await nodes.start(history_size=8)
    stream = await open_event_stream(nursery, app_of(here.broadcaster))
    await until(lambda: here.broadcaster.client_count == 1)
    stream.stall()
    _, last = await publish(there, 60)
    await until_at(here, last)
    assert here.broadcaster.statistics().clients_pruned == 1
    stream.resume()
    seen = [event async for event in stream]
    again = await come_back(nursery, app_of(there.broadcaster), seen[-1].id if seen else "0-0")
    rest = await take(again, 60 - len(seen))
    assert [event.data for event in [*seen, *rest]] == numbers(1, 60)


async def test_a_subscriber_inside_the_program_knows_what_its_node_knows(nodes: Nodes) -> None:
    node = await nodes.start(history_size=2)
    ids = await node.publish("1", "2", "3")
    await until(lambda: node.relay.statistics().received == 3)
    with node.broadcaster.subscribe(last_event_id=ids[1]) as subscription:
        assert subscription.receive_nowait().data == "3"
    with node.broadcaster.subscribe(last_event_id="9999999999999-0") as subscription:
        assert subscription.receive_nowait().event == RESET_EVENT


async def test_a_broadcaster_without_a_history_still_takes_clients_back(
    nodes: Nodes, nursery: trio.Nursery, app_of: AppOf
) -> None:
    node = await nodes.start(history_size=0)
    first, _ = await publish(node, 30)
    stream = await come_back(nursery, app_of(node.broadcaster), first)
    assert await take_data(stream, 29) == numbers(2, 30)


async def test_who_comes_back_to_a_closed_broadcaster_is_sent_away(
    nodes: Nodes, nursery: trio.Nursery, app_of: AppOf
) -> None:
    node = await nodes.start()
    (first,) = await node.publish("1")
    app = app_of(node.broadcaster)
    node.broadcaster.close()
    stream = await come_back(nursery, app, first)
    await until(lambda: stream.complete)
    assert b"tick" not in stream.raw_bytes
    with pytest.raises(trio.ClosedResourceError):
        node.broadcast("2")
