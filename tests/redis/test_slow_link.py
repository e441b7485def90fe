"""A link that takes longer for a page or a batch than the relay waits for an answer."""

from __future__ import annotations

from typing import Final

import pytest
import trio

from trio_sse import sse_app

from ..support.events import take, take_data
from ..support.redis_server import RedisServer
from ..support.relay_nodes import Nodes
from ..support.streams import come_back

#: Seconds after which a silent server is given up; one event takes twice as long on the way.
_TIMEOUT: Final = 0.25
_TEXT: Final = "x" * 100_000
_RATE: Final = 200_000


@pytest.fixture
def nodes(nursery: trio.Nursery, server: RedisServer) -> Nodes:
    return Nodes(nursery, server)


async def test_large_events_are_read_published_and_recalled_over_a_slow_link(
    nodes: Nodes, nursery: trio.Nursery
) -> None:
    writer = await nodes.start()
    async with nodes.over_line(timeout=_TIMEOUT, history_size=1) as (line, node):
        line.rate = _RATE
        first, *_ = await writer.publish(*(f"{n}{_TEXT}" for n in range(4)))
        with node.broadcaster.subscribe(last_event_id="0-0") as client:
            assert [str(text)[0] for text in await take_data(client, 4)] == [*"0123"]
            await node.publish(f"4{_TEXT}", f"5{_TEXT}")
            assert [str(text)[0] for text in await take_data(client, 2)] == [*"45"]
        stream = await come_back(nursery, sse_app(node.broadcaster), first)
        assert [event.data[0] for event in await take(stream, 5)] == [*"12345"]
        assert node.relay.statistics().gaps == 0
        line.rate = 1e9
        await node.end()


async def test_a_batch_that_takes_too_long_is_given_more_time(
    nodes: Nodes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What a link carries is found out, and nothing is written twice."""
    monkeypatch.setattr("trio_sse.redis._commands._SLOWEST", 1e6)
    async with nodes.over_line(timeout=_TIMEOUT) as (line, node):
        line.rate = _RATE
        await node.publish(f"0{_TEXT}")
        assert nodes.ask("XLEN") == 1
        assert node.relay.statistics().sessions_lost > 0
        line.rate = 1e9
        await node.end()


async def test_a_batch_is_bounded_by_its_bytes(nodes: Nodes, server: RedisServer) -> None:
    async with nodes.over_line() as (line, node):
        hold = line.hold(b"EVAL")
        with node.broadcaster.subscribe() as client:
            node.broadcast(*(f"{n}{_TEXT}" for n in range(6)))
            await hold.caught.wait()
            hold.release()
            assert [str(text)[0] for text in await take_data(client, 6)] == [*"012345"]
        # The start and three batches, each of which writes its marker twice; and one try before.
        assert "cmdstat_set:calls=9," in server.ask("INFO", "commandstats").decode()
