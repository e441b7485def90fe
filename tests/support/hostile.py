"""Requests that no browser sends, and some that end the whole worker of hypercorn 0.18."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

import h2.config
import h2.connection
import h2.settings
import trio

REQUEST: Final = b"GET /events HTTP/1.1\r\nhost: testserver\r\naccept: text/event-stream\r\n\r\n"

#: A request that upgrades its connection to HTTP/2; its method is missing.
UPGRADE: Final = (
    b"%b /events HTTP/1.1\r\nhost: testserver\r\nconnection: upgrade, http2-settings\r\n"
    b"upgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n\r\n"
)

#: The widest window of HTTP/2, which leaves the holding back to TCP.
WIDE: Final = 2**31 - 1


def http2_connection(window: int | None = None) -> h2.connection.H2Connection:
    """Return a client's side which does not mind what it sends."""
    config = h2.config.H2Configuration(
        client_side=True, validate_outbound_headers=False, normalize_outbound_headers=False
    )
    connection = h2.connection.H2Connection(config)
    if window is not None:
        code = h2.settings.SettingCodes.INITIAL_WINDOW_SIZE
        connection.local_settings = h2.settings.Settings(initial_values={code: window})
    connection.initiate_connection()
    if window == WIDE:
        connection.increment_flow_control_window(WIDE - 65_535)
    return connection


def http2_request(window: int | None = None, **head: bytes) -> bytes:
    """Return all that a client sends who asks for the stream, with pseudo-headers replaced."""
    connection = http2_connection(window)
    fields = {"method": b"GET", "scheme": b"http", "authority": b"t", "path": b"/events"} | head
    names = [(b":" + name.encode(), value) for name, value in fields.items() if value]
    connection.send_headers(1, names, end_stream=True)
    return connection.data_to_send()


async def upgrade_with_a_byte_behind(stream: trio.SocketStream) -> None:
    await stream.send_all(
        b"GET / HTTP/1.1\r\nhost: testserver\r\nupgrade: websocket\r\nconnection: upgrade\r\n"
        b"sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\nx"
    )


def sends(data: bytes) -> Callable[[trio.SocketStream], Awaitable[None]]:
    return lambda stream: stream.send_all(data)


#: What ends the whole worker of hypercorn 0.18.
CRASHES: Final[dict[str, Callable[[trio.SocketStream], Awaitable[None]]]] = {
    "a WebSocket upgrade with a byte behind it": upgrade_with_a_byte_behind,
}

#: The same, which costs a stream here, and not its connection.
STREAM_CRASHES: Final = {
    "an HTTP/2 path beyond ASCII": sends(http2_request(path="/é".encode())),
    "an HTTP/2 method beyond ASCII": sends(http2_request(method="GÉT".encode())),
    "an HTTP/2 CONNECT without path": sends(http2_request(method=b"CONNECT", path=b"", scheme=b"")),
}
