"""What a port speaks, by a word to it: Redis's protocol, TLS, or something else.

Asked when a connection cannot be used, since what a client library makes of a port that speaks
something else tells nobody what to mend. Nothing secret is said, so nobody need be trusted. It
knows neither URLs nor coredis.
"""

from __future__ import annotations

import ssl
from contextlib import suppress
from typing import Final, Literal

import trio

#: What Redis says after its first byte, which may have gone wrong on its way.
_OF_REDIS: Final = (b"PONG", b"NOAUTH", b"ERR", b"DENIED", b"LOADING")

#: `None` of a port that says nothing that tells.
Speech = Literal["Redis", "TLS", "other"] | None


async def spoken(host: str, port: int) -> Speech:
    """Return what a port speaks."""
    with suppress(OSError, trio.BrokenResourceError):
        async with await trio.open_tcp_stream(host, port) as stream:
            await stream.send_all(b"PING\r\n")
            reply = bytes(await stream.receive_some(64))
        if reply.startswith((b"+", b"-")):
            return "Redis"
        if reply[:3].isalnum() and not reply[1:].startswith(_OF_REDIS):  # As HTTP, 220, SSH.
            return "other"
    return "TLS" if await _shakes_hands(host, port) else None


async def _shakes_hands(host: str, port: int) -> bool:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        async with await trio.open_tcp_stream(host, port) as stream:
            await trio.SSLStream(stream, context, server_hostname=host).do_handshake()
    except (OSError, trio.BrokenResourceError) as error:
        return "_ALERT_" in str(error.__cause__)  # It wants another handshake.
    return True
