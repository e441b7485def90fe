"""What vanishes in Redis while the connection to it lives: every hole is told, and none twice."""

from __future__ import annotations

import pytest
import trio

from trio_sse import RESET_EVENT, ServerSentEvent, sse_app

from ..support.events import numbers, take, take_data
from ..support.redis_server import RedisServer
from ..support.relay_nodes import Node, Nodes
from ..support.streams import come_back
from ..support.waiting import until


@pytest.fixture
def nodes(nursery: trio.Nursery, server: RedisServer) -> Nodes:
    return Nodes(nursery, server)


def story(events: list[ServerSentEvent]) -> list[str | None]:
    """Return the numbers that came, and where a reset did."""
    return ["reset" if event.event == RESET_EVENT else event.data for event in events]


async def no_longer_there(nodes: Nodes, command: str) -> None:
    """Wait until a command has done what it says."""
    await until(lambda: nodes.ask("XLEN") == (2 if "2" in command else 0))


@pytest.mark.parametrize(
    "command", ["FLUSHALL", "DEL", "PEXPIRE 1", "XTRIM MAXLEN 0", "XTRIM MAXLEN 2"]
)
async def test_a_node_that_stands_still_meanwhile_tells_the_hole_once(
    nodes: Nodes, nursery: trio.Nursery, server: RedisServer, command: str
) -> None:
    """It has less than a page to read, over a connection that never failed."""
    writer = await nodes.start()
    async with nodes.over_line() as (line, node):
        client = node.broadcaster.subscribe()
        (seen,) = await writer.publish("1")
        await take(client, 1)
        stopped = line.hold()
        (missed, *_) = await writer.publish(*numbers(2, 9))
        verb, *rest = command.split()
        server.ask(verb, *([] if verb == "FLUSHALL" else [nodes.stream]), *rest)
        await no_longer_there(nodes, command)
        await trio.sleep(0.002)  # An id is a time, and a new stream's first may not be an old one.
        await writer.publish(*numbers(10, 19))
        stopped.release()
        # What Redis had sent before the hole comes before it.
        await until(lambda: node.relay.statistics().received > 0 and node.relay.statistics().ready)
        events: list[ServerSentEvent] = []
        while not events or events[-1].data != "19":
            events += await take(client, 1)
        told = story(events)
        assert told.count("reset") == 1
        before, after = told[: told.index("reset")], told[told.index("reset") + 1 :]
        assert before == numbers(2, 9)[: len(before)]
        assert after == (["8", "9"] if "2" in command else []) + numbers(10, 19)
        assert node.relay.statistics().gaps == 1
        # Its memory does not serve as exact what is not.
        for event_id in (seen, missed):
            stream = await come_back(nursery, sse_app(node.broadcaster), event_id)
            (reset,) = await take(stream, 1)
            assert reset.event == RESET_EVENT or event_id == events[0].id
            stream.disconnect()


async def test_a_process_that_keeps_fewer_takes_nothing_from_another_in_silence(
    nodes: Nodes,
) -> None:
    """As in a deploy that lowers `maxlen`; large entries are trimmed one by one."""
    async with nodes.over_line(maxlen=10_000) as (line, node):
        client = node.broadcaster.subscribe()
        newer = await nodes.start(maxlen=5)
        text = "x" * 5_000
        await newer.publish(text)
        await take(client, 1)
        stopped = line.hold()
        await newer.publish(*(f"{n}{text}" for n in range(40)))
        stopped.release()
        events = await take(client, 1)
        while str(events[-1].data)[:2] != "39":
            events += await take(client, 1)
        numbers_seen = [int(str(e.data).partition("x")[0]) for e in events if e.event == "tick"]
        assert [event.event for event in events].count(RESET_EVENT) == 1
        assert numbers_seen[-5:] == [35, 36, 37, 38, 39]
        assert len(numbers_seen) < 40


async def test_what_was_read_to_the_end_before_it_vanished_waits_for_the_next_event(
    nodes: Nodes, server: RedisServer
) -> None:
    """Nothing is told before there may be a hole, and an own event that is gone holds up nobody."""
    async with nodes.over_line(maxlen=1, outbox_size=1) as (line, node):
        client = node.broadcaster.subscribe()
        hold = line.hold(replies_to=b"XREAD")
        await node.publish("1")
        await hold.caught.wait()
        server.ask("FLUSHALL")
        hold.release()
        await take(client, 1)
        await node.publish("2")
        assert story(await take(client, 2)) == ["reset", "2"]


async def test_an_event_of_ones_own_that_was_deleted_is_not_waited_for(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trio_sse.redis._commands._BLOCKS", 0.05)
    async with nodes.over_line(outbox_size=1) as (line, node):
        hold = line.hold(b"XREAD")
        await hold.caught.wait()
        (event_id,) = await node.publish("1")
        nodes.ask("XDEL", event_id)
        with pytest.raises(trio.WouldBlock):
            node.broadcast("2")
        hold.release()
        with trio.fail_after(30):
            await node.broadcaster.wait_all_taken()
        assert node.relay.statistics().outbox_events == 0


@pytest.mark.parametrize("history_size", [2, 10, 600])
async def test_a_node_that_comes_later_remembers_what_is_in_the_stream(
    nodes: Nodes, history_size: int
) -> None:
    """A restarted process is not an empty page; what is no event takes no room."""
    writer = await nodes.start()
    ids = await writer.publish(*numbers(1, 8))
    nodes.ask("XADD", "*", "no", "event")
    last = (await writer.publish("9"))[0]
    later = await nodes.start(history_size=history_size)
    assert later.broadcaster.last_event_id == last
    first = ids[-1] if history_size == 2 else ids[0]
    with later.broadcaster.subscribe(last_event_id=first) as client:
        expected = numbers(9, 9) if history_size == 2 else numbers(2, 9)
        assert await take_data(client, len(expected)) == expected
        await writer.publish("live")
        assert await take_data(client, 1) == ["live"]


async def test_a_node_remembers_the_end_of_a_stream_that_was_trimmed(nodes: Nodes) -> None:
    writer = await nodes.start()
    ids = await writer.publish(*numbers(1, 9))
    nodes.ask("XTRIM", "MAXLEN", 4)
    later = await nodes.start(history_size=10)
    with later.broadcaster.subscribe(last_event_id=ids[5]) as client:
        assert await take_data(client, 3) == numbers(7, 9)
    with later.broadcaster.subscribe(last_event_id=ids[4]) as client:
        assert story(await take(client, 1)) == ["reset"]


async def test_a_node_that_may_not_look_back_begins_with_an_empty_memory(
    nodes: Nodes, server: RedisServer
) -> None:
    writer = await nodes.start()
    ids = await writer.publish(*numbers(1, 9))
    nodes.ask("XTRIM", "MAXLEN", 4)
    server.ask("ACL", "SETUSER", "u", "on", ">p", "~*", "+@all", "-xrevrange")
    later = await nodes.start(server.url.replace("//", "//u:p@"))
    with later.broadcaster.subscribe(last_event_id=ids[-2]) as client:
        assert story(await take(client, 1)) == ["reset"]
        await writer.publish("live")
        assert story(await take(client, 1)) == ["live"]


async def test_what_is_trimmed_while_a_node_looks_back_is_not_remembered(nodes: Nodes) -> None:
    writer = await nodes.start()
    ids = await writer.publish(*numbers(1, 300))
    async with nodes.over_line(timeout=5) as (line, held):
        await held.end()
        node = Node(line.url, nodes.stream, history_size=300)
        hold = line.hold(replies_to=b"262144\r\n$7\r\n1048576", only_first=True)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(nodes.run, node)
            await hold.caught.wait()
            nodes.ask("XTRIM", "MAXLEN", 4)
            hold.release()
        with node.broadcaster.subscribe(last_event_id=ids[-3]) as client:
            assert story(await take(client, 1)) == ["reset"]
        await node.end()
