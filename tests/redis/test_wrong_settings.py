"""What is wrong for good is refused at the start, in a sentence that tells what mends it."""

from __future__ import annotations

import logging
import re
import socket
import ssl
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from contextlib import ExitStack, asynccontextmanager, contextmanager, suppress
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


def relay_of(url: str, *, timeout: float = 0.5, **options: Any) -> RedisRelay:
    relay = RedisRelay(url, timeout=timeout, **options)
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


async def test_a_server_that_is_too_old(
    redis: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    def aged(reply: bytes) -> bytes:
        return re.sub(rb"version\r\n\$\d+\r\n[^\r]+", b"version\r\n$6\r\n6.2.14", reply)

    async with line_to(redis) as line:
        line.garbles = (b"HELLO", aged)
        why = await refusal(line.url, caplog)
    assert "this server is of version 6.2.14: the relay needs Redis 7 or later, or Valkey" in why


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
async def test_a_port_of_something_else(
    redis: RedisServer, scheme: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with line_to(redis) as line:
        line.says = b"HTTP/1.1 400 Bad Request\r\n\r\n"
        why = await refusal(f"{scheme}://localhost:{line.port}", caplog)
    assert "this port is of something else than Redis" in why


@pytest.mark.parametrize("says", [b"qPONG\r\n", b"7NOAUTH needed\r\n", b"\x15\0PONG\r\n"])
async def test_a_first_byte_that_went_wrong_refuses_nobody(
    redis: RedisServer, nursery: trio.Nursery, says: bytes
) -> None:
    async with line_to(redis) as line:
        line.says = says
        relay = relay_of(f"redis://localhost:{line.port}")
        nursery.start_soon(relay.run)
        await until(lambda: relay.statistics().sessions_lost > 2)
        line.says = None
        await until(lambda: relay.statistics().ready)


@pytest.mark.parametrize("version", [b"", b"x", b"7,\xff"])
async def test_a_version_that_nobody_can_read_is_none_to_refuse(
    redis: RedisServer, nursery: trio.Nursery, version: bytes
) -> None:
    """One garbled reply must not end what runs."""

    def garbled(reply: bytes) -> bytes:
        said = b"version\r\n$%d\r\n%b" % (len(version), version)
        return re.sub(rb"version\r\n\$\d+\r\n[^\r]+", lambda _: said, reply)

    async with line_to(redis) as line:
        line.garbles = (b"HELLO", garbled)
        relay = relay_of(line.url)
        nursery.start_soon(relay.run)
        await until(lambda: relay.statistics().ready)


async def test_what_shows_only_once_the_server_is_there(redis: RedisServer) -> None:
    """It is looked at each time, not only after the first failure."""
    async with line_to(redis, tls("localhost")[0]) as line:
        line.refuses = True
        relay = relay_of(f"redis://localhost:{line.port}")
        refused = pytest.RaisesExc(RefusedError, match="this port speaks TLS")
        with pytest.RaisesGroup(refused), trio.fail_after(PATIENCE):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(relay.run)
                await until(lambda: relay.statistics().sessions_lost > 2)
                line.refuses = False


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


async def test_a_cluster_of_which_no_node_has_the_slot(caplog: pytest.LogCaptureFixture) -> None:
    """As that is which was just made by ``cluster-enabled yes``."""
    with redis_server("--cluster-enabled", "yes", "--cluster-port", str(free_port())) as server:
        why = await refusal(server.url, caplog)
    assert "this is a Cluster in which no node has the stream's slot" in why


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


@contextmanager
def port_of(server_side: ssl.SSLContext) -> Generator[int]:
    """Open a port where only hands are shaken; unlike Trio's, it tells why it does not."""

    def shake_hands() -> None:
        with suppress(OSError):
            while True:
                with listener.accept()[0] as client, suppress(OSError):
                    server_side.wrap_socket(client, server_side=True).close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=shake_hands)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize(
    ("scheme", "wanted", "why"),
    [
        ("rediss", {"verify_mode": ssl.CERT_REQUIRED}, "has a client certificate, by load_cert"),
        ("rediss", {"minimum_version": ssl.TLSVersion.TLSv1_3}, "both sides have"),
        (
            "redis",
            {"verify_mode": ssl.CERT_REQUIRED, "maximum_version": ssl.TLSVersion.TLSv1_2},
            "this port speaks TLS",
        ),
    ],
)
async def test_a_server_that_wants_another_tls(
    scheme: str, wanted: dict[str, Any], why: str, caplog: pytest.LogCaptureFixture
) -> None:
    """As Redis wants a client certificate, unless it is told not to."""
    server_side, client_side = tls("localhost")
    for name, value in wanted.items():
        setattr(server_side, name, value)
    client_side.maximum_version = ssl.TLSVersion.TLSv1_2  # In which hands are shaken at first.
    context = client_side if scheme == "rediss" else None
    with port_of(server_side) as port:
        url = f"{scheme}://localhost:{port}"
        # No answer in time would be another failure, and said in the log.
        assert why in await refusal(url, caplog, ssl_context=context, timeout=PATIENCE)


async def test_what_may_pass_is_waited_for_with_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """Without tracebacks of the client library; a server that is away may come back."""
    caplog.set_level(logging.DEBUG)
    host = f"127.0.0.1:{free_port()}"
    for url in (f"redis://{host}", f"rediss://{host}", "unix:///nowhere/socket"):
        with trio.move_on_after(0.3):
            await relay_of(url).run()
    lines = [record for record in caplog.records if record.name in ("trio_sse", "coredis")]
    assert [record.name for record in lines] == ["trio_sse"] * 3
    assert "refused" in lines[0].getMessage()


def test_a_context_without_tls_is_refused_at_once() -> None:
    with pytest.raises(ValueError, match=r"ssl_context is for rediss://.*begins with redis://"):
        RedisRelay("redis://localhost", ssl_context=ssl.create_default_context())
