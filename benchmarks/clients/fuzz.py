"""Requests that no browser sends, in every way that a seed makes: what a server meets in public.

Each is a list of parts, to be sent one after another with a pause between. It knows HTTP/1.1,
HTTP/2 and how a WebSocket begins; it knows neither sockets nor time.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import h2.config
import h2.connection

_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_SETTINGS: Final = b"\0\0\0\4\0\0\0\0\0"

_TARGETS: Final = (b"/events", b"/quart", b"/nowhere", b"*", b"http://t/events", b"/e?a=%ff")
_METHODS: Final = (b"GET", b"GET", b"GET", b"HEAD", b"POST", b"OPTIONS", b"CONNECT", b"get")
_HEADERS: Final = (
    b"accept: text/event-stream",
    b"connection: close",
    b"expect: 100-continue",
    b"content-length: 5",
    b"content-length: -1",
    b"transfer-encoding: chunked",
    b"transfer-encoding: gzip, chunked",
    b"upgrade: h2c\r\nconnection: upgrade, http2-settings\r\nhttp2-settings: AAMAAABkAAQAAP__",
    b"bad header\xff",
    b": empty",
)
_CHUNKS: Final = (
    b"5\r\nhello\r\n",
    b"5\r\nhello",
    b"5;x=y\r\nhel",
    b"-1\r\n\r\n",
    b"zz\r\n\r\n",
    b"ffffffffffffffffffffffff\r\nx",
    b"0\r\nx: y\r\n",
    b"0\r\n\r\n",
    b"\r\n",
)
_CRASHES: Final = (
    {"path": "/é".encode()},
    {"method": "GÉT".encode()},
    {"method": b"CONNECT", "path": b"", "scheme": b""},
)


@dataclass(frozen=True)
class Attack:
    """What one connection sends, and how many seconds pass between the parts."""

    parts: Sequence[bytes]
    pause: float = 0.0


class Fuzz:
    """An endless iterator of attacks: the same for the same seed, each kind as often."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)  # noqa: S311 (repeatable, keeps no secret)
        self._kinds: Sequence[Callable[[], Attack]] = (
            self._noise,
            self._cut,
            self._slow,
            self._mutated,
            self._pipelined,
            self._large_head,
            self._large_body,
            self._chunked,
            self._websocket,
            self._http2_garbage,
            self._http2_mutated,
            self._http2_crash,
            self._http2_data_behind,
        )

    def __iter__(self) -> Iterator[Attack]:
        while True:
            for kind in self._kinds:
                yield kind()

    def _noise(self) -> Attack:
        return Attack([self._random.randbytes(self._random.randint(1, 3000))])

    def _cut(self) -> Attack:
        request = self._request()
        return Attack([request[: self._random.randrange(len(request))]])

    def _slow(self) -> Attack:
        data = self._random.choice([self._request(), http2_request()])
        size = self._random.randint(2, 9)
        return Attack([data[i : i + size] for i in range(0, len(data), size)], pause=0.01)

    def _mutated(self) -> Attack:
        return Attack([self._mutate(self._request())])

    def _pipelined(self) -> Attack:
        return Attack([b"".join(self._request() for _ in range(self._random.randint(2, 6)))])

    def _large_head(self) -> Attack:
        size = self._random.choice([10_000, 70_000, 300_000])
        head = self._random.choice(
            [b"GET /%b", b"GET / HTTP/1.1\r\nx: %b", b"GET / HTTP/1.1\r\n%b"]
        )
        return Attack([head % (b"y: z\r\n" * (size // 6))])

    def _large_body(self) -> Attack:
        size = self._random.choice([100_000, 1_000_000])
        claimed = self._random.choice([size, 2 * size, 3, 10**30])
        head = self._head(b"POST", b"content-length: %d" % claimed)
        return Attack([head, b"x" * size])

    def _chunked(self) -> Attack:
        body = b"".join(self._random.choices(_CHUNKS, k=self._random.randint(1, 4)))
        return Attack([self._head(b"POST", b"transfer-encoding: chunked"), body])

    def _websocket(self) -> Attack:
        version, key = self._random.choice([b"13", b"8"]), b"dGhlIHNhbXBsZSBub25jZQ=="
        fields = b"sec-websocket-version: %b\r\nsec-websocket-key: %b" % (version, key)
        head = self._head(b"GET", b"upgrade: websocket\r\nconnection: upgrade\r\n" + fields)
        return Attack([head + self._random.randbytes(self._random.choice([0, 1, 1, 50]))])

    def _http2_garbage(self) -> Attack:
        frames = b"".join(self._frame() for _ in range(self._random.randint(1, 20)))
        return Attack([_PREFACE + self._random.choice([_SETTINGS, b""]) + frames])

    def _http2_mutated(self) -> Attack:
        return Attack([self._mutate(http2_request())])

    def _http2_crash(self) -> Attack:
        return Attack([http2_request(**self._random.choice(_CRASHES))])

    def _http2_data_behind(self) -> Attack:
        request = http2_request(method=b"HEAD")
        return Attack([request, b"\0\0\5\0\0\0\0\0\1hello" * 3], pause=self._random.random() / 10)

    def _request(self) -> bytes:
        headers = self._random.sample(_HEADERS, k=self._random.randint(0, 2))
        return self._head(self._random.choice(_METHODS), *headers)

    def _head(self, method: bytes, *headers: bytes) -> bytes:
        line = b"%b %b HTTP/1.1" % (method, self._random.choice(_TARGETS))
        return b"\r\n".join([line, b"host: t", *headers, b"", b""])

    def _mutate(self, data: bytes) -> bytes:
        mutant = bytearray(data)
        for _ in range(self._random.randint(1, 5)):
            at = self._random.randrange(len(mutant))
            piece = self._random.randbytes(self._random.randint(0, 3))
            mutant[at : at + self._random.randint(0, 3)] = piece or mutant[:at]
        return bytes(mutant)

    def _frame(self) -> bytes:
        payload = self._random.randbytes(self._random.choice([0, 4, 8, 40]))
        length = self._random.choice([len(payload), len(payload), 2**24 - 1])
        head = length.to_bytes(3) + bytes(self._random.choices(range(12), k=1))
        stream = self._random.choice([0, 1, 3, 2**31 - 1]).to_bytes(4)
        return head + self._random.randbytes(1) + stream + payload


def http2_request(**head: bytes) -> bytes:
    """Return all that a client sends who asks for the stream, with pseudo-headers replaced."""
    config = h2.config.H2Configuration(
        client_side=True, validate_outbound_headers=False, normalize_outbound_headers=False
    )
    connection = h2.connection.H2Connection(config)
    connection.initiate_connection()
    fields = {"method": b"GET", "scheme": b"http", "authority": b"t", "path": b"/events"} | head
    names = [(b":" + name.encode(), value) for name, value in fields.items() if value]
    connection.send_headers(1, names, end_stream=True)
    return connection.data_to_send()
