"""One change at a time: a change that strikes inside another one is made after it.

A signal handler, a `__del__` or a logging handler runs between any two steps of a program, those
of a broadcast included; and it may itself broadcast. Then the inner event would be sent in the
middle of the outer one: ids twice, another order for each client. So whoever changes what the
clients have does it inside of a `Changes`, and a call that may strike anywhere goes through `run`.

It knows when something may be changed; it does not know what.
"""

from __future__ import annotations

import sys
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import final

from trio.lowlevel import enable_ki_protection

from .run_guard import RunGuard, strikes_inside_trio


@final
class Changes:
    """The changes of one hub, each inside of ``with``; another one inside is a part of it.

    Used where no KeyboardInterrupt can strike, it is always left again.
    """

    __slots__ = ("_depth", "_waiting", "run_guard")

    def __init__(self) -> None:
        self._depth = 0
        self._waiting: deque[Callable[[], object]] = deque()
        #: The run of the clients, as long as there are any.
        self.run_guard: RunGuard | None = None

    def __enter__(self) -> None:
        self._depth += 1

    def __exit__(self, *_: object) -> None:
        self._depth -= 1
        if self._waiting:
            self.catch_up()

    def run(self, change: Callable[..., object], *arguments: object) -> None:
        """Make a change now; or after what this call strikes in, in the order of the calls."""
        if self._depth:
            self._waiting.append(partial(change, *arguments))
        elif self.run_guard is not None and strikes_inside_trio():
            self._waiting.append(partial(change, *arguments))
            self.run_guard.run_soon(self.catch_up)
        else:
            self._make(change, *arguments)

    @enable_ki_protection
    def _make(self, change: Callable[..., object], *arguments: object) -> None:
        if self._waiting:
            self.catch_up()
        with self:
            change(*arguments)

    @enable_ki_protection
    def catch_up(self) -> None:
        """Make the changes that wait, those included that come meanwhile."""
        while self._waiting and not self._depth:
            self._depth += 1
            try:
                while self._waiting:
                    _make_or_report(self._waiting.popleft())
            finally:
                self._depth -= 1


def _make_or_report(change: Callable[[], object]) -> None:
    try:
        change()
    except Exception as error:  # Whoever asked for it has returned, and nobody else is at fault.
        report(error)


def report(error: Exception) -> None:
    """Tell of an error that has no caller, as Python tells of one that nobody catches."""
    sys.excepthook(type(error), error, error.__traceback__)
