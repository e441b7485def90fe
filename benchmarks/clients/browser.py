"""A client that does with an event stream what a browser does, connection after connection.

It decodes chunks as they come, takes complete blocks only, remembers the last event ID and the
reconnection time, and asks with them when it comes back. An ID counts once its block is complete,
and outlives the connection until a block brings another. It is sans-IO: it is fed what a socket
gives, and told when a new connection begins.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from trio_sse import POSITION_EVENT

from .reader import CorruptError

_SIZE: Final = re.compile(rb"(?:\r\n)?([0-9a-f]+)\r\n")
_LONGEST_SIZE: Final = len(b"\r\nfffff\r\n")

#: An event's type and data, and the last event ID as of it.
Event = tuple[str, str, str]


class Browser:
    """An EventSource.

    Args:
        by_query: Whether the last event ID is sent as a query parameter, not as a header.
    """

    def __init__(self, *, by_query: bool = False) -> None:
        self.last_event_id = ""
        self.retry: float | None = None
        self._line = b""
        self._by_query = by_query
        self._begin()

    def connect(self, path: str = "/events") -> bytes:
        """Return the request for a new connection; what the last one left unfinished is gone."""
        self._begin()
        header = ""
        if self.last_event_id and self._by_query:
            path += f"?lastEventId={self.last_event_id}"
        elif self.last_event_id:
            header = f"Last-Event-ID: {self.last_event_id}\r\n"
        accept = "Accept: text/event-stream\r\n"
        return f"GET {path} HTTP/1.1\r\nHost: t\r\n{accept}{header}\r\n".encode()

    def feed(self, data: bytes) -> list[Event]:
        """Read on; return the events that are complete.

        Raises:
            CorruptError: If this is no event stream in chunks.
        """
        self._buffer += data
        if not (self._streaming or self._read_head()):
            return []
        lines = (self._line + b"".join(self._contents())).split(b"\n")
        self._line = lines.pop()
        return [event for line in lines if (event := self._take_line(line)) is not None]

    def _begin(self) -> None:
        self.ended = self._streaming = False
        self._buffer = b""
        self._left = 0
        self._line = b""
        self._id, self._type = self.last_event_id, "message"
        self._data: list[str] = []

    def _read_head(self) -> bool:
        head, end, rest = self._buffer.partition(b"\r\n\r\n")
        if end:
            if not head.startswith(b"HTTP/1.1 200 "):
                raise CorruptError(f"not a stream: {head!r}")
            self._streaming, self._buffer = True, rest
        return self._streaming

    def _contents(self) -> Iterator[bytes]:
        """Take the contents of chunks out of the buffer, however much of the last is there."""
        while self._buffer and not self.ended:
            if not self._left and not self._read_size():
                return
            content, self._buffer = self._buffer[: self._left], self._buffer[self._left :]
            self._left -= len(content)
            yield content

    def _read_size(self) -> bool:
        size = _SIZE.match(self._buffer)
        if size is None:
            if len(self._buffer) >= _LONGEST_SIZE:
                raise CorruptError(f"not a chunk's size: {self._buffer[:40]!r}")
            return False
        self._left, self._buffer = int(size[1], 16), self._buffer[size.end() :]
        self.ended = not self._left
        return True

    def _take_line(self, line: bytes) -> Event | None:
        if not line:
            return self._dispatch()
        name, _, value = line.decode().partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "id":
            self._id = value
        elif name == "event":
            self._type = value
        elif name == "retry":
            self.retry = int(value) / 1000
        return None

    def _dispatch(self) -> Event | None:
        self.last_event_id = self._id
        event = (self._type, "\n".join(self._data), self._id) if self._data else None
        if self._type == POSITION_EVENT:  # To which nobody listens: all it tells is the id.
            event = None
        self._type = "message"
        self._data.clear()
        return event
