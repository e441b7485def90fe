"""The page and its plot, from what `benchmarks.run` and `benchmarks.check` left in the cache.

    python -m benchmarks.page [--cache FOLDER] [--output FOLDER]

It writes `benchmarks.md` and `benchmarks.svg`; the project's own are those with ``--output docs``.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from .report.finding import Finding
from .report.plot import draw
from .report.results import FIGURES, Results
from .servers.subjects import CACHE, title

_PAGE = """\
# Benchmarks

{clients:,} clients of one server process, payloads of 64 bytes, medians of {rounds} interleaved
rounds. Single events: the next is sent once the last client has the one before. Bursts: 20 events
back to back. CPU is what the operating system charged the server for each event and client, user
and system; latency is the time until the last client has the event (the last of the burst), the
load generator's own time for reading them all included; memory is resident, for each idle client.

![CPU for each delivered event](benchmarks.svg)

{figures}
Every server carries the same payloads, and every client's count is checked; some add an `id` or an
`event` line. nginx is charged for its worker alone, not for the process that publishes.
{warnings}
## Ratios of CPU for each delivered event

Medians of the ratios within each round.

{ratios}
## What else must hold

{findings}
## The machine

{machine}

How to run it: `benchmarks/README.md` in the repository.
"""


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table whose first column is text and whose others are numbers."""
    rule = ["---", *["--:"] * (len(head) - 1)]
    return "".join(f"| {' | '.join(row)} |\n" for row in (head, rule, *rows))


def _figures(results: Results) -> str:
    units = ("(µs)", "(µs)", "(ms)", "(ms)", "(KiB)")
    head = ["", *(f"{figure} {unit}" for figure, unit in zip(FIGURES, units, strict=True))]
    rows = (
        [title(name), *(f"{results.figure(figure, name):.1f}" for figure in FIGURES)]
        for name in results.samples
    )
    return table(head, rows)


def _warnings(results: Results) -> Iterator[str]:
    """Yield a paragraph for each subject whose name promises what was not measured."""
    for name, samples in results.samples.items():
        if bypassed := max(sample.bypassed for sample in samples):
            yield f"\n**{title(name)}: {bypassed} clients did not go the direct way.**\n"


def _ratios(results: Results) -> str:
    rows: list[list[str]] = []
    for limit in results.limits():
        single = results.ratio("CPU, single", limit.subject, limit.peer)
        burst = results.ratio("CPU, burst", limit.subject, limit.peer)
        name = f"{limit.subject} / {limit.peer}"
        rows.append([name, _verdict(single, limit.single), _verdict(burst, limit.burst)])
    return table(("", "single events", "bursts of 20"), rows)


def _verdict(ratio: float, limit: float) -> str:
    if limit == math.inf:
        return f"{ratio:.2f}"
    return f"{ratio:.2f} (at most {limit}: {'PASS' if ratio <= limit else 'FAIL'})"


def _findings(findings: Sequence[Finding]) -> str:
    """Return how many things hold, and a table of those that do not."""
    failed = [finding for finding in findings if finding.verdict == "FAIL"]
    held = len(findings) - len(failed)
    told = f"Of {len(findings)} findings of `benchmarks.check`, {held} are as they must be."
    if not failed:
        return f"{told}\n"
    rows = (finding.row()[:3] for finding in failed)
    return f"{told} These are not:\n\n{table(('', 'found', 'at most'), rows)}"


def compose(record: dict[str, Any], findings: Sequence[Finding]) -> str:
    """Return the page of a record of `benchmarks.run` and the findings of `benchmarks.check`."""
    results = Results.from_json(record)
    return _PAGE.format(
        clients=record["clients"],
        rounds=min(map(len, results.samples.values())),
        figures=_figures(results),
        warnings="".join(_warnings(results)),
        ratios=_ratios(results),
        findings=_findings(findings),
        machine="\n".join(f"- {name}: {value}" for name, value in record["machine"].items()),
    )


def main() -> None:
    """Write the page and the plot."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cache", type=Path, default=CACHE)
    parser.add_argument("--output", type=Path, help="default: the cache")
    options = parser.parse_args()
    cache: Path = options.cache
    folder: Path = options.output or cache
    record = json.loads((cache / "benchmarks.json").read_text())
    scenarios = cache / "scenarios.json"
    findings: list[dict[str, Any]] = json.loads(scenarios.read_text()) if scenarios.exists() else []
    page = compose(record, [Finding(**finding) for finding in findings])
    (folder / "benchmarks.md").write_text(page)
    (folder / "benchmarks.svg").write_text(draw(Results.from_json(record)))


if __name__ == "__main__":
    main()
