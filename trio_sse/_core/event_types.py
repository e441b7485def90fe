"""Which events may be broadcast, and what their payloads must be.

A payload is checked by msgspec when it is broadcast, so what is sent is what the type says, and
what does not fit raises in the publisher. It knows types and text; it knows neither clients nor the
wire.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable
from typing import Any, Final, Generic, Protocol, TypeVar, cast, final

import attrs
import msgspec

from .conversion import Conversion
from .event import RESERVED_EVENTS, ServerSentEvent, check_text

#: Types that a browser's EventSource dispatches itself: a listener could not tell ours from its
#: own.
_BROWSER_EVENTS: Final = frozenset({"error", "open"})

_Payload = TypeVar("_Payload")


class _Publish(Protocol):
    def __call__(self, event: str, data: object, *, topic: str | None) -> None: ...


@final
@attrs.frozen(eq=False)
class RegisteredEvent(Generic[_Payload]):
    """An event type that may be broadcast; made by `Broadcaster.register_event`."""

    name: str
    """The event type that browsers listen for."""

    payload_type: Any
    """The type of its payloads; `None` for any."""

    _publish: _Publish = attrs.field(repr=False)
    _conversion: Conversion | None = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        conversion = None if self.payload_type is None else Conversion(self.payload_type)
        object.__setattr__(self, "_conversion", conversion)

    def broadcast(self, payload: _Payload, *, topic: str | None = None) -> None:
        """Broadcast an event of this type; see `Broadcaster.broadcast`."""
        self._publish(self.name, payload, topic=topic)

    def convert(self, payload: object) -> object:
        """Return the payload as its type has it.

        Raises:
            ValueError: If it does not fit; the message names the field at fault.
        """
        if self._conversion is None:
            return payload
        try:
            return self._conversion.convert(payload)
        except msgspec.ValidationError as error:
            raise ValueError(
                f"payload of event {self.name!r} does not fit {_name(self.payload_type)}: {error}; "
                f"got {reprlib.repr(payload)}"
            ) from error


@final
class EventTypes:
    """The event types of a broadcaster.

    Args:
        strict: Whether only these may be broadcast, and payloads must fit.
        dumps: Turns data that is neither `str` nor `bytes` into JSON text.
    """

    def __init__(self, *, strict: bool, dumps: Callable[[object], bytes | str]) -> None:
        if not callable(dumps):
            raise TypeError(f"dumps must be a function that returns str or bytes, got {dumps!r}")
        self._strict = strict
        self._dumps = dumps
        self._events: dict[str, RegisteredEvent[Any]] = {}

    @property
    def names(self) -> frozenset[str]:
        """The names of the registered types."""
        return frozenset(self._events)

    def register(self, event: RegisteredEvent[Any]) -> RegisteredEvent[Any]:
        """Register an event type; return what is registered already by its name, if it is equal.

        Raises:
            ValueError: If the name will not do, or is registered with another payload type.
        """
        self._check_name(event.name)
        registered = self._events.setdefault(event.name, event)
        if registered.payload_type != event.payload_type:
            raise ValueError(
                f"event type {event.name!r} is registered with payload type "
                f"{registered.payload_type!r}, not {event.payload_type!r}; choose another name"
            )
        return registered

    def serialise(self, event: str, data: object) -> str:
        """Return the data of an event as text.

        Raises:
            ValueError: If the event may not be broadcast, or the data does not fit it or is not
                UTF-8.
            TypeError: If the data cannot be turned into JSON.
        """
        _check_not_reserved(event)
        if self._strict:
            data = self._find(event).convert(data)
        encoded = data if isinstance(data, str | bytes) else self._encode(event, data)
        if isinstance(encoded, str):
            return encoded
        try:
            return str(encoded, "utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"data must be UTF-8, got {reprlib.repr(encoded)}; decode it, or send it as base64"
            ) from error

    def _encode(self, event: str, data: object) -> bytes | str:
        try:
            encoded = cast("object", self._dumps(data))
        except RecursionError as error:
            raise ValueError(f"data of event {event!r} contains itself, or is too deep") from error
        except TypeError as error:
            raise TypeError(
                f"data of event {event!r} cannot be turned into JSON: {error}; make it of dicts, "
                "lists and dataclasses, or give Broadcaster(dumps=...) a function that knows it"
            ) from error
        if isinstance(encoded, str | bytes):
            return encoded
        raise TypeError(f"dumps must return str or bytes, got {reprlib.repr(encoded)}")

    def _find(self, event: str) -> RegisteredEvent[Any]:
        if event not in self._events:
            raise ValueError(
                f"event type {event!r} is not registered; call register_event({event!r}) first, or "
                f"make the broadcaster with strict=False (registered: {sorted(self._events)})"
            )
        return self._events[event]

    def _check_name(self, name: str) -> None:
        _check_not_reserved(name)
        if self._strict and name in _BROWSER_EVENTS:
            raise ValueError(
                f"{name!r} is an event that EventSource dispatches itself, so a listener could not "
                "tell them apart; choose another name"
            )
        ServerSentEvent(name)


def _check_not_reserved(event: str) -> None:
    check_text("event", event)
    if event in RESERVED_EVENTS:
        raise ValueError(f"{event!r} is sent by the broadcaster itself; choose another name")


def _name(payload_type: object) -> str:
    return payload_type.__name__ if isinstance(payload_type, type) else str(payload_type)
