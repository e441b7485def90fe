"""The way of one request past ASGI and its server, to the socket writer of its connection.

It opens once the bytes that were announced have come by exactly as they were given to ASGI's
`send`: so nobody in between rewrites, splits or buffers the body. It is revoked for good when any
other bytes come by. It knows HTTP/1.1's chunked coding, and neither servers nor events.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, Protocol, Self, final

import trio

from .writer import Writer

#: The ASGI extension under which a server offers a `Bypass`.
EXTENSION: Final = "trio_sse.direct"


class Sink(Protocol):
    """Takes the bytes of one connection, or of one stream of it, in order."""

    @property
    def sender(self) -> Callable[[bytes], int]:
        """See `SocketWriter.sender`."""
        ...

    def put(self, data: bytes, /) -> int:
        """See `SocketWriter.put`."""
        ...

    def flush_nowait(self) -> None:
        """See `SocketWriter.flush_nowait`."""
        ...

    async def flush(self) -> None:
        """See `SocketWriter.flush`."""


class BypassUser(Protocol):
    """One who writes by a bypass, and is told what becomes of it. None of this waits."""

    def leave(self) -> None:
        """Other bytes are about to pass: write no more by the sender."""
        ...

    def look(self) -> None:
        """What the sender took may not have gone out: stand aside until it has."""
        ...

    def fail(self, error: Exception) -> None:
        """Write no more because of this."""
        ...


#: Seconds within which the announced bytes must be seen on the wire.
_ECHO_TIMEOUT: Final = 1.0


def chunked(chunk: bytes) -> bytes:
    """Return a chunk in HTTP/1.1's chunked coding (RFC 9112, 7.1)."""
    return b"%x\r\n%b\r\n" % (len(chunk), chunk)


@final
class Bypass:
    """One request's way past its server.

    Args:
        sink: Takes the bytes.
        coding: Makes of a chunk what is on the wire; that of all who may share a queue.
        writer: Writes for all streams of this server that go this way.
        abort: Closes the connection with a reset.
    """

    __slots__ = (
        "_echo",
        "_opened",
        "_sink",
        "abort",
        "coding",
        "is_open",
        "sent",
        "user",
        "writer",
    )

    def __init__(
        self,
        sink: Sink,
        coding: Callable[[bytes], bytes],
        writer: Writer,
        abort: Callable[[], None],
    ) -> None:
        self.writer = writer
        self.abort = abort
        self.coding = coding
        #: Whether chunks may go this way now.
        self.is_open = False
        #: Who writes here, from its opening to its end.
        self.user: BypassUser | None = None
        #: Bytes of the body that went this way.
        self.sent = 0
        self._sink = sink
        #: What must come by next, as it is on the wire.
        self._echo: bytes | None = None
        self._opened = trio.Event()

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _: object) -> Self:
        """Return this itself: a middleware may copy a scope, and there is one connection still."""
        return self

    # What the stream does.

    def await_echo(self, first: bytes) -> None:
        """Announce the body of the next ASGI `send`."""
        self._echo = self.coding(first)

    async def wait_open(self) -> bool:
        """Wait until the announced bytes have come by; tell whether they have, in time."""
        with trio.move_on_after(_ECHO_TIMEOUT):
            await self._opened.wait()
        return self._opened.is_set()

    def send_nowait(self, chunk: bytes) -> None:
        """Put a chunk of the body on the connection.

        Raises:
            trio.WouldBlock: If the socket is full: the chunk was taken; flush before more.
            trio.BrokenResourceError: If the connection is gone.
            trio.ClosedResourceError: If this was revoked, since other bytes have passed.
        """
        if not self.is_open:
            raise trio.ClosedResourceError("the way past the server was revoked")
        self.sent += len(chunk)
        self._sink.put(self.coding(chunk))

    @property
    def sender(self) -> Callable[[bytes], int]:
        """See `SocketWriter.sender`: it takes what the coding has made."""
        return self._sink.sender

    def put(self, coded: bytes) -> None:
        """Put what the sender has not taken; raises as `send_nowait` does."""
        self._sink.put(coded)

    def flush_nowait(self) -> None:
        """Write what was taken, as far as the socket takes it.

        Raises:
            trio.WouldBlock: If something is left.
            trio.BrokenResourceError: If the connection is gone.
        """
        self._sink.flush_nowait()

    async def flush(self) -> None:
        """Wait until all that was taken is written.

        Raises:
            trio.BrokenResourceError: If the connection is gone, or aborted after its write timeout.
        """
        await self._sink.flush()

    # What the server does.

    def observe(self, data: bytes) -> None:
        """Look at bytes that the server writes: the announced ones open, any others revoke."""
        if data == self._echo:
            self._echo = None
            self.is_open = True
            self._opened.set()
        else:
            self.revoke()

    def revoke(self) -> None:
        """Take nothing more: other bytes pass, or the request is over."""
        self._echo = None
        self.is_open = False
        if self.user is not None:
            self.user.leave()
