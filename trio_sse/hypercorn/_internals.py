"""Every reach into what hypercorn keeps for itself.

None of it is documented API. Each was read in hypercorn 0.18.0, which the extra pins by its minor
version; what is read stands beside each. It knows names, and not what they are needed for. (Classes
of hypercorn that are subclassed, or replaced, stand with their logic: `TCPServer` in `_connection`,
`H2Protocol` in `_http2`, `ProtocolWrapper` in `_protocols`.)
"""

from __future__ import annotations

import copy
import socket
from collections.abc import Awaitable, Callable
from typing import Any, cast

from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.utils import (
    parse_socket_addr,  # pyright: ignore[reportUnknownVariableType] (its argument's type)
)


def copy_with(config: Config, **settings: Any) -> Config:
    """Return a copy with other settings (those of `Config`, or its `_log`)."""
    own = copy.copy(config)
    for name, value in settings.items():
        setattr(own, name, value)
    return own


def spawn(connection: TCPServer, function: Callable[[], Awaitable[None]]) -> None:
    """Run a function in a task of a connection (`TCPServer._task_group`)."""
    cast("Any", connection)._task_group.spawn(function)


async def begin_idle_time(connection: TCPServer) -> None:
    """Close a connection that is not used (`TCPServer.idle_task`, `TCPServer._idle_timeout`)."""
    own = cast("Any", connection)
    await own.idle_task.restart(own._task_group, own._idle_timeout)


def places_of(sock: socket.socket) -> tuple[Any, Any]:
    """Return where a client is, and where we are, as hypercorn has that in a scope."""
    parse: Any = parse_socket_addr  # pyright: ignore[reportUnknownVariableType] (as it says)
    family = sock.family
    return parse(family, sock.getpeername()), parse(family, sock.getsockname())


def stream_id_of(send: Any) -> int:
    """Return the number of an application's stream (`HTTPStream.stream_id`)."""
    number: int = send.__self__.stream_id
    return number


def has_left(send: Any) -> bool:
    """Tell whether the client of an application has left (`HTTPStream.closed`, `WSStream.closed`).

    `send` is the bound method of the stream (`app_send`).
    """
    closed: bool = send.__self__.closed
    return closed


def close_queue(receive: Any) -> None:
    """Let nobody wait for an application that has ended.

    `receive` is the bound method of a channel (`TaskGroup.spawn_app`).
    """
    receive.__self__.close()
