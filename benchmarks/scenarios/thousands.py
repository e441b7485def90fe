"""Thousands of clients in one process: each gets each event once, and the loop stays awake.

A task in the server only sleeps for a millisecond, over and over, and notes how late it wakes: that
is how late anything else in the process would be.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ..report.finding import Finding
from ..servers.processes import Load, Server
from ..servers.subjects import SUBJECTS

#: How many there are of each subject.
_CLIENTS: Final = {"direct": 9000, "direct-tls": 3000}
_LATENESS: Final = 30.0


def check(cache: Path) -> list[Finding]:
    """Return the clients that missed something, and the worst lateness."""
    return [finding for name, count in _CLIENTS.items() for finding in _check(cache, name, count)]


def _check(cache: Path, name: str, count: int) -> list[Finding]:
    with (
        Server(SUBJECTS[name], cache) as server,
        Load(server, count, keep_bodies=True) as load,
    ):
        server.tell("watch")
        wrong, late = _publish(server, load, "publish 20 1 64")
        wrong_burst, late_burst = _publish(server, load, "publish 1 20 64")
    crowd = f"{count:,} clients, {name}"
    return [
        Finding(f"{crowd}, 20 single events: clients that missed any", wrong, 0),
        Finding("lateness of a 1 ms sleep meanwhile", late, _LATENESS, "ms"),
        Finding(f"{crowd}, one burst of 20: clients that missed any", wrong_burst, 0),
        Finding("lateness of a 1 ms sleep meanwhile", late_burst, _LATENESS, "ms"),
    ]


def _publish(server: Server, load: Load, order: str) -> tuple[int, float]:
    server.ask("report")  # Forgets the lateness so far.
    wrong: int = load.ask(order)["wrong"]
    late: float = server.ask("report")["lateness"]
    return wrong, late
