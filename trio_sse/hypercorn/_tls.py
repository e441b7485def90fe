"""TLS of one connection, on buffers in memory: what it says leaves in the step in which it is said.

Each operation of OpenSSL is synchronous, and what it has to send goes to the socket in the same
step, without waiting. So records are on the wire in the order in which they were sealed, whoever
caused them: a response, a stream that writes past its server, a handshake, an alert, a new key.
What the socket does not take is kept sealed, and never sealed again: a cancellation cuts nothing.

Each step leaves the buffers empty, so all connections of a server use the same two. It knows
records; it knows neither HTTP nor what is sealed.
"""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, final

import attrs
import trio
from trio.lowlevel import enable_ki_protection

from .._delivery.socket_writer import SocketWriter

#: Bytes of one record at most (RFC 8446, 5.1).
_RECORD: Final = 16 * 1024

#: Bytes that are sealed at once: OpenSSL's buffers never shrink.
_PIECE: Final = 16 * _RECORD


@final
@attrs.frozen(eq=False)
class TlsBuffers:
    """Where OpenSSL reads and writes, for all connections of a server, which have turns."""

    incoming: ssl.MemoryBIO = attrs.field(factory=ssl.MemoryBIO, init=False)
    outgoing: ssl.MemoryBIO = attrs.field(factory=ssl.MemoryBIO, init=False)


@final
class TlsWriter(SocketWriter):
    """The server's side of TLS, which seals what is put, and opens what comes.

    Args:
        context: That of the server.
        buffers: Those of the server.
        receive: Returns bytes from the socket, or none at the end.
        writing: What a `SocketWriter` is made of.
    """

    __slots__ = ("_buffers", "_early", "_owes", "_receive", "_ssl")

    def __init__(
        self,
        context: ssl.SSLContext,
        buffers: TlsBuffers,
        receive: Callable[[], Awaitable[bytes]],
        *writing: Any,
    ) -> None:
        super().__init__(*writing)
        self._buffers = buffers
        self._receive = receive
        self._ssl = context.wrap_bio(buffers.incoming, buffers.outgoing, server_side=True)
        #: What has come with the last of the handshake.
        self._early: bytes | None = None
        #: Whether the socket has not taken an answer of OpenSSL's. Then nothing more is read: a
        #: client may ask for new keys again and again, and take none.
        self._owes = False

    async def do_handshake(self) -> str | None:
        """Agree with the client on keys; return the protocol that it wants to speak (ALPN).

        Raises:
            trio.BrokenResourceError: If they do not agree; the client was told why.
        """
        while not self._shake_hands(await self._receive()):
            await self.flush()
        await self.flush()
        return self._ssl.selected_alpn_protocol()

    async def receive(self) -> bytes:
        """Return what has come; nothing once the client has left, or says no more.

        Raises:
            trio.BrokenResourceError: If the connection is gone, or what comes is no TLS.
        """
        data = self._open(b"") if self._early is None else self._early
        self._early = None
        while data is None:
            if self._owes:
                await self.flush()
                self._owes = False
            data = self._open(sealed) if (sealed := await self._receive()) else b""
        await trio.lowlevel.checkpoint()
        return data

    @property
    def sender(self) -> Callable[[bytes], int]:
        """See `SocketWriter`: what it takes is sealed, and so must be kept here."""
        return self.put

    @enable_ki_protection
    def put(self, data: bytes) -> int:
        """Seal, and put what that gives; see `SocketWriter`."""
        try:
            sealed = (
                self._seal(data) if len(data) <= _PIECE else b"".join(map(self._seal, _cut(data)))
            )
        except ssl.SSLError as error:  # After the end of either side.
            raise trio.BrokenResourceError("nothing more can be sealed") from error
        SocketWriter.put(self, sealed)  # By its name, as this is done for each event and client.
        return len(data)

    @enable_ki_protection
    def close(self) -> None:
        """Tell the client that nothing more will come, if it reads."""
        with suppress(ssl.SSLError, trio.BrokenResourceError):
            try:
                self._ssl.unwrap()
            finally:
                self._emit()

    @enable_ki_protection
    def _shake_hands(self, sealed: bytes) -> bool:
        if not sealed:
            raise trio.BrokenResourceError("the client left amid the handshake")
        self._buffers.incoming.write(sealed)
        try:
            self._ssl.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError as error:
            raise trio.BrokenResourceError("the handshake failed") from error
        else:
            self._early = self._open(b"")
        finally:
            self._emit()
        return True

    @enable_ki_protection
    def _open(self, sealed: bytes) -> bytes | None:
        """Return what records say, if any have come whole; no bytes at the end."""
        self._buffers.incoming.write(sealed)
        opened: list[bytes] = []
        try:
            while data := self._ssl.read(_RECORD):
                opened.append(data)
        except ssl.SSLWantReadError:
            return b"".join(opened) or None
        except ssl.SSLError as error:
            raise trio.BrokenResourceError("what comes is no TLS") from error
        finally:
            self._emit()
        return b"".join(opened)

    def _seal(self, piece: bytes | memoryview) -> bytes:
        self._ssl.write(piece)
        return self._buffers.outgoing.read()

    def _emit(self) -> None:
        """Put what OpenSSL has to say by itself; leave nothing, not even what it could not read."""
        self._buffers.incoming.read()
        if self._buffers.outgoing.pending:
            try:
                super().put(self._buffers.outgoing.read())
            except trio.WouldBlock:
                self._owes = True


def _cut(data: bytes) -> list[memoryview]:
    whole = memoryview(data)
    return [whole[start : start + _PIECE] for start in range(0, len(whole), _PIECE)]
