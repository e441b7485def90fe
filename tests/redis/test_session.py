"""A connection that is idle, that is not understood, or that others are to have: what it costs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest
import trio

from trio_sse.redis import RedisRelay, RefusedError

from ..support.events import take, take_data
from ..support.redis_server import RedisServer
from ..support.relay_nodes import Node, Nodes
from ..support.thorough import THOROUGH
from ..support.waiting import until


@pytest.fixture
def nodes(nursery: trio.Nursery, server: RedisServer) -> Nodes:
    return Nodes(nursery, server)


def close_idle(server: RedisServer, last_command: str = "eval") -> None:
    """Let the server close the connections whose last command that was, as its `timeout` does."""
    for line in server.ask("CLIENT", "LIST").decode().splitlines():
        told = dict(word.partition("=")[::2] for word in line.split())
        if told["cmd"] == last_command:
            server.ask("CLIENT", "KILL", "ID", told["id"])


async def test_an_idle_connection_that_the_server_closed_is_no_failure(
    nodes: Nodes, server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    node = await nodes.start()
    with node.broadcaster.subscribe() as client:
        for number in range(3):
            node.broadcast(str(number))
            assert await take_data(client, 1) == [str(number)]
            close_idle(server)
            await until(lambda: b"cmd=eval" not in server.ask("CLIENT", "LIST"))
    assert caplog.messages == []
    assert node.relay.statistics().sessions_lost == 0


async def test_an_idle_connection_is_used_now_and_then_and_replaced_if_it_has_gone(
    nodes: Nodes,
    server: RedisServer,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So that nobody on the way forgets it, and no event is the first to learn that it is gone."""
    monkeypatch.setattr("trio_sse.redis._publisher._WARM", 0.02)
    async with nodes.over_line() as (line, node):
        await until(lambda: line.answered(b":touch") > 1)
        before = line.accepted
        close_idle(server, "set")
        await until(lambda: line.accepted > before)
        await node.publish("x")
    assert caplog.messages == []
    assert node.relay.statistics().sessions_lost == 0


async def test_a_server_that_closes_each_connection_at_once_is_told_as_a_failure(
    nodes: Nodes, server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    async with nodes.over_line(timeout=0.3) as (line, node):
        line.refuses = True
        line.cut()
        node.broadcast("x")
        await until(lambda: node.relay.statistics().sessions_lost > 3)
        line.refuses = False
        await until(lambda: node.relay.statistics().published == 1)
    assert 1 <= len(caplog.messages) <= 4


async def test_a_node_that_cannot_write_any_more_is_not_ready(
    nodes: Nodes, server: RedisServer
) -> None:
    """Though it reads, and whether or not it has something to write."""
    async with nodes.over_line(timeout=0.3) as (line, node):
        assert node.relay.statistics().ready
        line.refuses = True
        close_idle(server, "set")
        node.broadcast("x")
        await until(lambda: node.relay.statistics().sessions_lost > 0)
        statistics = node.relay.statistics()
        assert (statistics.ready, statistics.outbox_events) == (False, 1)
        line.refuses = False
        await until(lambda: node.relay.statistics().ready)


async def test_a_node_that_starts_without_being_able_to_write_is_not_ready(
    nodes: Nodes, server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """It serves what others write, and says what is wrong with it, until that has passed."""
    server.ask("CONFIG", "SET", "min-replicas-to-write", "1")
    node = await nodes.start(timeout=0.3)
    assert not node.relay.statistics().ready
    await until(lambda: "NOREPLICAS" in caplog.text)
    server.ask("CONFIG", "SET", "min-replicas-to-write", "0")
    await until(lambda: node.relay.statistics().ready)


async def test_another_reason_is_another_line(
    nodes: Nodes, server: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Of one that lasts there is one line, however often it is tried again."""
    async with nodes.over_line(timeout=0.3) as (line, _):
        line.says = b"-LOADING Redis is loading the dataset in memory\r\n"
        line.cut()
        await until(lambda: "loading" in caplog.text)
        line.says = b"-ERR max number of clients reached\r\n"
        await until(lambda: "max number" in caplog.text)
        line.says = None
    assert caplog.text.count("loading") <= 2  # Of the one that reads, and the one that writes.


def flipped(reply: bytes, at: int) -> bytes:
    """Return a reply one of whose bits is another one."""
    at %= len(reply)
    return reply[:at] + bytes([reply[at] ^ 1]) + reply[at + 1 :]


def cut_short(reply: bytes) -> bytes:
    return b"*1\r\n:1\r\n"


def of_another_batch(reply: bytes) -> bytes:
    return b"$5\r\n9 1-1\r\n"


def without_id(reply: bytes) -> bytes:
    return b"%1\r\n$6\r\nstream\r\n*1\r\n*2\r\n$1\r\nx\r\n*0\r\n$1\r\nx\r\n"


@pytest.mark.parametrize("command", [b"XREAD", b"XADD", b"XRANGE"])
async def test_a_reply_that_cannot_be_read_costs_a_session_and_not_the_node(
    nodes: Nodes, command: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whichever of its bits was turned over on its way."""
    monkeypatch.setattr("trio_sse.redis._session._LONGEST_PAUSE", 0.06)
    monkeypatch.setattr("trio_sse.redis._commands._BLOCKS", 0.05)
    async with nodes.over_line(timeout=0.3) as (line, node):
        with node.broadcaster.subscribe() as client:
            changes: list[Callable[[bytes], bytes]] = [
                partial(flipped, at=at) for at in range(0, 90, 3 if THOROUGH else 30)
            ]
            for number, change in enumerate([cut_short, of_another_batch, without_id, *changes]):
                line.garbles = (command, change)
                await node.publish(str(number))
                await until(lambda: line.garbles is None)
                await node.publish(f"behind {number}")  # Which is no other by then.
                while (await take(client, 1))[-1].data != f"behind {number}":
                    pass
        assert not node.ended.is_set()


async def test_credentials_are_asked_for_before_each_connection(
    nodes: Nodes, server: RedisServer
) -> None:
    """So a password may change while the relay runs."""
    server.ask("ACL", "SETUSER", "u", "on", ">first", "~*", "&*", "+@all")
    password = "first"  # noqa: S105 (no secret)

    def credentials() -> tuple[str, str]:
        return "u", password

    node = await nodes.start(credentials=credentials)
    with node.broadcaster.subscribe() as client:
        await node.publish("1")
        server.ask("ACL", "SETUSER", "u", ">second", "<first")
        password = "second"  # noqa: S105 (no secret)
        server.ask("CLIENT", "KILL", "USER", "u")
        await node.publish("2")
        assert await take_data(client, 2) == ["1", "2"]


async def test_credentials_may_have_to_be_waited_for_and_may_fail(
    nodes: Nodes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    asked = 0

    async def credentials() -> tuple[str, str]:
        nonlocal asked
        asked += 1
        await trio.lowlevel.checkpoint()
        if asked == 1:
            raise ConnectionResetError("s3cret")
        return "default", ""

    node = await nodes.start(credentials=credentials, timeout=0.3)
    await node.publish("x")
    assert "credentials() raised ConnectionResetError" in caplog.text
    assert "s3cret" not in caplog.text


async def test_credentials_that_do_not_come_are_given_up(
    redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    node = Node(redis.url, "stream", credentials=trio.sleep_forever, timeout=0.05)
    with trio.move_on_after(0.2):
        await node.relay.run()
    assert "credentials() has returned nothing for 0.05 seconds" in caplog.text


async def test_what_credentials_log_is_logged(
    redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    """They may ask Redis themselves."""

    def credentials() -> tuple[str, str]:
        logging.getLogger("coredis").error("theirs")
        return "nobody", "x"

    with pytest.raises(RefusedError):
        await Node(redis.url, "stream", credentials=credentials).relay.run()
    assert caplog.messages == ["theirs"]


@pytest.mark.parametrize("pair", [None, "u", ("u",), ("u", 1), ("u", "p", "q")])
async def test_credentials_that_are_none_are_refused(redis: RedisServer, pair: Any) -> None:
    node = Node(redis.url, "stream", credentials=lambda: pair)
    with pytest.raises(RefusedError, match=r"credentials\(\) must return \(user, password\)"):
        await node.relay.run()


@pytest.mark.parametrize(
    ("url", "credentials", "error", "complaint"),
    [
        ("redis://u:p@localhost", lambda: ("u", "p"), ValueError, "not by both"),
        ("redis://localhost", ("u", "p"), TypeError, "must be a function .* got tuple"),
    ],
    ids=["twice", "no function"],
)
def test_credentials_that_will_not_do_are_refused_at_once(
    url: str, credentials: Any, error: type[Exception], complaint: str
) -> None:
    with pytest.raises(error, match=complaint):
        RedisRelay(url, credentials=credentials)
