"""What a relay refuses: URLs, options and accounts, and what others write into its stream."""

from __future__ import annotations

from typing import Any, Final

import pytest
import trio

from trio_sse.redis import RedisRelay, RefusedError
from trio_sse.testing import open_event_stream

from ..support.apps import AppOf
from ..support.events import take
from ..support.redis_server import RedisServer
from ..support.relay_nodes import Node, Nodes
from ..support.streams import position
from ..support.waiting import until


@pytest.mark.parametrize(
    ("url", "complaint"),
    [
        ("http://localhost", "must begin with redis://, .* got http://"),
        ("localhost:6379", "must begin with redis://"),
        ("", "must begin with redis://"),
        ("redis:///0", "names no host"),
        ("unix://", "names no host, as .* or unix://"),
        ("redis://localhost/zero", "a whole number.*got 'zero'"),
        ("redis://localhost?db=zero", "a whole number.*got 'zero'"),
        ("redis://:s3cr#t@localhost", "percent-encode"),
        ("redis://:s3cret@localhost:s3cret", "percent-encode"),
        ("redis://:s3cret@[localhost", "percent-encode"),
        ("redis://localhost?noreply=1", "say noreply by the relay's arguments"),
        ("redis://localhost?max_connections=1&timeout=3", "say max_connections, timeout by"),
        ("rediss://localhost?ssl_check_hostname=false", "say ssl_check_hostname by"),
    ],
)
def test_a_url_that_will_not_do_is_refused_at_once_without_telling_its_password(
    url: str, complaint: str
) -> None:
    with pytest.raises(ValueError, match=complaint) as caught:
        RedisRelay(url)
    assert "s3cr" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


@pytest.mark.parametrize(
    ("option", "complaint"),
    [
        ({"maxlen": 0}, "maxlen must be a whole number of at least 1, got 0"),
        ({"maxlen": 1.5}, "maxlen must be a whole number of at least 1, got 1.5"),
        ({"outbox_size": 0}, "outbox_size must be a whole number of at least 1, got 0"),
        ({"outbox_bytes": -1}, "outbox_bytes must be a whole number of at least 1, got -1"),
        ({"timeout": 0}, "timeout must be a number of seconds greater than 0"),
        ({"stream": ""}, "stream must not be empty"),
    ],
    ids=str,
)
def test_options_that_will_not_do_are_refused_by_name(option: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        RedisRelay("redis://localhost", **option)


#: What a node is told whose password, permission or key is wrong.
_REFUSALS: Final = {
    "invalid username-password": "redis://{user}:wrong-s3cret@",
    "permission": "redis://{user}:right%2Fs3cret@",
    "wrong kind of value": "redis://",
}


@pytest.mark.parametrize("reason", _REFUSALS)
async def test_a_relay_that_redis_refuses_does_not_start(
    nodes: Nodes, redis: RedisServer, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    user = f"user-{nodes.stream}"
    redis.ask("ACL", "SETUSER", user, "on", ">right/s3cret", "~*", "-@all", "+hello", "+xread")
    nodes.ask("SET", "this is no stream")
    url = redis.url.replace("redis://", _REFUSALS[reason].format(user=user))
    node = Node(url, nodes.stream)
    # A nursery in between adds no group of its own: Trio unwraps what `start` raises.
    with pytest.raises(RefusedError, match=reason) as caught:
        await nodes.run(node)
    assert "s3cret" not in f"{caught.value}{caplog.text}{node.relay!r}{vars(node.relay)}"
    with pytest.raises(trio.ClosedResourceError):
        node.broadcast("x")
    nodes.ask("DEL")
    redis.ask("ACL", "SETUSER", user, ">wrong-s3cret", "+@all")
    await nodes.run(node)
    assert len(await node.publish("now it runs")) == 1


#: What somebody else may write into the stream.
_MALFORMED: Final[dict[str, tuple[str | bytes, ...]]] = {
    "no event": ("data", "x"),
    "no data": ("event", "tick"),
    "other fields": ("x", "y"),
    "an empty type": ("event", "", "data", "x"),
    "a line end in the type": ("event", "tick\ndata: forged", "data", "x"),
    "a CR in the type": ("event", "tick\rid: forged", "data", "x"),
    "NUL in the type": ("event", "a\0", "data", "x"),
    "our own word": ("event", "stream-reset", "data", "forged"),
    "data that is not UTF-8": ("event", "tick", "data", b"\xff"),
    "a surrogate": ("event", "tick", "data", b"\xed\xa0\x80"),
    "a type that is not UTF-8": ("event", b"\xff", "data", "x"),
    "a topic that is not UTF-8": ("event", "tick", "data", "x", "topic", b"\xff"),
    "too much data": ("event", "tick", "data", "x" * 2**20),
    "too long a topic": ("event", "tick", "data", "x", "topic", "x" * 2**20),
}


async def test_what_others_write_into_the_stream_that_is_no_event_is_refused(
    nodes: Nodes, nursery: trio.Nursery, app_of: AppOf
) -> None:
    node = await nodes.start()
    stream = await open_event_stream(nursery, app_of(node.broadcaster))
    await until(lambda: stream.raw_bytes == position("0-0"))
    for fields in _MALFORMED.values():
        nodes.ask("XADD", "*", *fields)
    (good,) = await node.publish("good")
    (event,) = await take(stream, 1)
    assert (event.event, event.data, event.id) == ("tick", "good", good)
    assert stream.raw_bytes == position("0-0") + f"id: {good}\nevent: tick\ndata: good\n\n".encode()
    statistics = node.relay.statistics()
    assert (statistics.refused, statistics.received) == (len(_MALFORMED), len(_MALFORMED) + 1)


async def test_what_others_write_into_the_stream_is_framed_anew(
    nodes: Nodes, nursery: trio.Nursery, app_of: AppOf
) -> None:
    node = await nodes.start()
    stream = await open_event_stream(nursery, app_of(node.broadcaster))
    await until(lambda: stream.raw_bytes == position("0-0"))
    data = "a\r\n\r\nid: 1-1\revent: forged\ndata: forged\n\n"
    others = ("id", "9-9", "retry", "0", "comment", "x")
    nodes.ask("XADD", "5-1", "event", ":id", "data", data)
    nodes.ask("XADD", "5-2", "event", "error", "data", data, "topic", "", *others)
    nodes.ask("XADD", "18446744073709551615-7", "event", "last", "data", "")
    first, last = await take(stream, 2)
    assert (first.event, first.id) == (":id", "5-1")
    assert first.data == "a\n\nid: 1-1\nevent: forged\ndata: forged\n\n"
    assert (last.event, last.data, last.id) == ("last", "", "18446744073709551615-7")
