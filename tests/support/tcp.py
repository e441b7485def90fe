"""Connections of this machine: a free port, bytes that are waited for, and a reset."""

from __future__ import annotations

import secrets
import socket
import struct
from typing import Final

import trio

#: Below the ports that systems give to those who connect: one is still free after a restart.
_RANGE: Final = range(20_000, 32_000)

#: What makes the close of a socket a reset.
_RESET: Final = struct.pack("ii", 1, 0)


def free_port() -> int:
    while True:
        port = secrets.choice(_RANGE)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port


async def read_until(stream: trio.SocketStream, expected: bytes) -> bytes:
    received = b""
    while expected not in received:
        chunk = await stream.receive_some()
        assert chunk, f"the stream ended before {expected!r} came: {received[-200:]!r}"
        received += chunk
    return received


def reset_when_closed(stream: trio.SocketStream) -> None:
    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
