"""Payloads as their type has them, and as JSON: msgspec's conversion, and what it leaves out.

A dataclass that is made from a dict has its defaults from its class only, where msgspec's own
encoder does not look; they are set here. Pydantic's models are known by their methods. It knows
types and values, and not what they are for.
"""

from __future__ import annotations

import dataclasses
import datetime
import math
from collections.abc import Iterable
from typing import Any, Final, cast, final, get_origin

import attrs
import msgspec
import msgspec.inspect


@final
class Conversion:
    """Converts values to a type.

    Args:
        to: The type.

    Raises:
        TypeError: If it is none, or one that msgspec cannot tell values of.
    """

    __slots__ = ("_dataclasses", "_has_floats", "_to")

    def __init__(self, to: Any) -> None:
        try:
            info = msgspec.inspect.type_info(to)
        except TypeError as error:
            raise TypeError(f"payload_type {to!r} cannot be checked: {error}") from error
        self._to = to
        parts = [*_parts_of(info)]
        self._has_floats = any(isinstance(part, msgspec.inspect.FloatType) for part in parts)
        described = msgspec.inspect.DataclassType  # So are attrs classes, which need nothing.
        kinds = [get_origin(part.cls) or part.cls for part in parts if isinstance(part, described)]
        self._dataclasses = {kind for kind in kinds if dataclasses.is_dataclass(kind)}

    def convert(self, value: object) -> object:
        """Return the value, converted if it is not of the type.

        Raises:
            msgspec.ValidationError: If it does not fit; the message names the field at fault.
        """
        try:
            converted: object = msgspec.convert(value, self._to, dec_hook=_validate)
        except msgspec.ValidationError:
            if _is_of_subclass(value, self._to):
                return value
            raise
        if converted is not value and self._dataclasses:
            self._set_defaults(converted)
        if self._has_floats:
            _check_finite(converted)
        return converted

    def _set_defaults(self, value: object) -> None:
        if type(value) in self._dataclasses:
            held = getattr(value, "__dict__", {})  # An instance of the user's holds all of them.
            for field in dataclasses.fields(cast("Any", value)):
                if field.default is not dataclasses.MISSING and field.name not in held:
                    object.__setattr__(value, field.name, getattr(value, field.name))
        for part in _members(value):
            self._set_defaults(part)


def _check_finite(value: object) -> None:
    """Refuse what JSON has no number for: it would be sent as ``null``, which is no float."""
    if isinstance(value, float) and not math.isfinite(value):
        raise msgspec.ValidationError(f"JSON has no number for {value!r}; send None, or text")
    for part in () if isinstance(value, float | str) else _members(value):
        _check_finite(part)


def _validate(to: Any, value: object) -> object:
    """Return the value as a class has it that msgspec does not know: pydantic's models do."""
    if isinstance(value, get_origin(to) or to):
        return value
    if hasattr(to, "model_validate"):
        validated: object = to.model_validate(value)
        return validated
    raise TypeError(f"Expected `{to.__name__}`, got `{type(value).__name__}`")


def _dump(value: Any) -> object:
    """Return the fields of an object that msgspec does not know: pydantic's models have them."""
    if hasattr(value, "model_dump"):
        return value.model_dump(mode="json")
    raise TypeError(f"objects of type {type(value).__name__} are none that msgspec knows")


#: Turns data into JSON.
encode_json: Final = msgspec.json.Encoder(enc_hook=_dump).encode


def _is_of_subclass(value: object, of: object) -> bool:
    """Tell whether a type checker, too, would take the value, and JSON have it in the same form."""
    if not isinstance(of, type) or of.__module__ == "builtins":  # A bool is no int in JSON.
        return False
    return of is not datetime.date and of in type(value).__mro__  # And no datetime a date.


def _parts_of(info: object) -> Iterable[object]:
    """Return all that msgspec knows of a type and of those within it."""
    found: dict[int, object] = {}
    left = [info]
    while left:
        part = left.pop()
        if id(part) in found:
            continue
        found[id(part)] = part
        if isinstance(part, tuple | msgspec.inspect.Type | msgspec.inspect.Field):
            left += _members(cast("object", part))
    return found.values()


def _members(value: object) -> Iterable[object]:
    """Return what a value consists of."""
    if isinstance(value, dict):
        return cast("dict[object, object]", value).values()
    if isinstance(value, list | tuple | set | frozenset):
        return cast("Iterable[object]", value)
    return [getattr(value, name) for name in _field_names(value) if hasattr(value, name)]


def _field_names(value: object) -> Iterable[str]:
    kind = type(value)
    if isinstance(value, msgspec.Struct):
        return value.__struct_fields__
    if dataclasses.is_dataclass(kind):
        return [field.name for field in dataclasses.fields(kind)]
    return [field.name for field in attrs.fields(kind)] if attrs.has(kind) else ()
