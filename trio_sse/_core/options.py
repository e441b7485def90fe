"""What a broadcaster and its streams may be asked for.

Each check refuses what would only fail later, and names the value and what would do. It knows
numbers, and neither what they are for nor who asks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable
from typing import Any, cast, final

import attrs

from .jitter import TimeRange

#: What a stream may begin with, besides what its client has missed: event types and their data.
Snapshot = Callable[[], Iterable[tuple[str, object]]]


def check_count(name: str, value: object, *, at_least: int) -> None:
    """Refuse what is not a whole number of at least so many."""
    if not isinstance(value, int) or value < at_least:
        raise ValueError(f"{name} must be a whole number of at least {at_least}, got {value!r}")


def check_limit(name: str, value: object) -> None:
    """Refuse what is not a number of at least 1; `math.inf` is none."""
    if not isinstance(value, int | float) or not value >= 1:
        raise ValueError(
            f"{name} must be a number of at least 1 (math.inf for no limit), got {value!r}"
        )


def check_seconds(name: str, value: object) -> None:
    """Refuse what is not a time greater than 0; `math.inf` is never."""
    if not isinstance(value, int | float) or not value > 0:
        raise ValueError(
            f"{name} must be a number of seconds greater than 0 (math.inf for never), got {value!r}"
        )


def check_topic(topic: object) -> None:
    """Refuse what is not the name of a topic."""
    if not isinstance(topic, str):
        raise TypeError(f"a topic must be a str, got {topic!r}")


def check_topics(topics: object) -> frozenset[str]:
    """Return the topics as a set; refuse one `str`, whose letters would be taken for topics."""
    if isinstance(topics, str) or not isinstance(topics, Iterable):
        raise TypeError(f"topics must be a collection of str, such as a list, got {topics!r}")
    names = [*cast("Iterable[str]", topics)]
    for name in names:
        check_topic(name)
    return frozenset(names)


def check_interval(heartbeat_interval: float | None) -> float:
    """Return the seconds between two heartbeats, `math.inf` for never."""
    seconds = math.inf if heartbeat_interval is None else heartbeat_interval
    check_seconds("heartbeat_interval", seconds)
    return seconds


def check_range(name: str, value: TimeRange) -> None:
    """Refuse what is not a range of times that a browser can wait for."""
    low, high = value
    if not 0 <= low <= high < 2**31:
        raise ValueError(f"{name} must be (low, high) seconds with 0 <= low <= high, got {value!r}")


def _checked(check: Callable[..., None], **limits: int) -> Callable[[Any, Any, Any], None]:
    """Return a validator of a field."""

    def validate(_: object, attribute: attrs.Attribute[Any], value: Any) -> None:
        check(attribute.name, value, **limits)

    return validate


@final
@attrs.frozen(kw_only=True)
class HubOptions:
    """What a broadcaster is asked for; see there.

    Raises:
        ValueError: If a number is out of its range.
    """

    buffer_size: int = attrs.field(validator=_checked(check_count, at_least=1))
    heartbeat_interval: float = attrs.field(converter=check_interval)
    history_size: int = attrs.field(validator=_checked(check_count, at_least=0))
    max_clients: float = attrs.field(validator=_checked(check_limit))
    reconnection_time: TimeRange | None = attrs.field(
        validator=attrs.validators.optional(_checked(check_range))
    )


@final
@attrs.frozen(kw_only=True)
class StreamOptions:
    """What one stream is asked for, whatever way it goes.

    Raises:
        ValueError: If `key_limit` is less than 1, or `max_age` is not greater than 0.
        TypeError: If `topics` is not a collection of `str`.
    """

    topics: frozenset[str] = attrs.field(default=frozenset(), converter=check_topics)
    """What the client gets, besides the events without a topic."""

    snapshot: Snapshot | None = None
    """Returns what the stream begins with, unless its client gets just what it missed."""

    key: Hashable = None
    """Whose stream it is, to be limited and disconnected by; `None` for nobody's."""

    key_limit: float = attrs.field(default=math.inf, validator=_checked(check_limit))
    """How many streams of the key there may be at a time."""

    max_age: float = attrs.field(default=math.inf, validator=_checked(check_seconds))
    """Seconds after which the stream ends, between two events; each after 80 to 100 % of it."""
