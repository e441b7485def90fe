"""The head of a response, and the headers that a user may add to it.

It knows ASGI's message and HTTP's grammar of fields, and neither requests nor streams.
"""

from __future__ import annotations

import re
import reprlib
from collections.abc import Iterable, Mapping, MutableMapping
from functools import lru_cache
from typing import Any, Final, cast, final

from .negotiation import Answer

Text = str | bytes
Headers = Iterable[tuple[Text, Text]] | Mapping[str, str] | Mapping[bytes, bytes]

# RFC 9110, sections 5.1 and 5.5.
_FIELD_NAME: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9a-z-]+")
_FIELD_VALUE: Final = re.compile(rb"([\x21-\x7e\x80-\xff]+([\t ]+[\x21-\x7e\x80-\xff]+)*)?")

#: Fields that decide how the stream is read; a second opinion on them would break it.
_OURS: Final = frozenset({b"connection", b"content-length", b"content-type", b"transfer-encoding"})


@final
class ResponseHeaders:
    """Makes the head of each response of an application.

    Args:
        headers: Further headers; those of a stream replace ours of the same name.

    Raises:
        ValueError: If one is malformed, or one that the stream itself depends on.
        TypeError: If they are neither pairs of texts nor a mapping.
    """

    __slots__ = ("_fields", "_names")

    def __init__(self, headers: Headers) -> None:
        if not isinstance(cast("object", headers), Iterable):
            raise TypeError(f"headers must be a mapping or (name, value) pairs, got {headers!r}")
        pairs: Iterable[object] = headers
        if isinstance(headers, Mapping):
            pairs = cast("Mapping[Text, Text]", headers).items()
        self._fields = [_pair(pair) for pair in pairs]
        self._names = {name for name, _ in self._fields}
        for name, value in self._fields:
            _check_field(name, value)

    @property
    def preflight(self) -> Answer | None:
        """The answer to a page of another origin that asks whether it may send its last event ID.

        A browser asks by OPTIONS before a `fetch` with that header (Fetch, "CORS-preflight fetch").
        There is one if the headers name an origin that may read the stream.
        """
        if b"access-control-allow-origin" not in self._names:
            return None
        allowed = ("access-control-allow-headers", "last-event-id")
        return Answer(204, (("cache-control", "no-store"), allowed))

    def start(self, answer: Answer) -> MutableMapping[str, Any]:
        """Return the message that begins a response."""
        ours = [_field(name, value) for name, value in answer.headers]
        if answer.streams:
            fields = [field for field in ours if field[0] not in self._names] + self._fields
        else:
            names = {name for name, _ in ours}
            fields = ours + [field for field in self._fields if field[0] not in names]
        return {"type": "http.response.start", "status": answer.status, "headers": fields}


@lru_cache  # A thousand streams share them.
def _field(name: str | bytes, value: str | bytes) -> tuple[bytes, bytes]:
    return _latin(name).lower(), _latin(value)


def _pair(pair: object) -> tuple[bytes, bytes]:
    match pair:
        case (str() | bytes() as name, str() | bytes() as value):
            return _field(name, value)
        case _:
            raise TypeError(
                "headers must be (name, value) pairs of str or bytes, or a mapping of them, "
                f"got {reprlib.repr(pair)}"
            )


def _latin(text: str | bytes) -> bytes:
    return text if isinstance(text, bytes) else text.encode("latin-1")


def _check_field(name: bytes, value: bytes) -> None:
    if not (_FIELD_NAME.fullmatch(name) and _FIELD_VALUE.fullmatch(value)):
        raise ValueError(f"not an HTTP header: {name!r}: {value!r}")
    if name in _OURS:
        raise ValueError(f"{name.decode()!r} is set by the stream itself; leave it out of headers")
