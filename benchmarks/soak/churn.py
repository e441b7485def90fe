"""Clients that come and go, 5,000 in all, 200 at a time, while events are sent: nothing is left."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ..report.finding import Finding
from ..servers.processes import Load, Server
from ..servers.remains import list_left
from ..servers.subjects import SUBJECTS

_AT_ONCE: Final = 200
_TURNS: Final = 25

#: Until the allocator has what it takes.
_WARM_UP: Final = 20


def check(cache: Path) -> list[Finding]:
    """Return what the server holds at the end that it did not hold at the start."""
    with Server(SUBJECTS["direct"], cache) as server, Load(server, _AT_ONCE) as load:
        wrong = sum(_turn(load) for _ in range(_WARM_UP))
        before, resident = server.ask("report"), server.resident()
        wrong += sum(_turn(load) for _ in range(_TURNS))
        after, grown = server.ask("report"), server.resident() - resident
    return [
        Finding("5,000 clients come and go: clients that missed any", wrong, 0),
        *list_left(before, after),
        Finding("memory grown", grown / 2**20, 2, "MiB"),
    ]


def _turn(load: Load) -> int:
    """Let as many clients come as are there, then the older ones go."""
    load.ask(f"admit {_AT_ONCE}")
    wrong: int = load.ask("publish 2 1 64")["wrong"]
    load.ask(f"dismiss {_AT_ONCE}")
    wrong += load.ask("publish 2 1 64")["wrong"]
    return wrong
