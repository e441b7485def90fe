"""How much resident memory an idle client costs under `serve()`, before and after its first events.

Measured between 200 clients and 2,200, so that what the process holds once is not counted. Over
HTTP/2 each has a connection of its own.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Final

from ..report.finding import Finding
from ..servers.processes import Load, Server
from ..servers.subjects import SUBJECTS

_CLIENTS: Final = 2000
#: KiB, by the names of subjects; what a client costs besides plain HTTP/1.1 is only told.
_LIMITS: Final = {
    "direct": 24.0,
    "direct-tls": math.inf,
    "direct-h2c": math.inf,
    "direct-h2": math.inf,
}


def check(cache: Path) -> list[Finding]:
    """Return the KiB for each client."""
    return [finding for name in _LIMITS for finding in _check(cache, name)]


def _check(cache: Path, name: str) -> list[Finding]:
    with Server(SUBJECTS[name], cache) as server, Load(server, 200) as load:
        load.ask("publish 3 1 64")
        before = server.resident()
        load.ask(f"admit {_CLIENTS}")
        connected = server.resident()
        load.ask("publish 3 1 64")
        served = server.resident()
    memory, limit = f"memory for each idle client, {name}", _LIMITS[name]
    return [
        Finding(f"{memory}, connected", _each(connected - before), limit, "KiB"),
        Finding("the same after three events", _each(served - before), limit, "KiB"),
    ]


def _each(grown: int) -> float:
    return grown / _CLIENTS / 1024
