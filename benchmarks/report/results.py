"""What was measured, and the medians and ratios of it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from statistics import median
from typing import Any, Final, Self

from ..servers.subjects import BARE, FLOOR


@dataclass(frozen=True)
class Work:
    """Events of one kind: what the server spent on each delivery, and how long clients waited."""

    cpu: float
    """Microseconds of the server's CPU for each event and client."""
    latency: float
    """Milliseconds until the last client has the (last) event, median of the batches."""


@dataclass(frozen=True)
class Sample:
    """One round of one subject."""

    single: Work
    burst: Work
    resident: float
    """KiB of resident memory for each idle client."""
    bypassed: int = 0
    """Clients that should have gone the direct way, and did not."""


#: What each figure is called, and how it is read from a sample.
FIGURES: Final[dict[str, Callable[[Sample], float]]] = {
    "CPU, single": lambda sample: sample.single.cpu,
    "CPU, burst": lambda sample: sample.burst.cpu,
    "latency, single": lambda sample: sample.single.latency,
    "latency, burst": lambda sample: sample.burst.latency,
    "memory": lambda sample: sample.resident,
}


@dataclass(frozen=True)
class Limit:
    """What the CPU for each delivered event may be at most, beside a peer's."""

    subject: str
    peer: str
    single: float
    burst: float


LIMITS: Final = (
    Limit("direct", FLOOR, 1.35, 0.13),
    Limit("direct", "nchan", 1.2, 0.2),
    Limit("direct", "better-sse", 1.0, 0.5),
    Limit("direct", "aiohttp-sse", 1.0, 0.5),
    Limit("direct", "sse-starlette", 1.0, 0.5),
    Limit("quart", "direct", 1.15, 1.15),
    Limit("own-topics", "direct", math.inf, math.inf),
    Limit("stock", BARE, 1.15, 0.12),
    Limit("direct-tls", "direct", 2.0, 2.0),
    Limit("direct-tls", "nchan-tls", 1.0, 1.0),
    Limit("direct-tls", "sse-starlette-tls", 1.0, 1.0),
    Limit("direct-tls", "stock-tls", 1.0, 1.0),
    Limit("quart-tls", "direct-tls", 1.15, 1.15),
    Limit("direct-h2c", "direct", 2.2, 2.2),
    Limit("direct-h2c", "stock-h2c", 1.0, 1.0),
    Limit("direct-h2", "direct", 3.5, 3.5),
    Limit("direct-h2x5", "direct", 1.8, 1.8),
    *(
        Limit(f"direct-{row}", f"{peer}-{row}", 1.0, 1.0)
        for row in ("h2", "h2x5")
        for peer in ("stock", "nchan", "better-sse")
    ),
)


@dataclass(frozen=True)
class Results:
    """The samples of each subject, round by round."""

    samples: dict[str, list[Sample]]

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> Self:
        """Return what `as_json` was made of."""
        return cls({name: list(map(_sample, rounds)) for name, rounds in record["samples"].items()})

    def figure(self, name: str, subject: str) -> float:
        """Return the median of a figure."""
        return median(map(FIGURES[name], self.samples[subject]))

    def ratio(self, name: str, subject: str, peer: str) -> float:
        """Return the median of the ratios of a figure."""
        return median(self.ratios(name, subject, peer))

    def ratios(self, name: str, subject: str, peer: str) -> list[float]:
        """Return the ratios of a figure, each within a round."""
        read = FIGURES[name]
        pairs = zip(self.samples[subject], self.samples[peer], strict=True)
        return [read(ours) / read(theirs) for ours, theirs in pairs]

    def limits(self) -> list[Limit]:
        """Return the limits whose subjects were both measured."""
        return [limit for limit in LIMITS if {limit.subject, limit.peer} <= set(self.samples)]

    def as_json(self) -> dict[str, object]:
        """Return the medians, the ratios and every sample, for `json`."""
        return {
            "medians": {
                subject: {name: self.figure(name, subject) for name in FIGURES}
                for subject in self.samples
            },
            "ratios": {
                f"{limit.subject} / {limit.peer}": {
                    "single": self.ratio("CPU, single", limit.subject, limit.peer),
                    "burst": self.ratio("CPU, burst", limit.subject, limit.peer),
                }
                for limit in self.limits()
            },
            "samples": {name: list(map(asdict, rounds)) for name, rounds in self.samples.items()},
        }


def _sample(record: dict[str, Any]) -> Sample:
    single, burst = Work(**record["single"]), Work(**record["burst"])
    return Sample(single, burst, record["resident"], record["bypassed"])
