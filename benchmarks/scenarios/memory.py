"""How much resident memory an idle client costs under `serve()`, before and after its first events.

Measured between 200 clients and 2,200, so that what the process holds once is not counted.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ..report.finding import Finding
from ..servers.processes import Load, Server
from ..servers.subjects import SUBJECTS

_CLIENTS: Final = 2000
_LIMIT: Final = 26.0


def check(cache: Path) -> list[Finding]:
    """Return the KiB for each client."""
    with Server(SUBJECTS["direct"], cache) as server, Load(server, 200) as load:
        load.ask("publish 3 1 64")
        before = server.resident()
        load.ask(f"admit {_CLIENTS}")
        connected = server.resident()
        load.ask("publish 3 1 64")
        served = server.resident()
    return [
        Finding("memory for each idle client, connected", _each(connected - before), _LIMIT, "KiB"),
        Finding("the same after three events", _each(served - before), _LIMIT, "KiB"),
    ]


def _each(grown: int) -> float:
    return grown / _CLIENTS / 1024
