"""Nine thousand clients in one process: each gets each event once, and the loop stays awake.

A task in the server only sleeps for a millisecond, over and over, and notes how late it wakes: that
is how late anything else in the process would be.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ..report.finding import Finding
from ..servers.processes import Load, Server
from ..servers.subjects import SUBJECTS

_CLIENTS: Final = 9000
_LATENESS: Final = 30.0


def check(cache: Path) -> list[Finding]:
    """Return the clients that missed something, and the worst lateness."""
    with (
        Server(SUBJECTS["direct"], cache) as server,
        Load(server, _CLIENTS, keep_bodies=True) as load,
    ):
        server.tell("watch")
        wrong, late = _publish(server, load, "publish 20 1 64")
        wrong_burst, late_burst = _publish(server, load, "publish 1 20 64")
    return [
        Finding("9,000 clients, 20 single events: clients that missed any", wrong, 0),
        Finding("lateness of a 1 ms sleep meanwhile", late, _LATENESS, "ms"),
        Finding("9,000 clients, one burst of 20: clients that missed any", wrong_burst, 0),
        Finding("lateness of a 1 ms sleep meanwhile", late_burst, _LATENESS, "ms"),
    ]


def _publish(server: Server, load: Load, order: str) -> tuple[int, float]:
    server.ask("report")  # Forgets the lateness so far.
    wrong: int = load.ask(order)["wrong"]
    late: float = server.ask("report")["lateness"]
    return wrong, late
