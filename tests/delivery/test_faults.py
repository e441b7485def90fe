"""A fault in one stream's turn is the end of that stream: no other stream, and no publisher's."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_sse import Broadcaster
from trio_sse._core.hub import hub_of
from trio_sse._delivery.direct import DirectStream
from trio_sse._delivery.shared_queue import SharedQueue
from trio_sse._delivery.writer import Writer
from trio_sse.testing import open_event_stream

from ..support.apps import AppOf
from ..support.asgi import App, Message, Receive, Send
from ..support.events import broadcast, wire
from ..support.fake_bypass import FakeBypass, behind


def failing(monkeypatch: pytest.MonkeyPatch, where: tuple[type, str], of: Broadcaster) -> None:
    """Let a method raise for the streams of one broadcaster."""
    cls, name = where
    method: Callable[..., Any] = getattr(cls, name)
    victim = hub_of(of).registry

    def fail(self: Any, *arguments: Any) -> Any:
        registry = self._registry if cls is SharedQueue else self._client.registry
        if registry is victim:
            raise ZeroDivisionError("injected")
        return method(self, *arguments)

    monkeypatch.setattr(cls, name, fail)


def catching(app: App, caught: list[BaseException]) -> App:
    async def with_catch(scope: Message, receive: Receive, send: Send) -> None:
        try:
            await app(scope, receive, send)
        except* ZeroDivisionError as error:
            caught.append(error)

    return with_catch


@pytest.mark.parametrize("count", [1, 12])
@pytest.mark.parametrize(
    ("where", "is_full"),
    [
        ((DirectStream, "deliver"), True),
        ((DirectStream, "_move"), True),
        ((SharedQueue, "_begin_round"), True),
        ((SharedQueue, "_begin_round"), False),
    ],
    ids=["a turn", "a chunk", "a round after a chunk", "a round"],
)
async def test_a_fault_in_a_turn_ends_its_stream_only(
    app_of: AppOf,
    where: tuple[type, str],
    count: int,
    is_full: bool,
    monkeypatch: pytest.MonkeyPatch,
    nursery: trio.Nursery,
) -> None:
    writer = Writer()
    nursery.start_soon(writer.run)
    caught: list[BaseException] = []
    broadcasters = [Broadcaster(4, strict=False, history_size=0) for _ in range(2)]
    held = [FakeBypass(writer) for _ in broadcasters]
    for bypass, broadcaster in zip(held, broadcasters, strict=True):
        app = catching(behind(bypass, app_of(broadcaster)), caught)
        await open_event_stream(nursery, app)
    await wait_all_tasks_blocked()
    if is_full:  # Its stream is by itself then.
        held[0].fill()
        broadcast(broadcasters[0], *range(3))
        await wait_all_tasks_blocked()
        held[0].room.set()
    failing(monkeypatch, where, broadcasters[0])
    for broadcaster in broadcasters:
        broadcast(broadcaster, *range(count))
    await wait_all_tasks_blocked()
    broadcast(broadcasters[0], "more")
    await wait_all_tasks_blocked()
    assert held[1].received == wire(count)
    assert broadcasters[1].client_count == 1
    assert len(caught) == 1
    assert held[0].aborted
    assert broadcasters[0].client_count == 0
    nursery.cancel_scope.cancel()
