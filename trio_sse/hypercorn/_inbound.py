"""The request of one HTTP/2 stream, told to its application without letting others wait.

What an application does not read waits here, in one buffer, bounded by the window that it takes:
however small the frames are, they are no more than their bytes. It knows hypercorn's streams and
the sizes of frames; it knows neither frames nor connections.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, final

import attrs
from h2.events import RequestReceived
from hypercorn.protocol import events
from hypercorn.protocol.http_stream import HTTPStream
from hypercorn.protocol.ws_stream import WSStream
from hypercorn.utils import filter_pseudo_headers


def stream_of(
    request: RequestReceived, path: bytes, parts: tuple[Any, ...], send: Any, state: Any
) -> tuple[HTTPStream | WSStream, events.Request]:
    """Return hypercorn's stream for a request, and the request as it is told of it.

    Raises:
        ValueError: If the method is no text.
    """
    method = dict(request.headers)[b":method"].decode("ascii").upper()
    make: Any = WSStream if method == "CONNECT" else HTTPStream
    told = events.Request(
        stream_id=request.stream_id,
        headers=filter_pseudo_headers(request.headers),
        http_version="2",
        method=method,
        raw_path=path,
        state=state,
    )
    return make(*parts, send, request.stream_id), told


@final
@attrs.define(eq=False)
class Inbound:
    """The request of a stream.

    Args:
        stream: Hypercorn's.
        spawn: Runs a task of the connection.
        give_back: Lets the client send so many more bytes of a stream.
    """

    stream: HTTPStream | WSStream
    _spawn: Callable[..., None]
    _give_back: Callable[[int, int], Awaitable[None]]
    has_ended: bool = attrs.field(default=False, init=False)
    """Whether all of it has come."""
    _has_body: bool = attrs.field(default=False, init=False)
    _data: bytearray = attrs.field(factory=bytearray, init=False)
    _size: int = attrs.field(default=0, init=False)
    _is_told: bool = attrs.field(default=False, init=False)
    """Whether a task tells the application."""

    def hear(self, data: bytes, size: int) -> None:
        """Take what came, and its size as the window counts it."""
        self._has_body = True
        self._data += data
        self._size += size
        self._tell_soon()

    async def hear_end(self) -> None:
        """Take word that this was all."""
        self.has_ended = True
        if self._has_body:
            self._tell_soon()
        else:  # There is room for one.
            await self._tell()

    def tell_gone(self) -> None:
        """Tell the application, which may take its time to listen, that its stream is over."""
        gone = events.StreamClosed(stream_id=self.stream.stream_id)
        self._spawn(self.stream.handle, gone)

    def _tell_soon(self) -> None:
        if not self._is_told:
            self._is_told = True
            self._spawn(self._tell)

    async def _tell(self) -> None:
        stream_id = self.stream.stream_id
        while self._data:
            body = events.Body(stream_id=stream_id, data=bytes(self._data))
            size, self._size = self._size, 0
            self._data.clear()
            await self.stream.handle(body)
            await self._give_back(stream_id, size)
        self._is_told = False
        if self.has_ended:
            await self.stream.handle(events.EndBody(stream_id=stream_id))
