"""The tasks of one connection, where telling an application never harms whoever tells it.

Hypercorn 0.18 waits until there is room in the queue of an application, even to tell it that its
client has left: in the application's own task, if that has just sent its last message, where
nobody is left to read the queue; or for an application that has ended. It knows queues of
messages, and not what is in them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import Any, cast, final

import trio
from hypercorn.trio.task_group import TaskGroup


@final
class Tasks(TaskGroup):
    """Hypercorn's task group, but for the queues of its applications."""

    async def spawn_app(
        self, app: Any, config: Any, scope: Any, send: Any
    ) -> Callable[[Any], Awaitable[None]]:
        """Run an application; return what tells it something."""
        wait_and_tell: Any = await super().spawn_app(app, config, scope, send)
        return partial(self._tell, wait_and_tell.__self__)

    async def _tell(self, channel: trio.MemorySendChannel[Any], message: Any) -> None:
        """Tell an application something, as long as it goes on."""
        with suppress(trio.BrokenResourceError):
            if not message["type"].endswith(".disconnect"):
                await channel.send(message)
                return
            try:
                channel.send_nowait(message)
            except trio.WouldBlock:
                # Hypercorn's annotation leaves arguments out.
                cast("Any", self).spawn(_tell_later, channel, message)
        await trio.lowlevel.checkpoint()


async def _tell_later(channel: trio.MemorySendChannel[Any], message: Any) -> None:
    with suppress(trio.BrokenResourceError):
        await channel.send(message)
