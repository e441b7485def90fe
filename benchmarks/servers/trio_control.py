"""Standard input as a list of orders, for servers on Trio, and what they can tell of themselves."""

from __future__ import annotations

import ctypes
import gc
import itertools
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from typing import Final

import attrs
import trio

from trio_sse import Broadcaster

from ..clients.sealed import seal
from ..load.payload import Payloads

_NAP: Final = 0.001

Orders = Mapping[str, Callable[..., None]]


async def obey(orders: Orders) -> None:
    """Carry out each line: the name of an order, then whole numbers; until standard input ends."""
    held = b""
    async with trio.lowlevel.FdStream(os.dup(sys.stdin.fileno())) as stdin:
        async for data in stdin:
            *lines, held = (held + data).split(b"\n")
            for line in lines:
                name, *numbers = line.decode().split()
                orders[name](*map(int, numbers))


async def obey_until_sigterm(orders: Orders) -> None:
    """Carry out each line until SIGTERM, or until standard input ends."""
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_cancel_after, signals, nursery.cancel_scope)
            await obey(orders)
            nursery.cancel_scope.cancel("standard input has ended")


async def _cancel_after(signals: AsyncIterator[int], scope: trio.CancelScope) -> None:
    await anext(signals)
    scope.cancel("a signal")


class Lateness:
    """How late a task is that only sleeps for a millisecond, over and over."""

    def __init__(self) -> None:
        self._worst = 0.0

    async def watch(self) -> None:
        """Measure, for ever."""
        while True:
            due = trio.current_time() + _NAP
            await trio.sleep_until(due)
            self._worst = max(self._worst, trio.current_time() - due)

    def take(self) -> float:
        """Return the worst lateness in milliseconds since the last call."""
        worst, self._worst = self._worst, 0.0
        return worst * 1000


class Control:
    """What any scenario may ask of a server with one broadcaster.

    ``publish COUNT SIZE`` broadcasts stamped events, ``seal SIZE SIZE ...`` one of
    `benchmarks.clients.sealed` for each size; ``watch`` has the loop's lateness measured from then
    on, ``report`` tells it and the statistics; ``trim`` gives free memory back; ``freeze`` and
    ``thresholds`` are for the garbage collector.
    """

    def __init__(self, broadcaster: Broadcaster, nursery: trio.Nursery) -> None:
        self.broadcaster = broadcaster
        self.nursery = nursery
        self.payloads = Payloads()
        self.orders: dict[str, Callable[..., None]] = {
            "publish": self.publish,
            "seal": self._seal,
            "watch": self._watch,
            "report": self._report,
            "trim": trim,
            "freeze": gc.freeze,
            "thresholds": partial(gc.set_threshold, 50_000, 20, 100),
        }
        self._numbers = itertools.count()
        self._lateness = Lateness()

    def publish(self, count: int, size: int) -> None:
        """Broadcast so many events of so many bytes."""
        for _ in range(count):
            self.broadcaster.broadcast("message", self.payloads.next(size))

    def _seal(self, *sizes: int) -> None:
        for size in sizes:
            self.broadcaster.broadcast("message", seal(next(self._numbers), size))

    def _watch(self) -> None:
        self.nursery.start_soon(self._lateness.watch)

    def _report(self) -> None:
        statistics = attrs.asdict(self.broadcaster.statistics())
        report({**statistics, "lateness": self._lateness.take()})


def report(facts: Mapping[str, object]) -> None:
    """Answer with one line of JSON: the facts, and how many tasks and descriptors there are."""
    own = {
        "tasks": trio.lowlevel.current_statistics().tasks_living,
        "descriptors": len(os.listdir("/proc/self/fd")),
    }
    print(json.dumps({**facts, **own}), flush=True)


def trim() -> None:
    """Give free memory back to the system, so that what is resident is what is held."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
