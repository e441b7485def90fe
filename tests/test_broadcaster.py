"""The broadcaster: who may broadcast what, to whom it goes, pruning, pacing, closing."""

from __future__ import annotations

import logging
import math
from enum import StrEnum
from typing import Any

import pytest
import trio
from trio.testing import assert_no_checkpoints, wait_all_tasks_blocked

from trio_sse import RESET_EVENT, Broadcaster, ServerSentEvent, sse_app
from trio_sse.testing import open_event_stream

from .support.events import broadcast


class Kind(StrEnum):
    PRICE = "price"


# Options and registering


@pytest.mark.parametrize("value", [0, -1, None, 1.5, math.inf, math.nan, "8"])
def test_a_buffer_size_that_is_no_bound_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=f"buffer_size must be .*, got {value!r}"):
        Broadcaster(value)


@pytest.mark.parametrize("value", [0, 0.0, -1, -math.inf, math.nan, "15"])
def test_a_heartbeat_interval_that_is_no_time_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=f"heartbeat_interval must be .*, got {value!r}"):
        Broadcaster(heartbeat_interval=value)


@pytest.mark.parametrize(
    ("given", "kept"), [(None, math.inf), (math.inf, math.inf), (0.5, 0.5), (30, 30)]
)
def test_the_heartbeat_interval_can_be_read(given: float | None, kept: float) -> None:
    assert Broadcaster(heartbeat_interval=given).heartbeat_interval == kept


def test_the_defaults_are_those_of_the_documentation() -> None:
    broadcaster = Broadcaster()
    assert broadcaster.heartbeat_interval == 15.0
    assert broadcaster.event_types == frozenset()
    assert not broadcaster.closed
    with pytest.raises(ValueError, match="not registered"):
        broadcaster.broadcast("price", "42")


def test_registered_events_can_be_read_but_not_changed_from_outside() -> None:
    broadcaster = Broadcaster()
    before = broadcaster.event_types
    broadcaster.register_event("price")
    broadcaster.register_event("price")
    broadcaster.register_event("trade")
    assert before == frozenset()
    assert broadcaster.event_types == frozenset({"price", "trade"})
    assert isinstance(broadcaster.event_types, frozenset)


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("name", ["", "a\nb", "a\rb", "a\0b", "\ud800", RESET_EVENT])
def test_an_event_that_no_browser_could_listen_for_cannot_be_registered(
    name: str, strict: bool
) -> None:
    broadcaster = Broadcaster(strict=strict)
    with pytest.raises(ValueError, match=r"event|surrogate|stream-reset"):
        broadcaster.register_event(name)
    assert broadcaster.event_types == frozenset()


@pytest.mark.parametrize("name", ["error", "open"])
def test_a_browsers_own_event_can_be_registered_only_if_not_strict(name: str) -> None:
    with pytest.raises(ValueError, match=f"'{name}' is an event that EventSource dispatches"):
        Broadcaster().register_event(name)
    relaxed = Broadcaster(strict=False)
    relaxed.register_event(name)
    assert relaxed.event_types == {name}


def test_an_unregistered_event_is_refused_with_the_fix() -> None:
    broadcaster = Broadcaster()
    broadcaster.register_event("trade")
    with pytest.raises(ValueError, match=r"register_event\('price'\).*registered: \['trade'\]"):
        broadcaster.broadcast("price", "42")
    assert broadcaster.statistics().events_broadcast == 0


@pytest.mark.parametrize("strict", [True, False])
def test_only_the_broadcaster_itself_sends_a_reset(strict: bool) -> None:
    with pytest.raises(ValueError, match="'stream-reset' is sent by the broadcaster itself"):
        Broadcaster(strict=strict).broadcast(RESET_EVENT, "reason")


async def test_a_broadcaster_that_is_not_strict_sends_any_event() -> None:
    broadcaster = Broadcaster(strict=False, history_size=0)
    async with broadcaster.subscribe() as subscription:
        broadcaster.broadcast("whatever", "x")
        assert subscription.receive_nowait() == ServerSentEvent("whatever", "x")


async def test_an_enum_member_and_its_value_are_the_same_event() -> None:
    broadcaster = Broadcaster(history_size=0)
    broadcaster.register_event(Kind.PRICE)
    async with broadcaster.subscribe() as subscription:
        broadcaster.broadcast("price", "1")
        broadcaster.broadcast(Kind.PRICE, "2")
        wire = [subscription.receive_nowait().encode() for _ in range(2)]
    assert wire == [b"event: price\ndata: 1\n\n", b"event: price\ndata: 2\n\n"]


# Broadcasting and pruning


async def test_broadcast_has_no_checkpoint() -> None:
    broadcaster = Broadcaster(1, strict=False)
    async with broadcaster.subscribe():
        with assert_no_checkpoints():
            broadcaster.broadcast("x", "taken")
            broadcaster.broadcast("x", "prunes")


async def test_every_client_sees_the_same_order(broadcaster: Broadcaster) -> None:
    seen: list[list[str | None]] = [[] for _ in range(5)]

    async def read(number: int) -> None:
        async with broadcaster.subscribe() as subscription:
            seen[number].extend([(await subscription.receive()).data for _ in range(40)])

    async def publish(name: str) -> None:
        for number in range(20):
            broadcaster.broadcast("x", f"{name}{number}")
            await trio.lowlevel.checkpoint()

    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(read, number)
        await wait_all_tasks_blocked()
        nursery.start_soon(publish, "a")
        nursery.start_soon(publish, "b")
    assert len(seen[0]) == 40
    assert seen == [seen[0]] * 5


async def test_a_client_is_pruned_by_the_first_event_that_does_not_fit() -> None:
    broadcaster = Broadcaster(3, strict=False)
    async with broadcaster.subscribe():
        broadcast(broadcaster, *range(3))
        assert broadcaster.client_count == 1
        broadcaster.broadcast("x", 3)
        assert broadcaster.client_count == 0


async def test_pruning_one_client_costs_the_others_nothing() -> None:
    broadcaster = Broadcaster(2, strict=False)
    clients = (broadcaster.subscribe() for _ in range(3))
    async with next(clients) as quick, next(clients), next(clients) as last:
        for number in range(5):
            broadcaster.broadcast("x", number)
            assert quick.receive_nowait().data == last.receive_nowait().data == str(number)
        assert broadcaster.client_count == 2


async def test_a_prune_is_counted_and_logged_once_at_info(caplog: pytest.LogCaptureFixture) -> None:
    broadcaster = Broadcaster(2, strict=False)
    async with broadcaster.subscribe():
        with caplog.at_level(logging.DEBUG):
            broadcast(broadcaster, *range(9))
    assert broadcaster.statistics().clients_pruned == 1
    assert caplog.record_tuples == [
        ("trio_sse", logging.INFO, "client pruned: its buffer of 2 events is full")
    ]


async def test_statistics_count_clients_streams_events_and_prunes(nursery: trio.Nursery) -> None:
    broadcaster = Broadcaster(1, strict=False)
    stream = await open_event_stream(nursery, sse_app(broadcaster))
    stream.stall()
    async with broadcaster.subscribe() as subscription:
        for number in range(3):
            broadcaster.broadcast("x", number)
            subscription.receive_nowait()
            await wait_all_tasks_blocked()
        statistics = broadcaster.statistics()
    assert (statistics.clients, statistics.streams) == (1, 1)
    assert (statistics.events_broadcast, statistics.clients_pruned) == (3, 1)
    assert (broadcaster.statistics().clients, broadcaster.client_count) == (0, 0)
    with pytest.raises(AttributeError):
        statistics.clients = 5  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


async def test_all_who_are_behind_are_pruned_before_anybody_hears_of_it() -> None:
    """Else what a logging handler broadcasts could reach one who has just missed an event."""
    broadcaster = Broadcaster(1, strict=False)
    seen: list[int] = []

    class Look(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(broadcaster.client_count)

    await trio.lowlevel.checkpoint()
    logger, handler = logging.getLogger("trio_sse"), Look()
    logger.addHandler(handler)
    level = logger.level
    logger.setLevel(logging.INFO)
    try:
        with broadcaster.subscribe(), broadcaster.subscribe():
            broadcaster.broadcast("x", "1")
            broadcaster.broadcast("x", "2")
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
    assert seen == [0, 0]


async def test_a_logging_handler_may_broadcast(caplog: pytest.LogCaptureFixture) -> None:
    """Who shows the log in a browser broadcasts what a prune logs, amid that broadcast."""
    broadcaster = Broadcaster(1, strict=False)

    class ToBrowsers(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            broadcaster.broadcast("log", record.getMessage())

    handler = ToBrowsers()
    logging.getLogger("trio_sse").addHandler(handler)
    try:
        with caplog.at_level(logging.INFO, "trio_sse"):
            async with broadcaster.subscribe(), broadcaster.subscribe():
                broadcaster.broadcast("x", "1")
                broadcaster.broadcast("x", "2")
                assert broadcaster.client_count == 0
    finally:
        logging.getLogger("trio_sse").removeHandler(handler)
    assert broadcaster.statistics().clients_pruned == 2
