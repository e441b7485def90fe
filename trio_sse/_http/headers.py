"""The head of a response, and the headers that a user may add to it.

It knows ASGI's message and HTTP's grammar of fields, and neither requests nor streams.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, MutableMapping
from functools import lru_cache
from typing import Any, Final, final

from .negotiation import Answer

Headers = Iterable[tuple[str | bytes, str | bytes]]

# RFC 9110, sections 5.1 and 5.5.
_FIELD_NAME: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")
_FIELD_VALUE: Final = re.compile(rb"([\x21-\x7e\x80-\xff]+([\t ]+[\x21-\x7e\x80-\xff]+)*)?")

#: Fields that decide how the stream is read; a second opinion on them would break it.
_OURS: Final = frozenset({b"connection", b"content-length", b"content-type", b"transfer-encoding"})


@final
class ResponseHeaders:
    """Makes the head of each response of an application.

    Args:
        headers: Further headers; they replace ours of the same name.

    Raises:
        ValueError: If one is malformed, or one that the stream itself depends on.
    """

    __slots__ = ("_fields", "_names")

    def __init__(self, headers: Headers) -> None:
        self._fields = [_field(name, value) for name, value in headers]
        self._names = {name for name, _ in self._fields}
        for name, value in self._fields:
            _check_field(name, value)

    def start(self, answer: Answer) -> MutableMapping[str, Any]:
        """Return the message that begins a response."""
        ours = [_field(name, value) for name, value in answer.headers]
        return {
            "type": "http.response.start",
            "status": answer.status,
            "headers": [field for field in ours if field[0] not in self._names] + self._fields,
        }


@lru_cache  # A thousand streams share them.
def _field(name: str | bytes, value: str | bytes) -> tuple[bytes, bytes]:
    return _latin(name).lower(), _latin(value)


def _latin(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("latin-1")


def _check_field(name: bytes, value: bytes) -> None:
    if not (_FIELD_NAME.fullmatch(name) and _FIELD_VALUE.fullmatch(value)):
        raise ValueError(f"not an HTTP header: {name!r}: {value!r}")
    if name in _OURS:
        raise ValueError(f"{name.decode()!r} is set by the stream itself; leave it out of headers")
