"""Nodes of 0.1 on the same stream, by what they write and read; and browsers with their ids."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from trio_sse import Broadcaster, sse_app
from trio_sse.testing import open_event_stream

from ..support.events import take, take_data, told
from ..support.relay_nodes import Nodes
from ..support.streams import check_reset, come_back
from ..support.waiting import until


def write_as_old(nodes: Nodes, data: str, topic: str = "") -> str:
    """Append an event with the fields that 0.1 writes; return its id."""
    of_topic = ("topic", topic) if topic else ()
    event_id: bytes = nodes.ask("XADD", "*", "event", "tick", "data", data, *of_topic)
    return event_id.decode()


def read_as_old(nodes: Nodes) -> list[tuple[str, str, str, str | None]]:
    """Return id, type, data and topic of each entry; 0.1 passes over fields that it does not know.

    It passes over an entry if a field is missing, or any of them is no UTF-8.
    """
    entries: list[tuple[bytes, list[bytes]]] = nodes.ask("XRANGE", "-", "+")
    return [(entry_id.decode(), *_fields(raw)) for entry_id, raw in entries]


def _fields(raw: list[bytes]) -> tuple[str, str, str | None]:
    fields: dict[bytes, Any] = {
        name: value.decode() for name, value in zip(raw[::2], raw[1::2], strict=True)
    }
    return fields[b"event"], fields[b"data"], fields.get(b"topic")


async def test_what_an_old_node_writes_reaches_the_clients_of_a_new_one(
    nodes: Nodes, nursery: trio.Nursery
) -> None:
    node = await nodes.start()
    stream = await open_event_stream(nursery, sse_app(node.broadcaster, topics=["room"]))
    texts = ["", "two\nlines", "\u2028 and {}"]
    ids = [write_as_old(nodes, text) for text in texts]
    write_as_old(nodes, "for others", "elsewhere")
    ids.append(write_as_old(nodes, "for the room", "room"))
    events = await take(stream, 4)
    assert told(events) == [("tick", text) for text in [*texts, "for the room"]]
    assert [event.id for event in events] == ids


async def test_what_a_new_node_writes_is_what_an_old_one_reads(nodes: Nodes) -> None:
    node = await nodes.start()
    node.broadcaster.broadcast("tick", "two\nlines \u2028")
    node.broadcaster.broadcast("tick", {"bid": 42})
    ids = await node.publish("for the room", topic="room")
    await until(lambda: node.relay.statistics().received == 3)
    entries = read_as_old(nodes)
    assert [entry[1:] for entry in entries] == [
        ("tick", "two\nlines \u2028", None),
        ("tick", '{"bid":42}', None),
        ("tick", "for the room", "room"),
    ]
    assert [entry[0] for entry in entries][-1:] == ids


async def test_a_browser_of_an_old_node_gets_from_a_new_one_exactly_what_it_missed(
    nodes: Nodes, nursery: trio.Nursery
) -> None:
    first = write_as_old(nodes, "1")
    for text in ("2", "3"):
        write_as_old(nodes, text)
    node = await nodes.start()  # It has none of them itself.
    await node.publish("4")
    stream = await come_back(nursery, sse_app(node.broadcaster), first)
    assert await take_data(stream, 3) == ["2", "3", "4"]
    assert b"stream-reset" not in stream.raw_bytes


@pytest.mark.parametrize(
    ("old_id", "reason"),
    [("0123456789ab-7", "malformed"), ("012345678901-7", "malformed"), ("123456789012-7", "old")],
)
async def test_a_browser_of_an_old_process_without_redis_is_told_by_a_node_that_has_one(
    nodes: Nodes, nursery: trio.Nursery, old_id: str, reason: str
) -> None:
    """Of an epoch's twelve hexadecimal digits, all may be decimal: then it looks as Redis's do."""
    node = await nodes.start()
    (last,) = await node.publish("1")
    await until(lambda: node.relay.statistics().head == last)
    stream = await come_back(nursery, sse_app(node.broadcaster), old_id)
    (reset,) = await take(stream, 1)
    check_reset(stream, reset, reason, last)


@pytest.mark.parametrize("old_id", ["0123456789ab-7", "1795660139697-0"])
async def test_a_browser_of_an_old_process_is_told_by_a_new_one_without_redis(
    nursery: trio.Nursery, broadcaster: Broadcaster, old_id: str
) -> None:
    stream = await come_back(nursery, sse_app(broadcaster), old_id)
    (reset,) = await take(stream, 1)
    check_reset(stream, reset, "before a restart", str(broadcaster.last_event_id))
