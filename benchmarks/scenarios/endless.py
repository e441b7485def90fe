"""A million events with a history of 256, and five who read them: nothing grows, nothing slows.

A process of its own (`benchmarks.endless`), without sockets, tells its memory and what a broadcast
costs after the first tenth and after the last.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Final

from ..report.finding import Finding
from ..servers.subjects import BENCHMARKS, python

_EVENTS: Final = 1_000_000


def check(cache: Path, events: int = _EVENTS) -> list[Finding]:
    """Return how memory has grown, and how much dearer a broadcast is."""
    command = [str(python(cache)), "-m", "benchmarks.endless", str(events)]
    output = subprocess.check_output(command, cwd=BENCHMARKS.parent)  # noqa: S603
    first, *_, last = json.loads(output)
    grown = (last["resident"] - first["resident"]) / 2**20
    microseconds = first["cost"] * 1e6
    return [
        Finding(f"{events:,} events: memory grown since the first tenth", grown, 1, "MiB"),
        Finding(
            f"cost of a broadcast, last tenth / first ({microseconds:.1f} µs)",
            last["cost"] / first["cost"],
            1.2,
        ),
    ]
