"""What is wrong for good is refused at the start, in a sentence that tells what mends it."""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from typing import Any, Final

import pytest
import trio

from trio_sse import Broadcaster
from trio_sse.redis import RedisRelay, RefusedError

from ..support.redis_line import line_to
from ..support.redis_server import RedisServer, redis_server, sentinel
from ..support.tcp import free_port
from ..support.waiting import PATIENCE, until
from .test_access import tls


async def start(url: str, **options: Any) -> None:
    """Start a relay, and end it."""
    relay = relay_of(url, **options)
    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            await nursery.start(relay.run)
            assert relay.statistics().ready
            nursery.cancel_scope.cancel()


def relay_of(url: str, **options: Any) -> RedisRelay:
    relay = RedisRelay(url, timeout=0.5, **options)
    Broadcaster(relay=relay)
    return relay


async def refusal(url: str, caplog: pytest.LogCaptureFixture, **options: Any) -> str:
    """Return why a relay does not start; nothing is logged besides."""
    caplog.set_level(logging.DEBUG)
    with pytest.raises(RefusedError) as caught, trio.fail_after(PATIENCE):
        await relay_of(url, **options).run()
    assert caplog.text == ""
    return str(caught.value)


#: What a user may not do.
_DENIED: Final = ("eval", "xadd", "get", "set", "xread", "xrange", "xinfo", "select")


@pytest.mark.parametrize("command", _DENIED)
async def test_a_user_who_may_not_do_what_a_relay_must(
    redis: RedisServer, command: str, caplog: pytest.LogCaptureFixture
) -> None:
    redis.ask("ACL", "SETUSER", command, "on", ">p", "~*", "&*", "+@all", f"-{command}")
    url = redis.url.replace("//", f"//{command}:p@") + "/1"
    why = await refusal(url, caplog)
    assert "give the user the permissions that docs/redis.md lists" in why


@pytest.mark.parametrize("command", ["EVAL", "XADD", "XREAD", "HELLO", "XINFO"])
async def test_a_command_that_is_disabled(command: str, caplog: pytest.LogCaptureFixture) -> None:
    with redis_server("--rename-command", command, "") as server:
        why = await refusal(server.url, caplog)
    assert f"unknown command '{command}'; the relay needs that command" in why


@pytest.mark.parametrize(
    ("database", "user", "why"),
    [
        ("/99", "", "change that in the URL"),
        ("", "nobody:x@", "give the right user and password"),
    ],
)
async def test_a_wrong_database_or_password(
    redis: RedisServer, database: str, user: str, why: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert why in await refusal(redis.url.replace("//", f"//{user}") + database, caplog)


async def test_a_read_only_replica(redis: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    with redis_server("--replicaof", f"127.0.0.1 {redis.port}") as replica:
        await until(lambda: b"master_link_status:up" in replica.ask("INFO", "replication"))
        assert "give its primary's address" in await refusal(replica.url, caplog)


async def test_a_sentinels_port(redis: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    with sentinel(redis) as server:
        why = await refusal(server.url, caplog)
    assert "use redis+sentinel://host:port/service" in why


@contextmanager
def cluster() -> Generator[list[RedisServer]]:
    """Run two nodes, each with half of the slots."""
    with ExitStack() as stack:
        buses = [free_port(), free_port()]
        nodes = [
            stack.enter_context(
                redis_server("--cluster-enabled", "yes", "--cluster-port", str(bus))
            )
            for bus in buses
        ]
        for node, slots in zip(nodes, (("0", "8191"), ("8192", "16383")), strict=True):
            node.ask("CLUSTER", "ADDSLOTSRANGE", *slots)
        nodes[0].ask("CLUSTER", "MEET", "127.0.0.1", nodes[1].port, buses[1])
        yield nodes


async def test_a_cluster(caplog: pytest.LogCaptureFixture) -> None:
    """The node that has the stream's slot serves; both keys are there, whatever the stream is."""
    with cluster() as nodes:
        ok = b"cluster_state:ok"
        await until(lambda: all(ok in node.ask("CLUSTER", "INFO") for node in nodes))
        for stream in ("chat", "{chat}:1", "a{b}c"):
            slot = nodes[0].ask("CLUSTER", "KEYSLOT", stream)
            here, there = nodes if slot < 8192 else nodes[::-1]
            await start(here.url, stream=stream)
            why = await refusal(there.url, caplog, stream=stream)
            assert "this is a Cluster, whose nodes the relay does not follow" in why


@asynccontextmanager
async def over_tls(server: RedisServer, name: str) -> AsyncGenerator[tuple[int, ssl.SSLContext]]:
    """Open a port that speaks TLS; yield it, and a context that trusts it under that name."""
    server_side, client_side = tls(name)
    async with line_to(server, server_side) as line:
        yield line.port, client_side


#: What is wrong, as a URL and a context made of a port that speaks TLS, and why.
_TLS: Final[dict[str, tuple[Callable[[int, Any], tuple[str, Any]], str]]] = {
    "wrong authority": (lambda port, _: (f"rediss://localhost:{port}", None), "cafile="),
    "wrong name": (lambda port, ours: (f"rediss://127.0.0.1:{port}", ours), "a host name that"),
    "no TLS": (lambda port, _: (f"redis://localhost:{port}", None), "must begin with rediss://"),
}


@pytest.mark.parametrize("case", _TLS)
async def test_what_is_wrong_with_tls(
    redis: RedisServer, case: str, caplog: pytest.LogCaptureFixture
) -> None:
    make, why = _TLS[case]
    async with over_tls(redis, "localhost") as (port, ours):
        url, context = make(port, ours)
        reason = await refusal(url.replace("//", "//:s3cret@"), caplog, ssl_context=context)
        assert why in reason
        assert "s3cret" not in reason
        await start(f"rediss://localhost:{port}", ssl_context=ours)


async def test_tls_to_a_port_that_has_none(
    redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    why = await refusal(redis.url.replace("redis:", "rediss:"), caplog)
    assert "this port speaks no TLS: the URL must begin with redis://" in why


async def test_what_may_pass_is_waited_for_with_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """Without tracebacks of the client library; a server that is away may come back."""
    caplog.set_level(logging.DEBUG)
    for scheme in ("redis", "rediss"):
        with trio.move_on_after(0.3):
            await relay_of(f"{scheme}://127.0.0.1:{free_port()}").run()
    lines = [record for record in caplog.records if record.name in ("trio_sse", "coredis")]
    assert [record.name for record in lines] == ["trio_sse", "trio_sse"]
    assert "refused" in lines[0].getMessage()


def test_a_context_without_tls_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match=r"ssl_context is for rediss://.*begins with redis://"):
        RedisRelay("redis://localhost", ssl_context=ssl.create_default_context())
