"""A burst of 2,000 events, much longer than the buffer of 256, to 200 clients that read."""

from __future__ import annotations

from pathlib import Path

from ..report.finding import Finding
from ..servers.processes import Load, Server
from ..servers.subjects import SUBJECTS


def check(cache: Path) -> list[Finding]:
    """Return how many clients it cost."""
    with (
        Server(SUBJECTS["direct"], cache) as server,
        Load(server, 200, keep_bodies=True) as load,
    ):
        wrong = load.ask("publish 1 2000 64")["wrong"]
        pruned = server.ask("report")["clients_pruned"]
    return [
        Finding("burst of 2,000 (buffer 256), 200 clients: pruned", pruned, 0),
        Finding("clients that missed any", wrong, 0),
    ]
