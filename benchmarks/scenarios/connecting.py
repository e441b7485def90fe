"""What it costs that thousands connect at once, as after a restart: CPU, and how late others are.

Three times: as Python collects garbage by itself, with thresholds that are higher, and with those
and `gc.freeze()` once half of the clients are there.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from ..report.finding import Finding
from ..servers.processes import Load, Server
from ..servers.subjects import SUBJECTS

#: Clients that are there before, and those that come.
_CLIENTS: Final = 2500
_COLLECTING: Final = {
    "collecting as Python does": (),
    "gc.set_threshold(50_000, 20, 100)": ("thresholds",),
    "that and gc.freeze()": ("thresholds", "freeze"),
}
_LATENESS, _CPU = 500.0, 2.0


def check(cache: Path) -> list[Finding]:
    """Return the CPU for each client that connects, and the worst lateness meanwhile."""
    return [
        finding for how, orders in _COLLECTING.items() for finding in _check(cache, how, orders)
    ]


def _check(cache: Path, how: str, orders: tuple[str, ...]) -> list[Finding]:
    with Server(SUBJECTS["direct"], cache) as server, Load(server, _CLIENTS) as load:
        for order in ("watch", *orders):
            server.tell(order)
        server.ask("report")  # Forgets the lateness so far.
        before = server.cpu()
        load.ask(f"admit {_CLIENTS}")
        cpu = (server.cpu() - before) / _CLIENTS * 1000
        late: float = server.ask("report")["lateness"]
    return [
        Finding(f"{_CLIENTS:,} more connect, {how}: CPU for each", cpu, _CPU, "ms"),
        Finding("lateness of a 1 ms sleep meanwhile", late, _LATENESS, "ms"),
    ]
