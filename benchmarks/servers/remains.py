"""What clients leave behind in a server, by its own report, and when it is gone."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Final

from ..report.finding import Finding
from .processes import Server

_Report = Mapping[str, float]

_PAUSE: Final = 0.1
_PATIENCE: Final = 5.0


def wait_until(server: Server, reached: Callable[[_Report], bool], patience: float) -> float:
    """Wait until the server reports what is awaited; return when it did, or infinity."""
    give_up = time.monotonic() + patience
    while time.monotonic() < give_up:
        if reached(server.ask("report")):
            return time.monotonic()
        time.sleep(_PAUSE)
    return math.inf


def list_left(before: _Report, after: _Report) -> list[Finding]:
    """Return what there is more of than there was; there should be nothing."""
    names = ("streams", "tasks", "descriptors")
    return [Finding(f"{name} left", after[name] - before[name], 0) for name in names]


def no_more_than(before: _Report) -> Callable[[_Report], bool]:
    """Return a test of whether there is no more of anything than there was."""
    names = ("clients", "streams", "tasks", "descriptors")
    return lambda now: all(now[name] <= before[name] for name in names)


def report_at_rest(server: Server) -> _Report:
    """Return what the server reports once the stream that it was started with is gone."""
    wait_until(server, lambda now: now["streams"] == 0, _PATIENCE)
    report: _Report = server.ask("report")
    return report
