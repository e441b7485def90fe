"""TLS of one connection, on buffers in memory: what it says leaves in the step in which it is said.

Each operation of OpenSSL is synchronous, and what it has to send goes to the socket in the same
step, without waiting. So records are on the wire in the order in which they were sealed, whoever
caused them: a response, a stream that writes past its server, a handshake, an alert, a new key.
What the socket does not take is kept sealed, and never sealed again: a cancellation cuts nothing.

It knows records; it knows neither HTTP nor what is sealed.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Final, final

import trio
from trio.lowlevel import enable_ki_protection

from .._delivery.socket_writer import SocketWriter

#: Bytes of one record at most (RFC 8446, 5.1). No more is sealed at once, since OpenSSL's buffers
#: never shrink.
_RECORD: Final = 16 * 1024


@final
class TlsWriter(SocketWriter):
    """The server's side of TLS, which seals what is put, and opens what comes.

    Args:
        sock: The socket; see `SocketWriter`.
        lock: Held by whoever waits for the socket.
        write_timeout: Seconds within which the kernel must take a byte.
        context: That of the server.
        receive: Returns bytes from the socket, or none at the end.
    """

    __slots__ = ("_incoming", "_outgoing", "_owes", "_receive", "_ssl")

    def __init__(
        self,
        sock: socket.socket,
        lock: trio.Lock,
        write_timeout: float,
        context: ssl.SSLContext,
        receive: Callable[[], Awaitable[bytes]],
    ) -> None:
        super().__init__(sock, lock, write_timeout)
        self._receive = receive
        #: Whether the socket has not taken an answer of OpenSSL's. Then nothing more is read: a
        #: client may ask for new keys again and again, and take none.
        self._owes = False
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._ssl = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    async def do_handshake(self) -> str | None:
        """Agree with the client on keys; return the protocol that it wants to speak (ALPN).

        Raises:
            trio.BrokenResourceError: If they do not agree; the client was told why.
        """
        while not self._shake_hands():
            await self.flush()
            self._feed(await self._receive())
        await self.flush()
        return self._ssl.selected_alpn_protocol()

    async def receive(self) -> bytes:
        """Return what has come; nothing once the client has left, or says no more.

        Raises:
            trio.BrokenResourceError: If the connection is gone, or what comes is no TLS.
        """
        while (data := self._read()) is None:
            if self._owes:
                await self.flush()
                self._owes = False
            self._feed(await self._receive())
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
            if len(data) <= _RECORD:
                self._ssl.write(data)
                sealed = self._outgoing.read()
            else:
                sealed = b"".join(map(self._seal, _records(data)))
        except ssl.SSLError as error:  # After the end of either side.
            raise trio.BrokenResourceError("nothing more can be sealed") from error
        super().put(sealed)
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
    def _shake_hands(self) -> bool:
        try:
            self._ssl.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError as error:
            raise trio.BrokenResourceError("the handshake failed") from error
        finally:
            self._emit()
        return True

    @enable_ki_protection
    def _read(self) -> bytes | None:
        """Return what a record says, if one has come; no bytes at the end."""
        try:
            return self._ssl.read(_RECORD)
        except ssl.SSLWantReadError:
            return None
        except ssl.SSLEOFError:
            return b""
        except ssl.SSLError as error:
            raise trio.BrokenResourceError("what comes is no TLS") from error
        finally:
            self._emit()

    def _emit(self) -> None:
        """Put what OpenSSL has to say to the client by itself."""
        if self._outgoing.pending:
            try:
                super().put(self._outgoing.read())
            except trio.WouldBlock:
                self._owes = True

    def _feed(self, data: bytes) -> None:
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def _seal(self, record: memoryview) -> bytes:
        self._ssl.write(record)
        return self._outgoing.read()


def _records(data: bytes) -> list[memoryview]:
    whole = memoryview(data)
    return [whole[start : start + _RECORD] for start in range(0, len(whole), _RECORD)]
