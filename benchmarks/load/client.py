"""One event-stream client on a non-blocking socket, as cheap as Python allows.

It shares the machine with the server that is measured, so it parses nothing while it waits: it
counts markers. The bodies are looked at afterwards, if they are kept.
"""

from __future__ import annotations

import re
import socket
import ssl
import struct
from functools import cache
from typing import Final

from .payload import MARKER, STAMP

_REQUEST: Final = b"GET /events HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: text/event-stream\r\n%b\r\n"
_READ: Final = 64 * 1024

#: What all speak that are compared: a cipher, the version, and the bits of its key.
_CIPHER: Final = ("TLS_AES_256_GCM_SHA384", "TLSv1.3", 256)
_LAST_CHUNK: Final = b"0\r\n\r\n"
_CHUNK_SIZE: Final = re.compile(rb"([0-9a-fA-F]+)\r\n")

#: Close with a reset, so that thousands of connections leave no TIME_WAIT behind.
RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


class Client:
    """A connection, and how many events came over it.

    Args:
        port: Where on the loopback interface the server listens.
        keep_body: Whether `numbers` will be asked for.
        receive_buffer: Bytes of the kernel's receive buffer; 0 for the kernel's choice.
        last_event_id: The id of the event after which the client was cut off, if it was.
        tls: Whether the connection is sealed.
    """

    __slots__ = (
        "_body",
        "_chunked",
        "_keep_body",
        "count",
        "ended",
        "head",
        "sock",
        "streaming",
        "streams",
    )

    #: What is offered by ALPN.
    protocol = "http/1.1"

    def __init__(
        self,
        port: int,
        *,
        keep_body: bool = False,
        receive_buffer: int = 0,
        last_event_id: str = "",
        tls: bool = False,
    ) -> None:
        self.sock = socket.socket()
        self.streams = 1
        if receive_buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self.sock.connect(("127.0.0.1", port))
        if tls:
            self.sock = any_server(self.protocol).wrap_socket(self.sock)
            if (cipher := self.sock.cipher()) != _CIPHER:
                raise ConnectionError(f"{cipher}: figures could not be compared")
            if self.sock.selected_alpn_protocol() not in {self.protocol, None}:
                raise ConnectionError(f"the server does not speak {self.protocol}")
        self.sock.sendall(self._request(last_event_id))
        self.sock.setblocking(False)
        self.head = b""
        self.streaming = self.ended = self._chunked = False
        self.count = 0
        self._keep_body = keep_body
        self._body: list[bytes] = []

    def take(self) -> bytes:
        """Take what has arrived of the body, and count its events; note the end."""
        try:
            data = self.sock.recv(_READ)
        except (BlockingIOError, ssl.SSLWantReadError):
            return b""
        except ConnectionError:
            data = b""
        self.ended = not data
        if not self.streaming:
            data = self._take_head(data)
        elif data.endswith(_LAST_CHUNK):
            self.ended = True
        self.count += self._count(data)
        return data

    def wrong(self, expected: int) -> int:
        """Return how many streams have not got so many events."""
        return int(self.count != expected)

    def numbers(self) -> list[int]:
        """Return the numbers of the events so far, and forget them."""
        body = b"".join(self._body)
        self._body.clear()
        if self._chunked:
            body = _dechunked(body)
        return [int(number) for number, _ in STAMP.findall(body)]

    def _request(self, last_event_id: str) -> bytes:
        last = f"Last-Event-ID: {last_event_id}\r\n" if last_event_id else ""
        return _REQUEST % last.encode()

    def _count(self, data: bytes) -> int:
        if self._keep_body:
            self._body.append(data)
        return data.count(MARKER)

    def _take_head(self, data: bytes) -> bytes:
        self.head, end, body = (self.head + data).partition(b"\r\n\r\n")
        self.streaming = bool(end)
        if end and not self.head.startswith(b"HTTP/1.1 200"):
            raise ConnectionError(f"not a stream: {self.head!r}")
        self._chunked = b"transfer-encoding: chunked" in self.head.lower()
        return body


@cache
def any_server(protocol: str = "http/1.1") -> ssl.SSLContext:
    """Return the TLS of clients that trust whoever they measure."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols([protocol])
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _dechunked(body: bytes) -> bytes:
    """Return the content of whole chunks (RFC 9112 section 7.1)."""
    parts: list[bytes] = []
    position = 0
    while position < len(body):
        size = _CHUNK_SIZE.match(body, position)
        if size is None:
            raise ValueError(f"not a chunk: {body[position : position + 40]!r}")
        end = size.end() + int(size[1], 16)
        parts.append(body[size.end() : end])
        position = end + len(b"\r\n")
    return b"".join(parts)
