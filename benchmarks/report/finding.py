"""What a scenario found, beside what it should have found."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Finding:
    """One figure, which passes if it is at most the limit."""

    what: str
    value: float
    limit: float
    unit: str = ""

    @property
    def verdict(self) -> str:
        """Whether it passes."""
        return "PASS" if self.value <= self.limit else "FAIL"

    def row(self) -> list[str]:
        """Return the cells of a table: what, found, at most, verdict."""
        return [
            self.what,
            *(f"{x:.4g} {self.unit}".strip() for x in (self.value, self.limit)),
            self.verdict,
        ]
