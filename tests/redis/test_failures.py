"""What becomes of events and clients when Redis, or the way to it, fails in every way we know."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Generator
from typing import Final

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_sse import RESET_EVENT, ServerSentEvent, sse_app
from trio_sse._core.hub import hub_of
from trio_sse.testing import open_event_stream

from ..support.events import data_of, numbers, take, take_data, told
from ..support.redis_line import line_to
from ..support.redis_server import PERSISTENT, RedisServer, redis_server
from ..support.relay_nodes import Node, Nodes
from ..support.remains import living
from ..support.streams import come_back
from ..support.waiting import PATIENCE, until

#: Seconds after which a node gives up a server that does not answer.
_TIMEOUT: Final = 0.3


@pytest.fixture
def persistent() -> Generator[RedisServer]:
    """A server that forgets nothing."""
    with redis_server(*PERSISTENT) as server:
        yield server


@pytest.fixture
def nodes(nursery: trio.Nursery, server: RedisServer) -> Nodes:
    return Nodes(nursery, server)


def rising(events: list[ServerSentEvent]) -> bool:
    """Whether each event's id is greater than that of the event before it."""
    ids = [tuple(map(int, str(event.id).split("-"))) for event in events]
    return ids == sorted(set(ids))


def gaps(*nodes: Node) -> list[int]:
    return [node.relay.statistics().gaps for node in nodes]


async def until_lost(*nodes: Node) -> None:
    """Wait until nodes know that Redis is away."""
    await until(lambda: not any(node.relay.statistics().ready for node in nodes))


async def until_ready(*nodes: Node) -> None:
    await until(lambda: all(node.relay.statistics().ready for node in nodes))


async def test_a_restart_of_a_server_that_remembers_loses_nothing_and_is_not_noticed(
    nursery: trio.Nursery, persistent: RedisServer
) -> None:
    nodes = Nodes(nursery, persistent)
    here, there = await nodes.start(), await nodes.start()
    with here.broadcaster.subscribe() as client, there.broadcaster.subscribe() as other:
        for first in (1, 101, 201):
            here.broadcast(*numbers(first, first + 49))
            persistent.kill()
            await until_lost(here, there)
            here.broadcast(*numbers(first + 50, first + 99))
            persistent.start()
        events = await take(client, 300)
        assert data_of(events) == numbers(1, 300)
        assert rising(events)
        assert await take(other, 300) == events
    assert gaps(here, there) == [0, 0]
    assert here.relay.statistics().published == 300
    assert nodes.ask("XLEN") == 300


async def test_a_restart_of_a_server_that_forgets_is_told_once_and_then_all_goes_on(
    nodes: Nodes, nursery: trio.Nursery, server: RedisServer
) -> None:
    here, there = await nodes.start(), await nodes.start()
    app = sse_app(there.broadcaster, snapshot=lambda: [("state", "new")])
    renewing = await open_event_stream(nursery, app)
    with here.broadcaster.subscribe() as client, there.broadcaster.subscribe() as other:
        before = await here.publish("1", "2")
        assert await take_data(client, 2) == await take_data(other, 2) == ["1", "2"]
        server.kill()
        await until_lost(here, there)
        here.broadcast(*numbers(3, 60))
        server.start()
        for subscription in (client, other):
            reset, *events = await take(subscription, 59)
            assert (reset.event, reset.id) == (RESET_EVENT, "0-0")
            assert data_of(events) == numbers(3, 60)
        assert gaps(here, there) == [1, 1]
    # Who began with a snapshot needs another one, and so must come back for it.
    with trio.fail_after(PATIENCE):
        seen = told([event async for event in renewing])
    assert seen == [("state", "new"), ("tick", "1"), ("tick", "2")]
    for seen_id in ("0-0", before[0], before[1]):
        again = await come_back(nursery, app, seen_id)
        assert [event.event for event in await take(again, 2)] == [RESET_EVENT, "state"]
    await there.publish("61")
    assert await take_data(again, 1) == ["61"]


async def test_a_server_that_wakes_up_in_the_past_is_told_and_what_comes_then_arrives(
    nodes: Nodes, nursery: trio.Nursery, server: RedisServer
) -> None:
    here, there = await nodes.start(), await nodes.start()
    with here.broadcaster.subscribe() as client, there.broadcaster.subscribe() as other:
        kept = await here.publish("1", "2", "3")
        server.ask("SAVE")
        lost = await here.publish("4", "5")
        assert await take_data(client, 5) == await take_data(other, 5) == numbers(1, 5)
        server.kill()
        await until_lost(here, there)
        here.broadcast("6")
        server.start()
        for subscription in (client, other):
            reset, event = await take(subscription, 2)
            # Both know all up to the third: on from there.
            assert (reset.event, reset.id, event.data) == (RESET_EVENT, kept[-1], "6")
    assert gaps(here, there) == [1, 1]
    app = sse_app(there.broadcaster)
    exact = await come_back(nursery, app, kept[1])
    assert await take_data(exact, 2) == ["3", "6"]
    gone = await come_back(nursery, app, lost[0])
    assert [event.event for event in await take(gone, 1)] == [RESET_EVENT]


@pytest.mark.parametrize("command", ["FLUSHALL", "DEL"])
async def test_a_stream_that_is_deleted_goes_on_behind_a_reset(
    nodes: Nodes, nursery: trio.Nursery, server: RedisServer, command: str
) -> None:
    node = await nodes.start()
    with node.broadcaster.subscribe() as client:
        (old,) = await node.publish("1")
        await take(client, 1)
        server.ask(command, *([nodes.stream] if command == "DEL" else []))
        await until_milliseconds_after(old)
        (new,) = await node.publish("2")
        reset, event = await take(client, 2)
        assert (reset.event, reset.id) == (RESET_EVENT, old)
        assert (event.data, event.id) == ("2", new)
        await node.publish("3")
        assert await take_data(client, 1) == ["3"]
    assert gaps(node) == [1]
    other = await nodes.start()
    stream = await come_back(nursery, sse_app(other.broadcaster), old)
    assert [event.event for event in await take(stream, 1)] == [RESET_EVENT]


async def until_milliseconds_after(event_id: str) -> None:
    """Wait until a new stream could only have greater ids."""
    await until(lambda: time.time() * 1000 > int(event_id.partition("-")[0]) + 1)


@pytest.mark.parametrize("cut", [True, False], ids=["cut", "connected"])
async def test_ids_that_go_back_are_told_and_what_comes_then_arrives(
    nodes: Nodes, server: RedisServer, cut: bool
) -> None:
    """As after a failover to a server whose clock is behind."""
    async with line_to(server) as line:
        in_an_hour = int(time.time() + 3600) * 1000
        nodes.ask("XADD", f"{in_an_hour}-0", "event", "tick", "data", "1")
        node = await nodes.start(line.url)
        with node.broadcaster.subscribe() as client, redis_server() as behind:
            await node.publish("2")
            assert await take_data(client, 1) == ["2"]
            if cut:
                line.server = behind
                line.cut()
            else:
                nodes.ask("DEL")
            await node.publish("maybe lost")
            await until(lambda: gaps(node) == [1])
            (last,) = await node.publish("after")
            reset, *events = await take(client, 2)
            if events[-1].id != last:
                events += await take(client, 1)
            assert reset.event == RESET_EVENT
            assert data_of(events) in (["after"], ["maybe lost", "after"])
            assert events[-1].id == last
            await node.end()


@pytest.mark.parametrize("longer", [False, True], ids=["shortly", "for longer than its timeout"])
async def test_a_server_that_freezes_loses_nothing(
    nodes: Nodes, server: RedisServer, longer: bool
) -> None:
    node = await nodes.start(timeout=_TIMEOUT if longer else 30.0)
    with node.broadcaster.subscribe() as client:
        await until_ready(node)
        server.freeze()
        try:
            node.broadcast(*numbers(1, 50))
            if longer:
                await until_lost(node)
            else:
                with trio.move_on_after(0.2):
                    await take(client, 1)
                    raise AssertionError("a frozen server has answered")
        finally:
            server.thaw()
        node.broadcast(*numbers(51, 100))
        events = await take(client, 100)
        assert data_of(events) == numbers(1, 100)
        assert rising(events)
    assert nodes.ask("XLEN") == 100
    assert gaps(node) == [0]
    assert (node.relay.statistics().sessions_lost > 0) == longer


async def test_a_node_behind_a_black_hole_goes_on_where_it_was_without_a_gap(nodes: Nodes) -> None:
    async with nodes.over_line(timeout=_TIMEOUT, outbox_size=60) as (line, node):
        other = await nodes.start()
        with node.broadcaster.subscribe() as client, other.broadcaster.subscribe() as witness:
            await node.publish("1")
            await until(lambda: node.relay.statistics().outbox_events == 0)
            hole = line.hold()
            node.broadcast(*numbers(2, 50))
            await other.publish("meanwhile")
            await until_lost(node)
            with pytest.raises(trio.WouldBlock, match="outbox is full"):
                node.broadcast(*numbers(51, 200))
            hole.release()
            events = await take(client, 62)
            assert await take(witness, 62) == events
        texts = data_of(events)
        texts.remove("meanwhile")
        assert texts == numbers(1, 61)[:-1] + texts[60:]
        assert rising(events)
        assert gaps(node, other) == [0, 0]


@pytest.mark.parametrize("reset", [False, True], ids=["FIN", "RST"])
async def test_connections_that_are_cut_all_the_time_lose_and_repeat_nothing(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch, reset: bool
) -> None:
    monkeypatch.setattr("trio_sse.redis._session._LONGEST_PAUSE", 0.06)
    async with nodes.over_line(buffer_size=1000) as (line, here):
        there = await nodes.start(line.url, buffer_size=1000)
        with here.broadcaster.subscribe() as client, there.broadcaster.subscribe() as other:
            for first in range(1, 601, 20):
                here.broadcast(*numbers(first, first + 19))
                for _ in range(first % 17):
                    await trio.lowlevel.checkpoint()
                line.cut(reset=reset)
                if first % 3 == 1:
                    await until_ready(here, there)
            events = await take(client, 600)
            assert data_of(events) == numbers(1, 600)
            assert await take(other, 600) == events
        assert gaps(here, there) == [0, 0]
        assert nodes.ask("XLEN") == 600
        await there.end()


async def test_an_acknowledgement_that_is_lost_repeats_nothing(nodes: Nodes) -> None:
    async with nodes.over_line() as (line, node):
        with node.broadcaster.subscribe() as client:
            ids: list[str] = []
            for number in range(5):
                line.loses_reply_to = b"EVAL"
                ids += await node.publish(f"{number}", f"{number} again")
                assert line.loses_reply_to is None
            assert [event.id for event in await take(client, 10)] == ids
        assert nodes.ask("XLEN") == 10
        assert node.relay.statistics().sessions_lost == 5
        assert gaps(node) == [0]


async def test_a_request_that_arrives_after_its_repetition_repeats_nothing(nodes: Nodes) -> None:
    async with nodes.over_line(timeout=_TIMEOUT) as (line, node):
        hold = line.hold(b"EVAL", only_first=True)
        with node.broadcaster.subscribe() as client:
            node.broadcast("1", "2")
            await hold.caught.wait()
            node.broadcast("3")
            assert await take_data(client, 3) == ["1", "2", "3"]
            assert node.relay.statistics().sessions_lost >= 1
            answered = line.answered(b"EVAL")
            hold.release()
            await until(lambda: line.answered(b"EVAL") > answered)
            await node.publish("4")
            assert await take_data(client, 1) == ["4"]
        assert nodes.ask("XLEN") == 4


async def test_a_server_without_memory_refuses_events_and_is_read_all_the_same(
    nodes: Nodes, nursery: trio.Nursery, server: RedisServer
) -> None:
    node = await nodes.start(outbox_size=10, history_size=1)
    with node.broadcaster.subscribe() as client:
        first, *_ = await node.publish("1", "2")
        await take(client, 2)
        server.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
        server.ask("CONFIG", "SET", "maxmemory", "1")
        node.broadcast(*numbers(3, 12))
        await until(lambda: node.relay.statistics().sessions_lost > 1)
        assert "memory" in str(node.relay.statistics().last_error)
        with pytest.raises(trio.WouldBlock, match="outbox is full"):
            node.broadcast("one too many")
        stream = await come_back(nursery, sse_app(node.broadcaster), first)
        assert await take_data(stream, 1) == ["2"]
        assert not node.relay.statistics().ready
        server.ask("CONFIG", "SET", "maxmemory", "0")
        assert await take_data(client, 10) == numbers(3, 12)
    assert gaps(node) == [0]
    assert node.relay.statistics().ready


async def test_a_node_that_was_away_for_longer_than_the_history_says_so_and_goes_on(
    nodes: Nodes,
) -> None:
    async with nodes.over_line() as (line, away):
        other = await nodes.start()
        with away.broadcaster.subscribe() as client:
            await other.publish("1")
            await take(client, 1)
            line.refuses = True
            line.cut()
            await until_lost(away)
            other.broadcast(*numbers(2, 99))
            (last,) = await other.publish("100")
            await until(lambda: other.relay.statistics().head == last)
            nodes.ask("XTRIM", "MAXLEN", 5)
            line.refuses = False
            reset, *events = await take(client, 6)
            assert reset.event == RESET_EVENT
            assert data_of(events) == numbers(96, 100)
        assert gaps(away, other) == [1, 0]


async def test_who_was_away_when_its_node_was_told_of_a_gap_is_told_as_well(nodes: Nodes) -> None:
    async with nodes.over_line(history_size=1) as (line, away):
        other = await nodes.start()
        (*_, last) = await other.publish("1", "2", "3")
        await until(lambda: away.relay.statistics().head == last)
        line.refuses = True
        line.cut()
        await until_lost(away)
        await other.publish("lost")
        nodes.ask("DEL")
        await other.publish("after")
        line.refuses = False
        await until(lambda: gaps(away) == [1])
        replayed = await hub_of(away.broadcaster).replay(last, frozenset())
        assert replayed is not None
        with away.broadcaster.subscribe(last_event_id=replayed.last_event_id) as client:
            assert (await client.receive()).event == RESET_EVENT


async def test_what_is_trimmed_before_a_connected_node_has_read_it_is_told_in_its_place(
    nodes: Nodes,
) -> None:
    async with nodes.over_line() as (line, behind):
        other = await nodes.start()
        with behind.broadcaster.subscribe() as client:
            hold = line.hold(b"XREAD")
            while not hold.caught.is_set():  # It may have asked for the next event before.
                await other.publish("before")
            other.broadcast(*numbers(1, 299))
            (last,) = await other.publish("300")
            await until(lambda: other.relay.statistics().head == last)
            nodes.ask("XTRIM", "MAXLEN", 150)
            hold.release()
            (event,) = await take(client, 1)
            while event.event != RESET_EVENT:
                assert event.data == "before"
                (event,) = await take(client, 1)
            assert await take_data(client, 150) == numbers(151, 300)
        assert gaps(behind, other) == [1, 0]


async def test_redis_is_not_besieged_while_it_is_away(
    nodes: Nodes, caplog: pytest.LogCaptureFixture
) -> None:
    async with nodes.over_line() as (line, node):
        await node.publish("x")
        await until_ready(node)
        assert line.accepted == 3  # One to begin with, one to read by and one to write by.
        line.refuses = True
        line.cut()
        cut_at = trio.current_time()
        await until(lambda: line.accepted == 3 + 5)  # Who writes does when there is something.
        # After 25 to 50 ms, then after 50 to 100, and so on.
        assert trio.current_time() - cut_at > 0.025 * (1 + 2 + 4 + 8 + 16)
        assert caplog.text.count("trying again") == 1
        line.refuses = False
        await node.publish("y")


async def test_connections_that_are_lost_leave_nothing_behind(
    nodes: Nodes, server: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trio_sse.redis._session._LONGEST_PAUSE", 0.01)
    monkeypatch.setattr("trio_sse.redis._session._SHORTEST_PAUSE", 0.01)
    async with nodes.over_line(timeout=_TIMEOUT) as (line, node):
        await node.publish("x")
        await until_ready(node)
        await wait_all_tasks_blocked(0.01)
        before = living()
        clients = connected(server)
        for number in range(50):
            lost = node.relay.statistics().sessions_lost
            hold = line.hold() if number % 10 == 9 else None
            line.cut(reset=bool(number % 2))
            await until(lambda lost=lost: node.relay.statistics().sessions_lost > lost)  # type: ignore[misc]
            if hold is not None:
                hold.release()
            await until_ready(node)
        await node.publish("y")
        await until(lambda: living() == before)
        await until(lambda: connected(server) == clients)
        assert line.accepted < 3 + 50 * 8


def connected(server: RedisServer) -> int:
    return int(server.ask("CLIENT", "LIST").count(b"name=")) - 1


def test_processes_that_fork_with_one_relay_do_not_take_each_others_events_for_repeated(
    server: RedisServer,
) -> None:
    program = (
        "import os, sys, trio\n"
        "from trio_sse import Broadcaster\n"
        "from trio_sse.redis import RedisRelay\n"
        "relay = RedisRelay(sys.argv[1])\n"
        "broadcaster = Broadcaster(strict=False, relay=relay)\n"
        "async def main():\n"
        "    async with trio.open_nursery() as nursery:\n"
        "        await nursery.start(relay.run)\n"
        "        await relay.publish('x', str(os.getpid()))\n"
        "        nursery.cancel_scope.cancel()\n"
        "trio.run(main)\n"
        "child = os.fork()\n"
        "trio.run(main)\n"
        "child and os.waitpid(child, 0)\n"
    )
    subprocess.run([sys.executable, "-c", program, server.url], check=True)
    assert server.ask("XLEN", "trio-sse") == 3
