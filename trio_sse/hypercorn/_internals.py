"""Every reach into what hypercorn keeps for itself.

None of it is documented API. Each was read in hypercorn 0.18.0, which the extra pins by its minor
version; what is read stands beside each. It knows names, and not what they are needed for. (Classes
of hypercorn that are subclassed stand with their logic: `TCPServer` in `_connection`.)
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, cast

from hypercorn.protocol.h2 import H2Protocol, StreamBuffer
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.typing import Event


def http2_of(connection: TCPServer) -> H2Protocol | None:
    """Return the HTTP/2 of a connection (`TCPServer.protocol`, `ProtocolWrapper.protocol`)."""
    protocol: object = cast("Any", connection.protocol).protocol
    return protocol if isinstance(protocol, H2Protocol) else None


def spawn(connection: TCPServer, function: Callable[[], Awaitable[None]]) -> None:
    """Run a function in a task of a connection (`TCPServer._task_group`)."""
    cast("Any", connection)._task_group.spawn(function)


def stream_buffer_of(protocol: H2Protocol, send: Any) -> StreamBuffer | None:
    """Return the buffer of the HTTP/2 stream to which an ASGI `send` belongs, if it is open.

    `send` is the bound method `HTTPStream.app_send`; the buffers are `H2Protocol.stream_buffers`.
    """
    return protocol.stream_buffers.get(send.__self__.stream_id)


def popped_event_of(buffer: StreamBuffer) -> Event:
    """Return what is set whenever less than a full frame is taken (`StreamBuffer._paused`)."""
    return buffer._paused  # pyright: ignore[reportPrivateUsage] (there is no other sign)


def is_answering_by_itself(protocol: H2Protocol | None) -> bool:
    """Tell whether HTTP/2 answers its first request before any application saw it.

    `H2Protocol.streams` has it then, and `H2Protocol.keep_alive_requests` does not count it.
    """
    return protocol is not None and bool(protocol.streams) and protocol.keep_alive_requests == 0


def release_streams(protocol: H2Protocol | None) -> None:
    """Let go whoever waits for a stream of a connection that is over (`StreamBuffer.close`)."""
    if protocol is not None:
        for buffer in protocol.stream_buffers.values():
            with suppress(StopIteration):
                buffer.close().send(None)  # It does not wait, so it need not be awaited.
