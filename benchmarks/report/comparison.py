"""Ratios of subjects and peers, and of a checkout and another; and how sure they are.

Each ratio is taken within a round. The interval is that of the order statistics: it holds the
median of all rounds that could be with at least the confidence that is asked for, whatever their
distribution is; five rounds or fewer are too few for 95 %, and the line says so.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import comb
from statistics import median
from typing import Final

from ..servers.subjects import PEERS, before
from .results import Results

_FIGURES: Final = ("CPU, single", "CPU, burst")
_CONFIDENCE: Final = 0.95


@dataclass(frozen=True)
class Interval:
    """A median, and the range that holds the true one with some confidence."""

    median: float
    low: float
    high: float
    confidence: float

    def __str__(self) -> str:
        holds = "holds 1" if self.low <= 1 <= self.high else "does not hold 1"
        between = f"{self.confidence:.1%} between {self.low:.3f} and {self.high:.3f}"
        return f"{self.median:.3f}, {between}: {holds}"


def interval(values: Sequence[float]) -> Interval:
    """Return the narrowest interval that is sure enough, or the widest there is."""
    ordered, count = sorted(values), len(values)
    outside = 0
    while outside < (count - 1) // 2 and _confidence(count, outside + 1) >= _CONFIDENCE:
        outside += 1
    low, high = ordered[outside], ordered[-1 - outside]
    return Interval(median(values), low, high, _confidence(count, outside))


def _confidence(count: int, outside: int) -> float:
    """Return how likely the median is within the range without so many values at each end."""
    return 1 - 2 * sum(comb(count, below) for below in range(outside + 1)) / 2.0**count


def against_peers(results: Results) -> Iterator[str]:
    """Yield a line for each figure of each subject that has a limit beside a peer."""
    for limit in results.limits():
        for figure in _FIGURES:
            ratios = interval(results.ratios(figure, limit.subject, limit.peer))
            yield f"{figure}: {limit.subject} / {limit.peer}: {ratios}"


def compare(results: Results) -> Iterator[str]:
    """Yield a line for each figure of each subject that was measured of both checkouts."""
    for name, peer in PEERS.items():
        for figure in _FIGURES if before(name) in results.samples else ():
            ours = interval(results.ratios(figure, name, before(name)))
            yield f"{figure}: {name}, after / before: {ours}"
            if peer in results.samples:
                after = results.ratios(figure, name, peer)
                earlier = results.ratios(figure, before(name), before(peer))
                ratios = [new / old for new, old in zip(after, earlier, strict=True)]
                yield f"{figure}: {name} / {peer}, after / before: {interval(ratios)}"
