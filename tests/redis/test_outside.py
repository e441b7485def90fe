"""What others than relays write into the stream, and how it reaches every browser."""

from __future__ import annotations

import json
import os
import secrets
import sys
from pathlib import Path
from typing import Final

import pytest
import trio

from trio_sse import sse_app
from trio_sse.testing import open_event_stream

from ..support.events import take
from ..support.examples import EXAMPLES
from ..support.redis_server import RedisServer
from ..support.relay_nodes import Node, Nodes

#: Does as the tool that comes with Redis, which need not be installed.
_REDIS_CLI: Final = """#!{python}
import sys
sys.path.insert(0, {root!r})
from tests.support.redis_server import say
_, option, url, *words = sys.argv
assert option == "-u"
print(say(int(url.rpartition(":")[2]), *words))
"""


async def test_a_shell_reaches_every_browser(
    nodes: Nodes, redis: RedisServer, nursery: trio.Nursery, tmp_path: Path
) -> None:
    example = EXAMPLES / "publish.sh"
    assert example.read_text("utf-8") in (EXAMPLES.parent / "redis.md").read_text("utf-8")
    tool = tmp_path / "redis-cli"
    root = str(Path(__file__).parents[2])
    tool.write_text(_REDIS_CLI.format(python=sys.executable, root=root))
    tool.chmod(0o755)
    node = Node(redis.url, "chat")
    await nodes.run(node)
    stream = await open_event_stream(nursery, sse_app(node.broadcaster))
    text = f'a "quoted" word {secrets.token_hex(8)}'
    environment = {"REDIS_URL": redis.url, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    await trio.run_process(["sh", str(example), text], env=environment, capture_stdout=True)
    (event,) = await take(stream, 1)
    assert (event.event, event.data) == ("said", text)


async def test_a_job_without_trio_reaches_every_browser(
    nodes: Nodes, redis: RedisServer, nursery: trio.Nursery
) -> None:
    node = Node(redis.url, "chat")
    await nodes.run(node)
    stream = await open_event_stream(nursery, sse_app(node.broadcaster))
    text = f'a "quoted" word {secrets.token_hex(8)}'
    server = ("127.0.0.1", str(redis.port))
    await trio.run_process([sys.executable, str(EXAMPLES / "publish.py"), *server, text])
    (event,) = await take(stream, 1)
    assert (event.event, json.loads(event.data or "")) == ("said", {"text": text})


@pytest.mark.parametrize("name", [b"note", b"\xff", b""])
@pytest.mark.parametrize("value", [b"text", b"\xff\x00\r\n", b""])
async def test_what_else_an_entry_has_is_ignored_whatever_its_bytes(
    nodes: Nodes, nursery: trio.Nursery, name: bytes, value: bytes
) -> None:
    node = await nodes.start()
    stream = await open_event_stream(nursery, sse_app(node.broadcaster, topics=["a"]))
    nodes.ask("XADD", "*", name, value, "event", "said", "data", "x", "topic", "a", name, value)
    (event,) = await take(stream, 1)
    assert (event.event, event.data) == ("said", "x")
    assert node.relay.statistics().refused == 0
