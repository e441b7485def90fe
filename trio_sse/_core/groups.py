"""Clients by a name that they share.

A group without clients leaves nothing behind, so names may be as many as they like over time. It
knows neither what the names mean nor what clients are.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Generic, TypeVar, final

_Member = TypeVar("_Member")


@final
class Groups(Generic[_Member]):
    """Members by name, in the order in which they came."""

    __slots__ = ("_groups",)

    def __init__(self) -> None:
        self._groups: dict[Hashable, dict[_Member, None]] = {}

    def add(self, name: Hashable, member: _Member) -> None:
        """Put a member into a group."""
        self._groups.setdefault(name, {})[member] = None

    def discard(self, name: Hashable, member: _Member) -> None:
        """Take a member out of a group, if it is in."""
        group = self._groups.get(name)
        if group is not None:
            group.pop(member, None)
            if not group:
                del self._groups[name]

    def members(self, name: Hashable) -> Sequence[_Member]:
        """Return who is in a group, as of now."""
        return tuple(self._groups.get(name, ()))

    def count(self, name: Hashable) -> int:
        """Return how many are in a group."""
        return len(self._groups.get(name, ()))
