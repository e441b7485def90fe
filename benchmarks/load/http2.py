"""One HTTP/2 connection whose streams are event streams, as cheap as Python allows.

Its windows are open for good, so that it has nothing to say while it waits. It counts markers;
which stream got how many is looked at afterwards, frame by frame (RFC 9113, 4.1).
"""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterator
from typing import Final

from .client import Client
from .payload import MARKER

_HEAD: Final = struct.Struct(">HBBBL")
_DATA, _HEADERS, _SETTINGS, _PING, _WINDOW_UPDATE = 0, 1, 4, 6, 8
_ENDS_STREAM, _ACK, _ENDS_HEADERS = 1, 1, 4

#: Bytes that a window may have at most (RFC 9113, 6.9.1), and those of a connection at first.
_WIDE, _NARROW = 2**31 - 1, 65_535

#: By HPACK's static table (RFC 7541, appendix A): GET, https, a path, an authority, what is wanted.
_REQUEST: Final = b"\x82\x87\x04\x07/events\x01\x09127.0.0.1\x0f\x04\x11text/event-stream"
_STATUS_200: Final = b"\x88"

#: A marker and the line's end, as a marker's byte may be a part of a frame's head.
_END_OF_DATA: Final = MARKER + b"\n"


class Http2Client(Client):
    """A connection with so many streams, which are counted together."""

    __slots__ = ("_answered", "_received", "_wanted")

    protocol = "h2"

    def __init__(self, port: int, streams: int, *, tls: bool = False) -> None:
        self._answered = 0
        self._received = bytearray()
        self._wanted = streams
        super().__init__(port, tls=tls)
        self.streams = streams

    def wrong(self, expected: int) -> int:
        """Return how many streams have not got so many events each since they were asked last."""
        counts = Counter[int]()
        for kind, _, stream_id, payload in self._frames():
            if kind == _DATA:
                counts[stream_id] += payload.count(_END_OF_DATA)
            elif kind not in {_SETTINGS, _PING, _WINDOW_UPDATE}:
                raise ConnectionError(f"frame of type {kind}, stream {stream_id}")
        return sum(counts[2 * n + 1] != expected for n in range(self.streams))

    def _request(self, last_event_id: str = "") -> bytes:
        settings = _frame(_SETTINGS, 0, 0, struct.pack(">HL", 4, _WIDE))
        window = _frame(_WINDOW_UPDATE, 0, 0, struct.pack(">L", _WIDE - _NARROW))
        flags = _ENDS_STREAM | _ENDS_HEADERS
        requests = (_frame(_HEADERS, flags, 2 * n + 1, _REQUEST) for n in range(self._wanted))
        preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
        return b"".join((preface, settings, window, *requests))

    def _take_head(self, data: bytes) -> bytes:
        self._received += data
        for kind, flags, stream_id, payload in self._frames():
            if kind == _SETTINGS and not flags & _ACK:
                self.sock.send(_frame(_SETTINGS, _ACK, 0, b""))
            elif kind == _HEADERS:
                if _STATUS_200 not in payload[:4]:
                    raise ConnectionError(f"stream {stream_id} is no stream: {payload!r}")
                self._answered += 1
        self.streaming = self._answered == self.streams
        return b""

    def _count(self, data: bytes) -> int:
        split = data[:1] == b"\n" and self._received.endswith(MARKER)
        self._received += data
        return data.count(_END_OF_DATA) + split

    def _frames(self) -> Iterator[tuple[int, int, int, bytes]]:
        """Yield type, flags, stream and payload of each frame that has come whole; forget it."""
        received, start = bytes(self._received), 0
        while len(received) - start >= _HEAD.size:
            high, low, kind, flags, stream_id = _HEAD.unpack_from(received, start)
            end = start + _HEAD.size + (high << 8 | low)
            if end > len(received):
                break
            yield kind, flags, stream_id, received[start + _HEAD.size : end]
            start = end
        del self._received[:start]


def _frame(kind: int, flags: int, stream_id: int, payload: bytes) -> bytes:
    size = len(payload)
    return _HEAD.pack(size >> 8, size & 0xFF, kind, flags, stream_id) + payload
