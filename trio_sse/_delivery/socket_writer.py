"""All bytes that go out of one connection.

What a server sends and what a stream sends directly pass through one unsent buffer: they are put
there without waiting, tried at once, and what the socket does not take is flushed by whoever waits.
A cancellation leaves the rest where it is, so nothing is ever cut by one; and no byte accepted by
the kernel for the write timeout is the end.

It knows a socket, and neither servers nor what the bytes mean.
"""

from __future__ import annotations

import math
import os
import socket
import struct
from contextlib import suppress
from typing import Final, final

import trio
from trio.lowlevel import enable_ki_protection

#: Close with a reset and keep nothing in the kernel.
_RESET_ON_CLOSE: Final = struct.pack("ii", 1, 0)


@final
class SocketWriter:
    """Writes all bytes of one connection.

    Args:
        sock: The socket, owned by a stream that closes it.
        lock: Held by whoever waits for the socket.
        write_timeout: Seconds within which the kernel must take a byte.
    """

    __slots__ = ("_deadline", "_is_gone", "_lock", "_socket", "_unsent", "_write_timeout")

    def __init__(self, sock: trio.socket.SocketType, lock: trio.Lock, write_timeout: float) -> None:
        self._socket = sock
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

    @enable_ki_protection
    def put(self, data: bytes) -> None:
        """Write what the socket takes; keep the rest.

        Raises:
            trio.WouldBlock: If something is left to flush.
            trio.BrokenResourceError: If the connection is gone.
        """
        if self._is_gone:
            raise trio.BrokenResourceError("the connection is gone")
        if self._unsent is None:
            written = self._write_some(data)
            if written == len(data):
                return
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
        self._socket.close()
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
        try:
            # The number anew each time: a closed socket has none, where a number kept may be
            # another's.
            return os.write(self._socket.fileno(), data)
        except BlockingIOError:
            return 0
        except OSError as error:
            self._drop()
            raise trio.BrokenResourceError from error

    def _drop(self) -> None:
        self._is_gone = True
        self._unsent = None
