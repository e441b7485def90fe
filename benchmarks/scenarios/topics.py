"""Ten thousand clients on a thousand topics: a broadcast costs what its topic's clients cost.

A process of its own (`benchmarks.topics`), without sockets, compares it with ten clients in all.
"""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from ..subjects import HERE, python
from .finding import Finding


def check(cache: Path) -> list[Finding]:
    """Return how much dearer a broadcast to a topic of ten is among ten thousand clients."""
    command = [str(python(cache)), "-m", "benchmarks.topics"]
    costs = json.loads(subprocess.check_output(command, cwd=HERE.parent))  # noqa: S603
    what = f"a topic of ten, among 10,000 clients / alone ({costs['alone'] * 1e6:.0f} µs)"
    return [Finding(what, costs["among"] / costs["alone"], 2)]
