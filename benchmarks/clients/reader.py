"""A client's side of a connection that doubts every byte: HTTP/1.1, event stream, sealed events.

It is fed what a socket gives and raises at the first byte that should not be there. It is stricter
than the specifications, as it knows how trio-sse writes, and owes nothing to the parsers that the
server uses. It knows no sockets, and not how a connection may end.
"""

from __future__ import annotations

import re
from collections import deque
from typing import Final

from trio_sse import POSITION_EVENT

from .sealed import unseal

_HEAD: Final = re.compile(rb"HTTP/1\.1 200 \r\n(?:[A-Za-z-]+: [ -~]*\r\n)+\r\n")
_SIZE: Final = re.compile(rb"([1-9a-f][0-9a-f]*|0)\r\n")
_LONGEST_SIZE: Final = len(b"fffff\r\n")
_DATA: Final = b"data: "
_TYPE: Final = b"event: "


class CorruptError(Exception):
    """Bytes that should not be there."""


class Body:
    """The event stream in the body of one response."""

    def __init__(self) -> None:
        self.events = 0
        self._line = b""
        self._type = b""
        self._data: list[bytes] = []
        self._last: int | None = None

    def feed(self, data: bytes) -> None:
        """Read on.

        Raises:
            CorruptError: If the bytes are not what a client of trio-sse may get.
        """
        *lines, self._line = (self._line + data).split(b"\n")
        for line in lines:
            self._take_line(line)

    def end(self) -> None:
        """Check that nothing is left; raises as `feed` does."""
        _hold(not (self._line or self._data), "an end within an event", self._line)

    def _take_line(self, line: bytes) -> None:
        if line.startswith(_DATA):
            self._data.append(line[len(_DATA) :])
        elif self._data:
            _hold(not line, "not a line of an event", line)
            self._take_event(b"\n".join(self._data))
        elif line.startswith(_TYPE):
            self._type = line[len(_TYPE) :]
        elif not line.startswith(b"id: "):
            _hold(line in (b"", b": heartbeat"), "not a line of an event stream", line)

    def _take_event(self, data: bytes) -> None:
        self._data.clear()
        kind, self._type = self._type, b""
        if kind == POSITION_EVENT.encode():
            return
        try:
            number = unseal(data.decode())
        except ValueError as error:
            raise CorruptError(str(error)) from error
        _hold(self._last in (None, number - 1), f"after event {self._last}", data)
        self._last = number
        self.events += 1


class Reader:
    """Reads the responses to requests that were sent on one connection."""

    def __init__(self) -> None:
        self._asked: deque[str] = deque()
        self._output = b""
        self._buffer = bytearray()
        self._read = self._read_head
        self._left = 0
        self._bodies: list[Body] = []

    @property
    def streams(self) -> int:
        """How many streams have begun."""
        return len(self._bodies)

    @property
    def events(self) -> int:
        """How many events have come."""
        return sum(body.events for body in self._bodies)

    def ask(self, path: str, *methods: str) -> None:
        """Make requests, one behind the other, whose responses will be read."""
        self._asked += methods
        for method in methods:
            self._output += f"{method} {path} HTTP/1.1\r\nhost: t\r\n\r\n".encode()

    def take_output(self) -> bytes:
        """Return what is to be sent."""
        output, self._output = self._output, b""
        return output

    @property
    def between(self) -> bool:
        """Whether the last byte so far was the last of a response."""
        return self._read == self._read_head and not self._buffer

    def feed(self, data: bytes) -> None:
        """Read on.

        Raises:
            CorruptError: If the bytes are not what a client of trio-sse may get.
        """
        self._buffer += data
        while self._read():
            pass

    def _take(self, size: int) -> bytes:
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    def _read_head(self) -> bool:
        end = self._buffer.find(b"\r\n\r\n")
        if end == -1:
            return False
        head = self._take(end + 4)
        _hold(bool(self._asked and _HEAD.fullmatch(head)), "not a head", head)
        if self._asked.popleft() == "GET":
            _hold(b"\r\ntransfer-encoding: chunked\r\n" in head.lower(), "not chunked", head)
            self._begin_stream()
        return True

    def _begin_stream(self) -> None:
        self._bodies.append(Body())
        self._read = self._read_size

    def _read_size(self) -> bool:
        size = _SIZE.match(self._buffer)
        if size is None:
            _hold(len(self._buffer) < _LONGEST_SIZE, "not a chunk's size", self._buffer)
            return False
        self._left = int(self._take(size.end()), 16)
        self._read = self._read_chunk if self._left else self._read_last_chunk
        return True

    def _read_chunk(self) -> bool:
        if len(self._buffer) < self._left + 2:
            return False
        chunk = self._take(self._left + 2)
        _hold(chunk.endswith(b"\r\n"), "not a chunk's end", chunk[-40:])
        self._bodies[-1].feed(chunk[:-2])
        self._read = self._read_size
        return True

    def _read_last_chunk(self) -> bool:
        if len(self._buffer) < len(b"\r\n"):
            return False
        end = self._take(2)
        _hold(end == b"\r\n", "not the end of a body", end)
        self._bodies[-1].end()
        self._read = self._read_head
        return True


def _hold(condition: bool, what: str, data: bytes | bytearray) -> None:
    if not condition:
        raise CorruptError(f"{what}: {bytes(data[:80])!r}")
