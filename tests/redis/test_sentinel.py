"""A relay that asks Sentinels where the primary is: real ones, through real failovers."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import ExitStack
from typing import final

import attrs
import pytest
import trio

from trio_sse import RESET_EVENT, ServerSentEvent, Subscription
from trio_sse.redis import RedisRelay, RefusedError

from ..support.events import numbers, take_data
from ..support.redis_line import line_to
from ..support.redis_server import PERSISTENT, RedisServer, redis_server, sentinel
from ..support.relay_nodes import Node, Nodes
from ..support.tcp import free_port
from ..support.thorough import THOROUGH
from ..support.waiting import PATIENCE, until
from .test_access import tls


@final
@attrs.frozen
class Fleet:
    """A primary, its replica, and Sentinels, two of which can decide."""

    primary: RedisServer
    replica: RedisServer
    sentinels: list[RedisServer]

    @property
    def url(self) -> str:
        hosts = ",".join(f"127.0.0.1:{server.port}" for server in self.sentinels)
        return f"redis+sentinel://127.0.0.1:{free_port()},{hosts}/service/0"

    @property
    def servers(self) -> tuple[RedisServer, RedisServer]:
        """Who is the primary now, as a Sentinel says, and the other one."""
        _, port = self.sentinels[0].ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "service")
        if int(port) == self.primary.port:
            return self.primary, self.replica
        return self.replica, self.primary

    def is_in_touch(self) -> bool:
        """Whether the other one has what the primary has, and follows it."""
        return b"state=online" in self.servers[0].ask("INFO", "replication")

    def is_ready(self) -> bool:
        """Whether all Sentinels know each other and the replica."""
        ports = str(self.replica.port).encode()
        return all(
            len(one.ask("SENTINEL", "SENTINELS", "service")) == len(self.sentinels) - 1
            and any(ports in replica for replica in one.ask("SENTINEL", "REPLICAS", "service"))
            for one in self.sentinels
        )


@pytest.fixture
def fleet() -> Generator[Fleet]:
    with ExitStack() as stack:
        primary = stack.enter_context(redis_server(*PERSISTENT))
        follow = ("--replicaof", f"127.0.0.1 {primary.port}")
        replica = stack.enter_context(redis_server(*PERSISTENT, *follow))
        sentinels = [stack.enter_context(sentinel(primary, quorum=2)) for _ in range(3)]
        yield Fleet(primary, replica, sentinels)


async def test_a_failover_loses_nothing_that_the_new_primary_has(
    fleet: Fleet, nursery: trio.Nursery
) -> None:
    """One address answers nobody; the relay asks the next, and goes on at the new primary."""
    await until(fleet.is_ready)
    nodes = Nodes(nursery, fleet.primary)
    here, there = [await nodes.start(fleet.url, timeout=0.5) for _ in range(2)]
    with here.broadcaster.subscribe() as client, there.broadcaster.subscribe() as other:
        await here.publish(*numbers(1, 20))
        await take_data(client, 20)
        caught_up = str(fleet.primary.ask("XLEN", nodes.stream))
        await until(lambda: str(fleet.replica.ask("XLEN", nodes.stream)) == caught_up)
        fleet.primary.kill()
        with trio.fail_after(PATIENCE):
            await there.publish(*numbers(21, 40))
            assert await take_data(client, 20) == numbers(21, 40)
            assert await take_data(other, 40) == numbers(1, 40)
    assert fleet.replica.ask("XLEN", nodes.stream) == 40
    assert [node.relay.statistics().gaps for node in (here, there)] == [0, 0]


async def publish_all_the_time(node: Node, name: str, over: trio.Event) -> None:
    number = 0
    while not over.is_set():
        await node.publish(f"{name} {number}")
        number += 1
    await node.publish(f"{name} last")


async def read_to_the_end(client: Subscription) -> list[ServerSentEvent]:
    """Return the events, up to the last one of both nodes."""
    told: list[ServerSentEvent] = []
    lasts = 0
    async for event in client:
        told.append(event)
        lasts += event.data in ("here last", "there last")
        if lasts == 2:
            break
    return told


async def fail_over(fleet: Fleet) -> None:
    """Kill the primary; start it again as soon as one Sentinel names the other one."""
    primary, other = fleet.servers
    primary.kill()
    await until(lambda: fleet.servers[0] is other)
    primary.start()


def check_told(told: Sequence[ServerSentEvent], left: Sequence[str]) -> None:
    """A client's story is of one history, all and in order, from one reset to the next.

    What was said between two resets may be of a history that is gone since, and be said again in
    the other one; but nobody goes from one history to another without a reset.
    """
    positions = {entry: position for position, entry in enumerate(left)}
    before: int | None = -1
    gone = False
    said: set[str | None] = set()
    for event in told:
        if event.event == RESET_EVENT:
            before, gone = None, False
            said.clear()
            continue
        assert event.data not in said, f"{event.data} came again"
        said.add(event.data)
        position = positions.get(event.id or "")
        if position is None:
            gone = True
            continue
        assert not gone, f"{event.data} came after what is gone, without a reset"
        assert before is None or position == before + 1, f"missed before {event.data}"
        before = position


async def test_failovers_under_load_lose_nothing_in_silence_that_the_new_primary_has(
    fleet: Fleet, nursery: trio.Nursery
) -> None:
    await until(fleet.is_ready)
    nodes = Nodes(nursery, fleet.primary)
    over = trio.Event()
    stories: list[list[ServerSentEvent]] = []

    async def read(client: Subscription) -> None:
        stories.append(await read_to_the_end(client))

    with trio.fail_after(3 * PATIENCE):
        async with trio.open_nursery() as load:
            started = [await nodes.start(fleet.url, timeout=0.5, maxlen=10**6) for _ in range(2)]
            for name, node in zip(("here", "there"), started, strict=True):
                load.start_soon(read, node.broadcaster.subscribe())
                load.start_soon(publish_all_the_time, node, name, over)
            for _ in range(2 if THOROUGH else 1):
                await trio.sleep(0.1)
                await fail_over(fleet)
                await until(fleet.is_in_touch)  # What is said now cannot be lost any more.
            over.set()
    entries = fleet.servers[0].ask("XRANGE", nodes.stream, "-", "+")
    left = [entry.decode() for entry, _ in entries]
    assert len(stories) == 2
    for told in stories:
        check_told(told, left)


async def test_an_id_is_of_one_history_only(nursery: trio.Nursery, redis: RedisServer) -> None:
    """Two primaries, for as long as Sentinels disagree, write in the same millisecond."""
    node = await Nodes(nursery, redis).start()
    ids = await node.publish(*numbers(1, 20))
    assert "0" not in {event_id.partition("-")[2] for event_id in ids}
    assert len({event_id.partition("-")[2] for event_id in ids}) == len(ids)


async def refusal(hosts: str) -> str:
    """Return why a relay does not start that asks these Sentinels."""
    node = Node(f"redis+sentinel://{hosts}/other", "stream", timeout=0.5)
    with pytest.raises(RefusedError) as caught, trio.fail_after(PATIENCE):
        await node.relay.run()
    return str(caught.value)


async def test_what_no_sentinel_knows_is_refused(redis: RedisServer) -> None:
    """Whether or not all of them are there."""
    with sentinel(redis) as server:
        there, away = f"127.0.0.1:{server.port}", f"127.0.0.1:{free_port()}"
        for hosts in (there, f"{away},{there}", f"{there},{away}"):
            assert "no Sentinel knows the service 'other'" in await refusal(hosts)


async def test_what_is_wrong_with_a_sentinel_is_told_as_that(redis: RedisServer) -> None:
    host = f"127.0.0.1:{redis.port}"
    assert "this is no Sentinel: the URL must begin with redis://" in await refusal(host)
    with sentinel(redis) as server:
        server.ask("ACL", "SETUSER", "default", "resetpass", ">secret")
        why = await refusal(f"127.0.0.1:{server.port}")
        assert "Sentinels that want a password are not supported" in why
    async with line_to(redis, tls("localhost")[0]) as line:
        assert "Sentinels are asked without TLS" in await refusal(f"localhost:{line.port}")


async def test_a_sentinel_that_does_not_know_yet_who_the_primary_is(
    redis: RedisServer, nursery: trio.Nursery
) -> None:
    """Amid a failover it may name a replica, which takes its place soon."""
    with redis_server() as server, sentinel(server) as asked:
        server.ask("REPLICAOF", "127.0.0.1", redis.port)
        node = Node(f"redis+sentinel://127.0.0.1:{asked.port}/service", "stream", timeout=0.5)
        nursery.start_soon(node.run)
        await until(lambda: "read only" in str(node.relay.statistics().last_error))
        server.ask("REPLICAOF", "NO", "ONE")
        await until(lambda: node.relay.statistics().ready)
        await node.publish("x")
        await node.end()


@pytest.mark.parametrize("port", [b"$2\r\nno\r\n", b"$1\r\n"])
async def test_a_sentinels_reply_that_cannot_be_read_costs_an_attempt(
    redis: RedisServer, nursery: trio.Nursery, port: bytes
) -> None:
    def garbled(reply: bytes) -> bytes:
        return b"*2\r\n$9\r\n127.0.0.1\r\n" + port

    with sentinel(redis) as asked:
        async with line_to(asked) as line:
            line.garbles = (b"service", garbled)
            nodes = Nodes(nursery, redis)
            url = f"redis+sentinel://localhost:{line.port}/service"
            node = await nodes.start(url, timeout=0.5)
            assert node.relay.statistics().sessions_lost > 0
            await node.end()


async def test_sentinels_that_are_away_are_waited_for(redis: RedisServer) -> None:
    node = Node(f"redis+sentinel://127.0.0.1:{free_port()}/service", "stream", timeout=0.2)
    with trio.move_on_after(0.3):
        await node.relay.run()
    assert "refused" in str(node.relay.statistics().last_error)


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("redis+sentinel://localhost", "names no service"),
        ("redis+sentinel://localhost,/name", "names no host"),
        ("redis+sentinel:///name", "names no host"),
        ("redis+sentinel://localhost:x/name", "percent-encode"),
        ("redis+sentinel://localhost/name/zero", "a whole number.*got 'zero'"),
    ],
)
def test_a_url_of_sentinels_that_will_not_do_is_refused_at_once(url: str, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        RedisRelay(url)
