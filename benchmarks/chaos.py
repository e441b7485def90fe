"""Run the scenario `chaos` with seeds of choice, and tell of each seed what was found.

python -m benchmarks.chaos [--seeds 1-10] [--kind durable|forgetful|failover] [--cache FOLDER]
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from .servers.processes import clean_up_on_sigterm
from .servers.subjects import CACHE
from .soak.chaos import KINDS, SEEDS, Run, run_seed


def _seeds(text: str) -> range:
    first, _, last = text.partition("-")
    return range(int(first), int(last or first) + 1)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seeds", type=_seeds, default=SEEDS)
    parser.add_argument("--kind", choices=KINDS, default="durable")
    parser.add_argument("--cache", type=lambda path: Path(path).absolute(), default=CACHE)
    return parser.parse_args()


def _line(run: Run) -> str:
    wrong = ", ".join(f"{name} {count}" for name, count in run.wrong.items() if count)
    resets = sum(len(traveller.story.resets) for traveller in run.travellers)
    visits = sum(traveller.visits for traveller in run.travellers)
    return (
        f"seed {run.seed}: {run.events:,} events, {run.faults.total()} faults, {visits:,} visits, "
        f"{resets} resets, longest stall {run.stall:.2f} s, load {os.getloadavg()[0]:.1f}: "
        f"{wrong or 'nothing wrong'}"
    )


def main() -> None:
    """Run the seeds one after another."""
    options = _arguments()
    clean_up_on_sigterm()
    for seed in options.seeds:
        run = run_seed(options.cache, seed, options.kind)
        print(_line(run), flush=True)


if __name__ == "__main__":
    main()
