"""Where `serve` listens, and how it accepts.

The addresses are those of hypercorn's configuration, and hypercorn opens most of the sockets. It
knows sockets; it knows neither connections nor applications.
"""

from __future__ import annotations

import errno
import math
import socket
import ssl
from collections.abc import Awaitable, Callable, Generator
from contextlib import ExitStack, contextmanager
from typing import Final, final

import attrs
import trio
from hypercorn.config import Config

# hypercorn's annotation leaves type arguments out.
from hypercorn.utils import repr_socket_addr  # pyright: ignore[reportUnknownVariableType]

from .._delivery.socket_writer import close_socket
from ._internals import copy_with

#: Connections that may wait for accept: with hypercorn's 100, a thousand browsers that come at once
#: (after a restart, say) wait for the kernel to try again, seconds later.
_BACKLOG: Final = 1024

#: What accept fails with while there is no room for one more connection, and seconds to wait then.
_FULL: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_PAUSE: Final = 0.1

#: Seconds in which that is logged once.
_TELLS: Final = 1.0

_DEFAULT_PORT: Final = 8000
_ALL_IPV4: Final = "0.0.0.0"  # noqa: S104 (as it is named in a configuration)


@final
@attrs.frozen(eq=False)
class Transport(trio.abc.AsyncResource):
    """A connection that was accepted."""

    socket: socket.socket
    ssl_context: ssl.SSLContext | None
    """That of the TLS that it is to speak, if any."""

    async def aclose(self) -> None:
        """Close it: whoever waits on the socket wakes."""
        close_socket(self.socket)
        await trio.lowlevel.checkpoint()


@final
@attrs.define(eq=False)
class Complaint:
    """Tells that there is no room for a connection, once in a second."""

    _warn: Callable[..., Awaitable[None]]
    _told_at: float = attrs.field(default=-math.inf, init=False)

    async def tell(self, error: OSError) -> None:
        """Log it, unless that was done just now."""
        now = trio.current_time()
        if now - self._told_at >= _TELLS:
            self._told_at = now
            hint = "raise the limit of open files (ulimit -n, LimitNOFILE= of systemd)"
            await self._warn("connections wait to be accepted: %s; %s", error.strerror, hint)


@final
@attrs.frozen(eq=False)
class Listener(trio.abc.Listener[Transport]):
    """Accepts, and goes on when there was no room for a connection."""

    _listener: trio.SocketListener
    _ssl_context: ssl.SSLContext | None
    _complaint: Complaint

    async def accept(self) -> Transport:
        """Accept a connection, as soon as there is one and room for it."""
        while True:
            try:
                return Transport(_taken_from(await self._listener.accept()), self._ssl_context)
            except OSError as error:
                if error.errno not in _FULL:
                    raise
                await self._complaint.tell(error)
            await trio.sleep(_PAUSE)

    async def aclose(self) -> None:
        """Listen no more."""
        await self._listener.aclose()


@contextmanager
def bound(config: Config) -> Generator[list[tuple[socket.socket, str]]]:
    """Open the sockets of a configuration, each with the scheme of its URLs, for a block."""
    places = _places(config)
    everywhere = {port for text, _ in places for host, port in [_place(text)] if host == _ALL_IPV4}
    with ExitStack() as opened:
        yield [
            (opened.enter_context(_open(config, text, everywhere)), scheme)
            for text, scheme in places
        ]


def _places(config: Config) -> list[tuple[str, str]]:
    """Return the addresses, each with its scheme."""
    if not config.ssl_enabled:
        return [(text, "http") for text in config.bind]
    secure = [(text, "https") for text in config.bind]
    return [*secure, *((text, "http") for text in config.insecure_bind)]


def _open(config: Config, text: str, everywhere: set[int]) -> socket.socket:
    host, port = _place(text)
    if host == "::" and port in everywhere and port != 0:
        return _open_apart(host, port)
    sockets = copy_with(config, bind=[text], insecure_bind=[]).create_sockets()
    (sock,) = [*sockets.secure_sockets, *sockets.insecure_sockets]
    return sock


def _open_apart(host: str, port: int) -> socket.socket:
    """Open a socket for IPv6 that leaves IPv4 to others, which have been named."""
    sock = socket.socket(socket.AF_INET6)
    try:
        sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.setblocking(False)
        sock.bind((host, port))
    except OSError:
        sock.close()
        raise
    return sock


def listen(
    bound: list[tuple[socket.socket, str]],
    config: Config,
    ssl_context: ssl.SSLContext | None,
    write_timeout: float,
) -> tuple[list[Listener], list[str]]:
    """Listen at sockets that are bound; return the listeners and their URLs."""
    listeners: list[Listener] = []
    urls: list[str] = []
    complaint = Complaint(config.log.warning)
    for sock, scheme in bound:
        _harden(sock, write_timeout)
        sock.listen(_BACKLOG if config.backlog == Config.backlog else config.backlog)
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(sock))
        own_context = ssl_context if scheme == "https" else None
        listeners.append(Listener(listener, own_context, complaint))
        urls.append(f"{scheme}://{repr_socket_addr(sock.family, sock.getsockname())}")
    return listeners, urls


def _taken_from(stream: trio.SocketStream) -> socket.socket:
    """Return Python's own socket, by whose methods many are written to at little cost."""
    sock = socket.socket(fileno=stream.socket.detach())
    sock.setblocking(False)
    return sock


def _place(text: str) -> tuple[str, int]:
    """Return the host and the port of an address, as hypercorn reads it."""
    bare = text.replace("[", "").replace("]", "")
    host, _, port = bare.rpartition(":")
    return (host, int(port)) if port.isdigit() else (bare, _DEFAULT_PORT)


def _harden(sock: socket.socket, write_timeout: float) -> None:
    """Let the kernel give up on a peer that is gone; accepted sockets inherit it."""
    if sock.family == socket.AF_UNIX:
        return
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if hasattr(socket, "TCP_USER_TIMEOUT") and write_timeout < math.inf:
        milliseconds = math.ceil(write_timeout * 1000)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
