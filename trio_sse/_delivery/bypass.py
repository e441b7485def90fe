"""The way of one request past hypercorn, to the outlet of its connection.

It opens once the bytes that were announced have come by, exactly as they were given to ASGI's
`send`, and shuts for good when any others do. See `_direct.Door` for its users' side.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import final

import attrs
import trio

from .socket_writer import Outlet
from .writer import Writer


@final
@attrs.define(eq=False)
class Framing:
    """HTTP/1.1's chunked coding, of all who send the same: a chunk is framed once."""

    _chunk: bytes = attrs.field(default=b"", init=False)
    _framed: bytes = attrs.field(default=b"", init=False)

    def frame(self, chunk: bytes) -> bytes:
        """Return a chunk as it is on the wire."""
        if chunk is not self._chunk:
            self._chunk, self._framed = chunk, b"%x\r\n%b\r\n" % (len(chunk), chunk)
        return self._framed


@final
class OutletDoor:
    """A door to an outlet; what its methods mean is told at `_direct.Door`."""

    __slots__ = ("_abort", "_expected", "_framing", "_open", "_outlet", "writer")

    def __init__(
        self, outlet: Outlet, framing: Framing, writer: Writer, abort: Callable[[], None]
    ) -> None:
        self.writer = writer
        self._outlet = outlet
        self._framing = framing
        self._abort = abort
        #: What is still expected, and the event for it.
        self._expected: tuple[bytes, trio.Event] | None = None
        self._open = False

    def expect(self, first: bytes) -> trio.Event:
        opened = trio.Event()
        self._expected = self._framing.frame(first), opened
        return opened

    def notice(self, data: bytes) -> None:
        """Open at the bytes that were announced, if nothing else came before; shut at any later."""
        self._open = False
        if self._expected is not None:
            expected, opened = self._expected
            self._expected = None
            if data == expected:
                self._open = True
                opened.set()

    def shut(self) -> None:
        self._expected = None
        self._open = False

    def send_nowait(self, chunk: bytes) -> None:
        if not self._open:
            raise trio.ClosedResourceError("the door to the connection is shut")
        self._outlet.put(self._framing.frame(chunk))

    def flush_nowait(self) -> None:
        self._outlet.flush_nowait()

    async def flush(self) -> None:
        await self._outlet.flush()

    def abort(self) -> None:
        self._abort()
