"""A broadcast that strikes amid whatever else goes on goes out after it: one order, each id once.

A signal handler, a `__del__` or a logging handler runs between any two steps of a program. Here a
tracer strikes at one line after the other, of this package and of Trio, so that no luck is needed.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager, suppress
from itertools import pairwise
from types import FrameType
from typing import Any, Final, final

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from trio_sse import Broadcaster, Subscription, sse_app
from trio_sse._core.decoder import EventStreamDecoder
from trio_sse._core.history import LocalHistory
from trio_sse._core.hub import hub_of
from trio_sse.testing import open_event_stream

from ..support.events import is_users
from ..support.thorough import THOROUGH
from ..support.ways import WAYS, see

#: One line of so many is struck at; a prime, so that the lines are others for each of the ways.
STRIDE: Final = 97 if THOROUGH else 997


@final
class Striker:
    """Calls a function once, at the n-th line of this package and of Trio that is run."""

    def __init__(self, strike: Callable[[], None], at: int) -> None:
        self._strike = strike
        self._at = at
        self.lines = 0

    @contextmanager
    def watching(self) -> Generator[None]:
        before = sys.gettrace()
        sys.settrace(self._enter)
        try:
            yield
        finally:
            sys.settrace(before)

    def _enter(self, frame: FrameType, event: str, _: object) -> Any:
        name = str(frame.f_globals.get("__name__", ""))
        return self._step if name.startswith(("trio.", "trio_sse.")) else None

    def _step(self, frame: FrameType, event: str, _: object) -> Any:
        self.lines += event == "line"
        if self.lines == self._at and event == "line":
            self._strike()
        return self._step


@final
class Strike:
    """Broadcasts when it is called; it knows whether that was accepted."""

    def __init__(self, broadcaster: Broadcaster) -> None:
        self._broadcaster = broadcaster
        self.accepted = 0

    def __call__(self) -> None:
        with suppress(trio.ClosedResourceError):
            self._broadcaster.broadcast("x", "struck")
            self.accepted += 1


@final
class Bell:
    """Calls a function when it is dropped."""

    def __init__(self, strike: Callable[[], None]) -> None:
        self._strike = strike

    def __del__(self) -> None:
        self._strike()


def at_once(strike: Callable[[], None]) -> None:
    strike()


def by_del(strike: Callable[[], None]) -> None:
    Bell(strike)


async def read(subscription: Subscription, ids: list[str]) -> None:
    async for event in subscription:
        ids += [str(event.id)]


def take(subscription: Subscription) -> list[str]:
    """Return the ids of what is queued for one who was pruned."""
    ids: list[str] = []
    with suppress(trio.BrokenResourceError):
        while True:
            ids.append(str(subscription.receive_nowait().id))
    return ids


def read_wire(wire: bytes) -> list[str]:
    """Return the ids of the events in a stream, without those of blocks that tell a place."""
    decoder = EventStreamDecoder()
    events = decoder.feed(wire)
    places = [int(event.id.rpartition("-")[2]) for event in events]
    assert places == sorted(places), "an id that was told before the event it covers"
    return [event.id for event in events if is_users(event)]


async def story(
    broadcaster: Broadcaster, way: str, slow: Subscription, quick: Subscription
) -> list[list[str]]:
    """Let clients come, keep up, fall behind, come back and go; return what each has got."""
    every: list[str] = []
    connect = WAYS[way]()
    app = connect.app(broadcaster, key="k")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(read, quick, every)
        first = await connect.open(nursery, app)
        for _ in range(2):
            for n in range(3):
                broadcaster.broadcast("x", n)
            await wait_all_tasks_blocked()
        second = await connect.open(nursery, app, see(first.wire).id)
        broadcaster.broadcast("x", 4)
        await trio.lowlevel.checkpoint()
        first.disconnect()
        came_back = take(slow)
        back = broadcaster.subscribe(last_event_id=came_back[-1])
        nursery.start_soon(read, back, came_back)
        broadcaster.broadcast("x", 5)
        await broadcaster.wait_all_taken()
        await trio.sleep(20)  # There is a heartbeat.
        broadcaster.disconnect("k")
        await wait_all_tasks_blocked()
        broadcaster.broadcast("x", 6)
        await wait_all_tasks_blocked()
        broadcaster.close()
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()
    return [every, came_back, read_wire(first.wire), read_wire(second.wire)]


def tell(way: str, how: Callable[[Callable[[], None]], None], at: int) -> int:
    """Run the story with a strike; check what everybody got; return how many lines there were."""
    broadcaster = Broadcaster(4, strict=False)
    strike = Strike(broadcaster)
    striker = Striker(lambda: how(strike), at)
    lists: list[list[str]] = []

    async def main() -> None:
        both = broadcaster.subscribe(), broadcaster.subscribe()
        with striker.watching():
            lists.extend(await story(broadcaster, way, *both))

    trio.run(main, clock=MockClock(autojump_threshold=0))
    every, came_back, *of_responses = ([int(i.rpartition("-")[2]) for i in ids] for ids in lists)
    assert every == [*range(1, 10 + strike.accepted)], at
    assert came_back == every, at
    for ids in of_responses:
        assert len(ids) > 1
        assert all(after == before + 1 for before, after in pairwise(ids)), (at, ids)
    return striker.lines


@pytest.mark.parametrize("how", [at_once, by_del])
@pytest.mark.parametrize("way", WAYS)
def test_a_broadcast_that_strikes_anywhere_is_sent_once_and_in_one_order(
    way: str, how: Callable[[Callable[[], None]], None]
) -> None:
    lines = tell(way, how, sys.maxsize)
    for at in range(1, lines, STRIDE):
        tell(way, how, at)


async def test_what_struck_inside_trio_goes_out_before_what_comes_next() -> None:
    broadcaster = Broadcaster(strict=False)
    with broadcaster.subscribe() as subscription:
        by_del(lambda: broadcaster.broadcast("x", "struck"))
        assert subscription.queued == 0
        broadcaster.broadcast("x", "next")
        assert [subscription.receive_nowait().data for _ in range(2)] == ["struck", "next"]
    await trio.lowlevel.checkpoint()


async def test_what_strikes_is_refused_in_its_caller() -> None:
    """Also amid another broadcast, here in a snapshot."""
    broadcaster = Broadcaster()
    refused: list[str] = []

    def snapshot() -> list[tuple[str, object]]:
        with pytest.raises(ValueError, match="not registered") as raised:
            broadcaster.broadcast("x", "y")
        refused.append(str(raised.value))
        return []

    async with trio.open_nursery() as nursery:
        stream = await open_event_stream(nursery, sse_app(broadcaster, snapshot=snapshot))
        stream.disconnect()
    assert len(refused) == 1


async def test_a_broadcast_out_of_a_prunes_log_goes_out_right_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    broadcaster = Broadcaster(2, strict=False)

    def info(*_: object) -> None:
        broadcaster.broadcast("x", "pruned")

    monkeypatch.setattr(logging.getLogger("trio_sse"), "info", info)
    with broadcaster.subscribe(), broadcaster.subscribe() as subscription:
        for data in "12":
            broadcaster.broadcast("x", data)
            assert subscription.receive_nowait().data == data
        broadcaster.broadcast("x", "3")
        assert [subscription.receive_nowait().data for _ in range(2)] == ["3", "pruned"]
    await trio.lowlevel.checkpoint()


def test_a_close_that_strikes_anywhere_ends_what_is_subscribed() -> None:
    """With what was broadcast before it, and without an error out of its place."""

    async def read_to_the_end(broadcaster: Broadcaster) -> list[str | None]:
        subscription = broadcaster.subscribe()
        with suppress(trio.ClosedResourceError):
            broadcaster.broadcast("x", "y")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(broadcaster.wait_all_taken)
            await trio.lowlevel.checkpoint()
            broadcaster.close()
        return [event.data async for event in subscription]

    def run(at: int) -> int:
        broadcaster = Broadcaster(strict=False)
        striker = Striker(broadcaster.close, at)

        async def main() -> None:
            with striker.watching(), suppress(trio.ClosedResourceError):
                with trio.fail_after(5):
                    assert await read_to_the_end(broadcaster) in ([], ["y"])

        trio.run(main)
        assert broadcaster.client_count == 0
        return striker.lines

    for at in range(1, run(sys.maxsize)):
        run(at)


async def test_a_log_that_fails_is_told_and_harms_nobody(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError("a filter")

    monkeypatch.setattr(logging.getLogger("trio_sse"), "info", fail)
    broadcaster = Broadcaster(1, strict=False)
    with broadcaster.subscribe() as slow, broadcaster.subscribe() as subscription:
        for data in "12":
            broadcaster.broadcast("x", data)
            assert subscription.receive_nowait().data == data
        assert slow.receive_nowait().data == "1"
    await trio.lowlevel.checkpoint()
    assert "ZeroDivisionError: a filter" in capsys.readouterr().err


async def test_a_fault_of_what_struck_is_told_and_what_else_struck_goes_out(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    broadcaster = Broadcaster(strict=False)
    hub = hub_of(broadcaster)
    append = LocalHistory.append

    def fail_once(*arguments: Any) -> Any:
        monkeypatch.setattr(LocalHistory, "append", append)
        raise ZeroDivisionError("injected")

    with broadcaster.subscribe() as subscription:
        with hub.registry.changes:
            broadcaster.broadcast("x", "1")
            broadcaster.broadcast("x", "2")
            monkeypatch.setattr(LocalHistory, "append", fail_once)
        assert subscription.receive_nowait().data == "2"
    await trio.lowlevel.checkpoint()
    assert "injected" in capsys.readouterr().err


async def test_who_subscribes_amid_a_close_gets_the_end() -> None:
    broadcaster = Broadcaster(strict=False)
    with hub_of(broadcaster).registry.changes:
        subscription = broadcaster.subscribe()
        broadcaster.close()
    with pytest.raises(trio.EndOfChannel):
        await subscription.receive()
