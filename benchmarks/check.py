"""Run the scenarios, and hold them to the issue's figures.

    python -m benchmarks.check [--only memory,stalled,...] [--cache FOLDER]

A figure that is missed is reported, never raised: a busy machine is no defect. The findings go into
`scenarios.json` in the cache, where `benchmarks.page` finds them.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Final

from .report.finding import Finding
from .scenarios import connecting, endless, memory, relay, thousands, topics
from .servers.processes import clean_up_on_sigterm
from .servers.subjects import CACHE
from .soak import (
    chaos,
    churn,
    cuts,
    dead_peer,
    hostile,
    long_burst,
    node_killed,
    relay_limits,
    replay,
    restart,
    signals,
    stalled,
    unruly,
    vanishing,
)

_SCENARIOS: Final[dict[str, Callable[[Path], list[Finding]]]] = {
    "memory": memory.check,
    "connecting": connecting.check,
    "thousands": thousands.check,
    "long_burst": long_burst.check,
    "stalled": stalled.check,
    "churn": churn.check,
    "hostile": hostile.check,
    "unruly": unruly.check,
    "cuts": cuts.check,
    "restart": restart.check,
    "replay": replay.check,
    "signals": signals.check,
    "endless": endless.check,
    "topics": topics.check,
    "dead_peer": dead_peer.check,
    "node_killed": node_killed.check,
    "relay": relay.check,
    "relay_limits": relay_limits.check,
    "vanishing": vanishing.check,
    "chaos": chaos.check,
}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--only", type=lambda names: names.split(","), default=list(_SCENARIOS))
    parser.add_argument("--cache", type=lambda path: Path(path).absolute(), default=CACHE)
    return parser.parse_args()


def main() -> None:
    """Run the scenarios one after another."""
    options = _arguments()
    clean_up_on_sigterm()
    findings: list[Finding] = []
    for name in options.only:
        for finding in _SCENARIOS[name](options.cache):
            print(f"{finding.verdict}  {': '.join(finding.row()[:2])}", flush=True)
            findings.append(finding)
    record = json.dumps(list(map(asdict, findings)), indent=1)
    (options.cache / "scenarios.json").write_text(record + "\n")


if __name__ == "__main__":
    main()
