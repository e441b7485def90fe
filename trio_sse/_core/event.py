"""One block of an event stream, and its wire form.

Rules of this file:
1. It knows WHATWG HTML section 9.2 (server-sent events) and nothing else: no Trio, no HTTP, no
   clock.
2. A value that could not be read back by a browser as it was given is refused when it is made, so
   an event that exists can be sent: nothing in it can end its own line or forge another field.
3. A line ends with CR LF, CR or LF and with nothing else. `str.splitlines()` also splits on U+2028,
   U+0085 and others, so it is never used here.
4. An event is encoded once, when it is made; all who send it share the same bytes.
"""

from __future__ import annotations

import re
import reprlib
from typing import Final, final

import attrs

_LINE_END: Final = re.compile(r"\r\n|\r|\n")
_FORBIDDEN: Final = re.compile(r"[\r\n\0]")

#: The default event type (WHATWG HTML 9.2.6, "dispatch the event"), which needs no `event` line.
_DEFAULT_TYPE: Final = "message"

#: The event type that tells a client that events may have been missed; its data is the reason.
RESET_EVENT: Final = "stream-reset"

#: The event type of a block that only tells a client its last event ID, however little it listens
#: for: many clients drop the id of a block without data.
POSITION_EVENT: Final = "stream-position"

#: The event type of the last block of a stream that is over for good.
END_EVENT: Final = "stream-end"

#: The last event ID of a client that shall not come back; no other event has it.
END_ID: Final = "end"

#: What a broadcaster says itself, and nobody else.
RESERVED_EVENTS: Final = frozenset({RESET_EVENT, POSITION_EVENT, END_EVENT})

#: The data of those of them that need none: who reads all data as JSON must be able to read it.
_NO_DATA: Final = "{}"

#: Browsers read the reconnection time into a double; a larger integer would not arrive as sent.
_MAX_RETRY: Final = 2**53 - 1


def check_text(name: str, value: object) -> None:
    """Refuse what is not a `str`."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, got {reprlib.repr(value)}")


def _check_line(name: str, value: str) -> None:
    check_text(name, value)
    if _FORBIDDEN.search(value):
        raise ValueError(f"{name} must not contain CR, LF or NUL, got {reprlib.repr(value)}")


def _check_retry(value: object) -> None:
    if not (type(value) is int and 0 <= value <= _MAX_RETRY):
        raise ValueError(
            "retry must be a whole number of milliseconds from 0 to 2**53 - 1, "
            f"got {reprlib.repr(value)}"
        )


def _field(name: str, value: str) -> str:
    # One space is written always, since the reader takes one away. Joined, not formatted: format()
    # of a str that is also an Enum gives the member's name.
    return "".join(line for part in _LINE_END.split(value) for line in (name, ": ", part, "\n"))


@final
@attrs.frozen
class ServerSentEvent:
    r"""One event of an event stream, as text.

    Args:
        event: The event type that the browser dispatches.
        data: The data. Its line ends, however written, arrive as LF. `None` makes a block without
            data, which a browser does not dispatch, though it takes the id and the reconnection
            time.
        id: The last event ID that the browser remembers and sends when it reconnects; the empty
            string makes it forget.
        retry: The reconnection time in milliseconds.
        comment: A comment, which every browser ignores; it goes before the fields.

    Raises:
        ValueError: If `event` or `id` contains CR, LF or NUL, `event` is empty, `retry` is not a
            whole number from 0 to 2**53 - 1, or a text has a lone surrogate (which UTF-8 cannot
            express).
        TypeError: If a text is not a `str`.

    Source: `WHATWG HTML 9.2 <https://html.spec.whatwg.org/multipage/server-sent-events.html>`_.

    Example:
        >>> ServerSentEvent("price", "42", id="7").encode()
        b'id: 7\nevent: price\ndata: 42\n\n'
    """

    event: str = _DEFAULT_TYPE
    data: str | None = ""
    id: str | None = None
    retry: int | None = None
    comment: str | None = attrs.field(default=None, kw_only=True)
    _wire: bytes = attrs.field(init=False, repr=False, eq=False)

    def __attrs_post_init__(self) -> None:
        self._check()
        try:
            self.event.encode()  # It is not in a block without data.
            wire = self._block().encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                "an event stream is UTF-8, which cannot express the lone surrogate "
                f"{error.object[error.start]!r}; replace it before sending"
            ) from error
        object.__setattr__(self, "_wire", wire)

    def encode(self) -> bytes:
        """Return the block as UTF-8, its closing empty line included: the same object each time."""
        return self._wire

    def _check(self) -> None:
        _check_line("event", self.event)
        if not self.event:
            raise ValueError("event must not be empty; the default type is 'message'")
        if self.data is not None:
            check_text("data", self.data)
        if self.id is not None:
            _check_line("id", self.id)
        if self.retry is not None:
            _check_retry(self.retry)
        if self.comment is not None:
            check_text("comment", self.comment)

    def _block(self) -> str:
        block = ""
        if self.comment is not None:
            block += _field("", self.comment)
        if self.id is not None:
            block += _field("id", self.id)
        if self.retry is not None:
            block += _field("retry", str(self.retry))
        if self.data is not None:
            if self.event != _DEFAULT_TYPE:
                block += _field("event", self.event)
            block += _field("data", self.data)
        return block + "\n"


def position_event(event_id: str | None) -> ServerSentEvent:
    """Return the block that only tells where a stream is."""
    return ServerSentEvent(POSITION_EVENT, _NO_DATA, id=event_id)


def end_event(retry: int | None) -> ServerSentEvent:
    """Return the last block of a stream that is over for good.

    A browser asks once more, by this id, and is refused.
    """
    return ServerSentEvent(END_EVENT, _NO_DATA, END_ID, retry)


#: A comment that shows that the connection is alive.
HEARTBEAT: Final = ServerSentEvent(data=None, comment="heartbeat")


def numbered(event: ServerSentEvent, event_id: str) -> ServerSentEvent:
    """Return an event under the id that a history gives it; the rest is not encoded again.

    Args:
        event: An event that has neither an id nor a comment.
        event_id: The id, which is known to have no line end.
    """
    return _twin(event, event_id, b"id: %b\n%b" % (event_id.encode(), event.encode()))


def after_heartbeat(event: ServerSentEvent) -> ServerSentEvent:
    """Return an event before which a heartbeat goes out, as a block of its own, in one write."""
    return _twin(event, event.id, HEARTBEAT.encode() + event.encode())


def _twin(event: ServerSentEvent, event_id: str | None, wire: bytes) -> ServerSentEvent:
    twin = object.__new__(ServerSentEvent)
    for name, value in (
        ("event", event.event),
        ("data", event.data),
        ("id", event_id),
        ("retry", event.retry),
        ("comment", event.comment),
        ("_wire", wire),
    ):
        object.__setattr__(twin, name, value)
    return twin
