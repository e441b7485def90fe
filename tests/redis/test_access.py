"""How a node comes to its server: with few permissions, over TLS, by a Unix socket."""

from __future__ import annotations

import ssl
from typing import Final

import pytest
import trio
import trustme

from trio_sse import sse_app
from trio_sse.redis import RefusedError

from ..support.events import take_data
from ..support.redis_line import line_to
from ..support.redis_server import RedisServer, redis_server
from ..support.relay_nodes import Node, Nodes
from ..support.streams import come_back


@pytest.fixture
def nodes(nursery: trio.Nursery, server: RedisServer) -> Nodes:
    return Nodes(nursery, server)


#: The permissions that a node needs: of commands, and of keys, by the key of its stream.
FULL_NODE: Final = (
    "-@all +eval +xadd +get +set +time +xread +xrange +xinfo|stream "
    "~{stream} ~{{{stream}}}:producer:*"
)


def user_with(server: RedisServer, nodes: Nodes, permissions: str) -> str:
    """Make a user who may do no more than that; return the URL."""
    user = f"user-{nodes.stream}"
    words = permissions.format(stream=nodes.stream).split()
    server.ask("ACL", "SETUSER", user, "reset", "on", ">pass/word", *words)
    return server.url.replace("//", f"//{user}:pass%2Fword@")


async def test_a_node_needs_few_permissions(
    nodes: Nodes, nursery: trio.Nursery, server: RedisServer
) -> None:
    node = await nodes.start(user_with(server, nodes, FULL_NODE), history_size=1)
    ids = await node.publish("1", "2", "3", topic="a")
    stream = await come_back(nursery, sse_app(node.broadcaster, topics=["a"]), ids[0])
    assert await take_data(stream, 2) == ["2", "3"]
    statistics = node.relay.statistics()
    assert (statistics.sessions_lost, statistics.last_error) == (0, None)
    denied = [str(entry) for entry in server.ask("ACL", "LOG")]
    # This one the client library can do without; Redis knows it from 7.2 on.
    assert [entry for entry in denied if "setinfo" not in entry] == []


#: Without it, which 0.1 did not ask for, the ids are those that Redis makes.
OPTIONAL: Final = "+time"


async def test_a_user_of_0_1_goes_on(nodes: Nodes, server: RedisServer) -> None:
    node = await nodes.start(user_with(server, nodes, FULL_NODE.replace(OPTIONAL, "")))
    ids = await node.publish("1", "2", "3")
    assert ids[0].endswith("-0")


@pytest.mark.parametrize(
    "word", [word for word in FULL_NODE.split() if word[0] in "+~" and word != OPTIONAL]
)
async def test_a_node_needs_each_of_its_permissions(
    nodes: Nodes, server: RedisServer, word: str
) -> None:
    node = Node(user_with(server, nodes, FULL_NODE.replace(word, "", 1)), nodes.stream)
    with pytest.raises(RefusedError, match="permission"):
        await nodes.run(node)
    assert nodes.ask("XLEN") == 0


def tls(name: str) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return a server's side with a certificate for this name, and a client's that trusts it."""
    authority = trustme.CA()
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with authority.issue_cert(name).private_key_and_cert_chain_pem.tempfile() as path:
        server_side.load_cert_chain(path)
    pem = authority.cert_pem.bytes().decode()
    return server_side, ssl.create_default_context(cadata=pem)


async def test_a_node_speaks_tls(nodes: Nodes, server: RedisServer) -> None:
    server_side, client_side = tls("localhost")
    async with line_to(server, server_side) as line:
        node = await nodes.start(line.url, ssl_context=client_side)
        with node.broadcaster.subscribe() as client:
            node.broadcast("x")
            assert await take_data(client, 1) == ["x"]
        await node.end()


async def test_a_server_by_a_unix_socket_serves_as_well(
    nursery: trio.Nursery, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = f"{tmp_path_factory.mktemp('redis')}/socket"
    with redis_server("--unixsocket", path) as server:
        node = await Nodes(nursery, server).start(f"unix://{path}?db=0")
        assert len(await node.publish("x")) == 1
        await node.end()
