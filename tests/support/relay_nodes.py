"""What the tests of the relay share: nodes, which are processes as far as Redis can tell."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, final

import trio

from trio_sse import Broadcaster
from trio_sse.redis import RedisRelay

from .redis_line import Line, line_to
from .redis_server import RedisServer
from .waiting import PATIENCE


@final
class Node:
    """One broadcaster with its relay, which runs while `scope` is not cancelled."""

    def __init__(
        self,
        url: str,
        stream: str,
        *,
        buffer_size: int = 256,
        history_size: int = 256,
        timeout: float = 5.0,  # noqa: ASYNC109 (handed on)
        **options: Any,
    ) -> None:
        self.relay = RedisRelay(url, stream=stream, timeout=timeout, **options)
        self.broadcaster = Broadcaster(
            buffer_size, history_size=history_size, strict=False, relay=self.relay
        )
        self.scope = trio.CancelScope()
        self.ended = trio.Event()

    async def run(  # noqa: ASYNC128 (it hands that on)
        self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED
    ) -> None:
        self.scope = trio.CancelScope()
        self.ended = trio.Event()
        with self.scope:
            await self.relay.run(task_status=task_status)
        self.ended.set()

    async def end(self) -> None:
        self.scope.cancel()
        await self.ended.wait()

    def broadcast(self, *data: str, topic: str | None = None) -> None:
        for text in data:
            self.broadcaster.broadcast("tick", text, topic=topic)

    async def publish(self, *data: str, topic: str | None = None) -> list[str]:
        """Broadcast one after another, and return the ids."""
        return [await self.relay.publish("tick", text, topic=topic) for text in data]


@final
class Nodes:
    """Starts nodes that share a stream; they run until the nursery is cancelled."""

    def __init__(self, nursery: trio.Nursery, server: RedisServer) -> None:
        self._nursery = nursery
        self._server = server
        self.stream = f"events-{secrets.token_hex(4)}"

    async def start(self, url: str | None = None, **options: Any) -> Node:
        node = Node(url or self._server.url, self.stream, **options)
        await self.run(node)
        return node

    @asynccontextmanager
    async def over_line(self, **options: Any) -> AsyncGenerator[tuple[Line, Node]]:
        """Start a node over a line of its own; both end with the block."""
        async with line_to(self._server) as line:
            node = await self.start(line.url, **options)
            yield line, node
            await node.end()

    async def run(self, node: Node) -> None:
        with trio.fail_after(PATIENCE):
            await self._nursery.start(node.run)

    def ask(self, command: str, *arguments: str | int | bytes) -> Any:
        """Send a command about the stream, past all that is tested."""
        return self._server.ask(*command.split(), self.stream, *arguments)
