"""An event stream as its client reads it: bytes in, cut anywhere; events out.

Rules of this file:
1. It knows WHATWG HTML sections 9.2.5 and 9.2.6 and nothing else: no Trio, no HTTP, no clock. It
   does not know the sender's side either (`event`), so that neither hides a fault of the other.
2. It reads whatever a server sends: no bytes are an error.
3. Clients differ in one thing, an `id` in a block without data. To the letter of the specification
   it sets the last event ID, as in Chromium and undici; Firefox and eventsource of npm drop it with
   its block. The decoder reads in either way.
"""

from __future__ import annotations

import codecs
import json
import re
from typing import Any, Final, final

import attrs

_LINE_END: Final = re.compile(r"\r\n|\r|\n")

#: ASCII digits. More than these fit no integer of a browser, and thousands not even into `int()`.
_RETRY: Final = re.compile(r"[0-9]{1,20}")


@final
@attrs.frozen
class ReceivedEvent:
    """One event as a client has received it.

    Attributes:
        event: The event type; "message" where the block has none.
        data: The data, its lines joined with LF.
        id: The last event ID as of then: the event's own, or that of an earlier block.
        retry: The reconnection time in milliseconds, if the event's block has one.
    """

    event: str
    data: str
    id: str
    retry: int | None

    def json(self) -> Any:
        """Return the data, read as JSON."""
        return json.loads(self.data)


@attrs.define
class _Block:
    """What the lines since the last empty one have said."""

    event: str = ""
    data: list[str] = attrs.Factory(list[str])
    id: str | None = None
    retry: int | None = None


@final
class EventStreamDecoder:
    r"""The events, the comments and the state of one event stream.

    Args:
        keeps_bare_ids: Whether an `id` in a block without data sets the last event ID.

    Attributes:
        last_event_id: What the client sends as `Last-Event-ID` when it comes back. Set it to go on
            from an earlier connection.
        retry: The reconnection time in milliseconds, if the stream has set one.
        comments: The comments, without the colon and the one space behind it.

    Example:
        >>> EventStreamDecoder().feed(b"event: price\ndata: 42\n\n")
        [ReceivedEvent(event='price', data='42', id='', retry=None)]
    """

    def __init__(self, *, keeps_bare_ids: bool = True) -> None:
        self.last_event_id = ""
        self.retry: int | None = None
        self.comments: list[str] = []
        self._keeps_bare_ids = keeps_bare_ids
        self._text = codecs.getincrementaldecoder("utf-8-sig")("replace")
        self._after_cr = False
        self._line: list[str] = []  # The pieces of a line that has not ended.
        self._block = _Block()

    def feed(self, chunk: bytes) -> list[ReceivedEvent]:
        """Return the events that are complete with these bytes."""
        lines = self._lines(self._text.decode(chunk))
        return [event for line in lines if (event := self._take(line)) is not None]

    def _lines(self, text: str) -> list[str]:
        if not text:
            return []
        if self._after_cr:
            text = text.removeprefix("\n")  # The CR has ended its line already.
        self._after_cr = text.endswith("\r")
        piece, *others = _LINE_END.split(text)
        self._line.append(piece)
        if not others:
            return []
        *lines, piece = ["".join(self._line), *others]
        self._line = [piece]
        return lines

    def _take(self, line: str) -> ReceivedEvent | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        self._take_field(name, value.removeprefix(" "))
        return None

    def _take_field(self, name: str, value: str) -> None:
        match name:
            case "":
                self.comments.append(value)
            case "event":
                self._block.event = value
            case "data":
                self._block.data.append(value)
            case "id" if "\0" not in value:
                self._block.id = value
            case "retry" if _RETRY.fullmatch(value):
                self.retry = self._block.retry = int(value)
            case _:
                pass

    def _dispatch(self) -> ReceivedEvent | None:
        block, self._block = self._block, _Block()
        if block.id is not None and (block.data or self._keeps_bare_ids):
            self.last_event_id = block.id
        if not block.data:
            return None
        data = "\n".join(block.data)
        return ReceivedEvent(block.event or "message", data, self.last_event_id, block.retry)
