"""Code that runs amid other code, as only signal handlers and `__del__` do."""

from __future__ import annotations

import gc
import logging
import os
import random
import signal
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Final, NoReturn

import trio

#: What is done in there.
Strike = Callable[[], None]

#: So low that objects in cycles are found wherever a few others are made.
_THRESHOLDS: Final = (20, 10, 10)

#: How many of the objects are in cycles.
_CYCLES: Final = 0.9


async def strike_by_signals(strike: Strike, rate: float) -> None:
    """Let a timer's signals strike, for ever."""
    before = signal.signal(signal.SIGALRM, lambda number, frame: strike())
    signal.setitimer(signal.ITIMER_REAL, 1 / rate, 1 / rate)
    try:
        await trio.sleep_forever()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


class _Dropped:
    """Strikes when it goes: at once, or, in a cycle, when it is found."""

    def __init__(self, strike: Strike, *, in_cycle: bool) -> None:
        self._strike = strike
        self._cycle = self if in_cycle else None

    def __del__(self) -> None:
        self._strike()


class _Dropping(logging.Handler):
    """Drops an object where anything is logged."""

    def __init__(self, strike: Strike) -> None:
        super().__init__()
        self._strike = strike

    def emit(self, record: logging.LogRecord) -> None:
        _Dropped(self._strike, in_cycle=False)


async def strike_by_finalizers(strike: Strike, rate: float) -> None:
    """Drop objects for ever, most of them in cycles, which the next collections find anywhere.

    One more is dropped, at once, amid each prune: where that is logged.
    """
    logger, handler = logging.getLogger("trio_sse"), _Dropping(strike)
    chance = random.Random(0)  # noqa: S311 (keeps no secret)
    level, thresholds = logger.level, gc.get_threshold()
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    gc.set_threshold(*_THRESHOLDS)
    due = trio.current_time()
    try:
        while True:
            while due <= trio.current_time():  # More than one if the program is behind.
                _Dropped(strike, in_cycle=chance.random() < _CYCLES)
                due += 1 / rate
            await trio.sleep_until(due)
    finally:
        gc.set_threshold(*thresholds)
        logger.removeHandler(handler)
        logger.setLevel(level)
        gc.collect()


@contextmanager
def give_up_after(seconds: float) -> Generator[None]:
    """Let the block raise if it lasts longer, even if it is a run of Trio that has lost a task."""
    before = signal.signal(signal.SIGUSR1, _give_up)
    timer = threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGUSR1))
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        signal.signal(signal.SIGUSR1, before)


def _give_up(number: int, frame: object) -> NoReturn:
    raise TimeoutError("the run does not come to its end")
