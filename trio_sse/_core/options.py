"""What a broadcaster and its streams may be asked for.

Each check refuses what would only fail later, and names the value and what would do. It knows
numbers, and neither what they are for nor who asks.
"""

from __future__ import annotations

import inspect
import math
import reprlib
from collections.abc import Callable, Hashable, Iterable
from typing import Any, Final, cast, final

import attrs

from .jitter import TimeRange

#: What a stream may begin with, besides what its client has missed: event types and their data.
Snapshot = Callable[[], Iterable[tuple[str, object]]]


@final
class _NoKey:
    def __repr__(self) -> str:
        return "None"


#: No key was given; with a limit that is a mistake, where `None` is somebody without a key.
NO_KEY: Final = _NoKey()


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


def check_range(name: str, value: object) -> None:
    """Refuse what is not a range of times that a browser can wait for."""
    match value:
        case (int() | float() as low, int() | float() as high) if 0 <= low <= high < 2**31:
            return
        case _:
            raise ValueError(
                f"{name} must be two numbers of seconds, (low, high) with 0 <= low <= high and "
                f"high < 2**31, such as (1, 5), got {reprlib.repr(value)}"
            )


def check_snapshot(name: str, value: object) -> None:
    """Refuse what is not a function, or one that is to be awaited."""
    if value is not None and not callable(value):
        raise TypeError(
            f"{name} must be a function that returns (event type, data) pairs, "
            f"got {reprlib.repr(value)}"
        )
    check_not_asynchronous(name, value)


def check_not_asynchronous(name: str, value: object) -> None:
    """Refuse a function that would have to be awaited."""
    if inspect.iscoroutinefunction(value) or inspect.isasyncgenfunction(value):
        raise TypeError(
            f"{name} must not be asynchronous, since it is called in one step with what needs it; "
            f"wait before, got {reprlib.repr(value)}"
        )


def check_event_id(value: object) -> None:
    """Refuse what is no last event ID."""
    if value is not None and not isinstance(value, str):
        raise TypeError(f"last_event_id must be a str, got {reprlib.repr(value)}")


def check_key(name: str, value: object) -> None:
    """Refuse what cannot be looked up."""
    try:
        hash(value)
    except TypeError as error:
        raise TypeError(
            f"{name} must be hashable, such as a str or a tuple, got {reprlib.repr(value)}"
        ) from error


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
        ValueError: If `key_limit` is less than 1 or has no key, or `max_age` not greater than 0.
        TypeError: If `topics` is not a collection of `str`, `snapshot` no function, or `key` cannot
            be looked up.
    """

    topics: frozenset[str] = attrs.field(default=frozenset(), converter=check_topics)
    """What the client gets, besides the events without a topic."""

    snapshot: Snapshot | None = attrs.field(default=None, validator=_checked(check_snapshot))
    """Returns what the stream begins with, unless its client gets just what it missed."""

    key: Hashable = attrs.field(default=NO_KEY, validator=_checked(check_key))
    """Whose stream it is, to be limited and disconnected by; `None` for nobody's."""

    key_limit: float = attrs.field(default=math.inf, validator=_checked(check_limit))
    """How many streams of the key there may be at a time."""

    max_age: float = attrs.field(default=math.inf, validator=_checked(check_seconds))
    """Seconds after which the stream ends, between two events; each after 80 to 100 % of it."""

    def __attrs_post_init__(self) -> None:
        if self.key is not NO_KEY:
            return
        object.__setattr__(self, "key", None)
        if self.key_limit < math.inf:
            raise ValueError(
                f"key_limit={self.key_limit!r} limits the streams of a key: give a key, too, such "
                "as the user's name (max_clients= of the broadcaster limits all streams)"
            )
