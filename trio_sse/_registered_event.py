"""One registered event type: its name, the type of its payload, and its own `broadcast`.

A payload is checked by msgspec when it is broadcast, so what is sent is what the type says, and
what does not fit raises in the publisher. It knows types; it knows neither clients nor the wire.
"""

from __future__ import annotations

import reprlib
from typing import Any, Generic, Protocol, TypeVar, final

import attrs
import msgspec
import msgspec.inspect

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

    def broadcast(self, payload: _Payload, *, topic: str | None = None) -> None:
        """Broadcast an event of this type; see `Broadcaster.broadcast`."""
        self._publish(self.name, payload, topic=topic)

    def convert(self, payload: object) -> object:
        """Return the payload as its type has it.

        Raises:
            ValueError: If it does not fit; the message names the field at fault.
        """
        if self.payload_type is None:
            return payload
        try:
            return msgspec.convert(payload, self.payload_type)
        except msgspec.ValidationError as error:
            if _is_of_subclass(payload, self.payload_type):
                return payload
            raise ValueError(
                f"payload of event {self.name!r} does not fit {_name(self.payload_type)}: {error}; "
                f"got {reprlib.repr(payload)}"
            ) from error


def check_payload_type(payload_type: object) -> None:
    """Refuse a type that no payload can be checked by.

    Raises:
        TypeError: If it is none, or one that msgspec cannot tell values of.
    """
    try:
        msgspec.inspect.type_info(payload_type)
    except TypeError as error:
        raise TypeError(f"payload_type {payload_type!r} cannot be checked: {error}") from error


def _is_of_subclass(payload: object, payload_type: object) -> bool:
    """Tell whether a type checker, too, would take the payload; a bool is no int in JSON."""
    return (
        isinstance(payload_type, type)
        and payload_type.__module__ != "builtins"
        and payload_type in type(payload).__mro__
    )


def _name(payload_type: object) -> str:
    return payload_type.__name__ if isinstance(payload_type, type) else str(payload_type)
