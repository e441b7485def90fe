"""All bytes that go out of one connection.

What a server sends and what a stream sends directly pass through one unsent buffer: they are put
there without waiting, tried at once, and what the socket does not take is flushed by whoever waits.
A cancellation leaves the rest where it is, so nothing is ever cut by one; and no byte accepted by
the kernel for the write timeout is the end.

It knows a socket, and neither servers nor what the bytes mean. Who seals them first is a subclass.
"""

from __future__ import annotations

import math
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import trio
from trio.lowlevel import enable_ki_protection

#: Close with a reset and keep nothing in the kernel.
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


class SocketWriter:
    """Writes all bytes of one connection.

    Args:
        sock: The socket, which does not block; closed by `close_socket` only.
        lock: Held by whoever waits for the socket.
        write_timeout: Seconds within which the kernel must take a byte.
    """

    __slots__ = ("_deadline", "_is_gone", "_lock", "_send", "_socket", "_unsent", "_write_timeout")

    def __init__(self, sock: socket.socket, lock: trio.Lock, write_timeout: float) -> None:
        self._socket = sock
        #: Not the descriptor's number, which may be another's once this socket is closed.
        self._send: Callable[[bytes | bytearray | memoryview], int] = sock.send
        self._lock = lock
        self._write_timeout = write_timeout
        self._unsent: bytearray | memoryview | None = None
        #: Whether nothing will be sent any more: what is unsent would be kept for nobody.
        self._is_gone = False
        #: When the kernel must have taken a byte of what is unsent, whoever waits for that.
        self._deadline = math.inf

    @property
    def is_empty(self) -> bool:
        """Whether the kernel has all that was put."""
        return self._unsent is None

    @property
    def sender(self) -> Callable[[bytes], int]:
        """A function that writes as a socket does, for whoever knows that nothing is unsent.

        It returns how many bytes it has taken; what it has not, is to be put. It raises `OSError`,
        or what `put` does.
        """
        return self._send

    @enable_ki_protection
    def put(self, data: bytes) -> int:
        """Write what the socket takes; keep the rest.

        Returns:
            How many bytes that are: all.

        Raises:
            trio.WouldBlock: If something is left to flush.
            trio.BrokenResourceError: If the connection is gone.
        """
        if self._unsent is None:
            written = self._write_some(data)
            if written == len(data):
                return written
            self._unsent = memoryview(data)[written:]  # No copy: many may wait for the same bytes.
            self._renew()
        else:
            if isinstance(self._unsent, memoryview):
                self._unsent = bytearray(self._unsent)
            self._unsent += data
        raise trio.WouldBlock

    @enable_ki_protection
    def flush_nowait(self) -> None:
        """Write what is left, as far as the socket takes it; raises as `put` does."""
        if self._unsent is not None:
            written = self._write_some(self._unsent)
            if written:
                self._renew()
            if isinstance(self._unsent, memoryview):
                self._unsent = self._unsent[written:]
            else:
                del self._unsent[:written]
            if self._unsent:
                raise trio.WouldBlock
            self._unsent = None

    async def flush(self) -> None:
        """Wait until nothing is left. Cancelled, it leaves the rest to the next who flushes.

        Raises:
            trio.BrokenResourceError: If the connection is gone or was reset.
        """
        await trio.lowlevel.checkpoint()
        with suppress(trio.WouldBlock):
            self.flush_nowait()
        while self._unsent is not None:
            await self._wait_writable()
            with suppress(trio.WouldBlock):
                self.flush_nowait()
        if self._is_gone:
            raise trio.BrokenResourceError("the connection is gone")

    def abort(self) -> None:
        """Close with a reset: whoever waits on the socket wakes."""
        with suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        close_socket(self._socket)
        self._drop()

    async def _wait_writable(self) -> None:
        async with self._lock:
            if self._socket.fileno() == -1:  # Which all closed sockets share.
                raise trio.BrokenResourceError("the connection was closed")
            try:
                with trio.fail_at(self._deadline):
                    await trio.lowlevel.wait_writable(self._socket)
            except trio.TooSlowError:
                self.abort()
                raise trio.BrokenResourceError("reset: the client took no byte") from None
            except (OSError, trio.ClosedResourceError) as error:
                raise trio.BrokenResourceError from error

    def _renew(self) -> None:
        self._deadline = trio.current_time() + self._write_timeout

    def _write_some(self, data: bytes | bytearray | memoryview) -> int:
        if self._is_gone:
            raise trio.BrokenResourceError("the connection is gone")
        try:
            return self._send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            self._drop()
            raise trio.BrokenResourceError from error

    def _drop(self) -> None:
        self._is_gone = True
        self._unsent = None


def close_socket(sock: socket.socket) -> None:
    """Close a socket: whoever waits on it wakes."""
    if sock.fileno() != -1:
        trio.lowlevel.notify_closing(sock)
    sock.close()
