"""The responses under way: what their hub and their server may ask of each.

A server hands the same `ActiveStreams` to each request, as an ASGI extension; a stream is in it for
as long as it runs, so that a shutdown can end it. It knows neither hubs nor servers.
"""

from __future__ import annotations

import math
from types import TracebackType
from typing import Final, Self, final

import trio

from .._core.client import Client, Opened
from .._core.event import ServerSentEvent, end_event

#: The ASGI extension under which a server offers its `ActiveStreams`.
EXTENSION: Final = "trio_sse.active_streams"


@final
class ActiveStream:
    """One response under way; it is a `Response` of its client, from `with` to its end."""

    __slots__ = ("_cancel_scope", "_retry", "_streams", "client", "replay")

    def __init__(self, opened: Opened, streams: ActiveStreams) -> None:
        self.client = opened.client
        #: The blocks before all events; the first is last, and gone once it is sent.
        self.replay = opened.replay
        self._retry = opened.retry
        self._cancel_scope: trio.CancelScope | None = None
        self._streams = streams

    def __enter__(self) -> Self:
        self.client.registry.add_response(self.client, self)
        self._streams.add(self.client)
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._streams.discard(self.client)
        self.client.close()

    @property
    def epilogue(self) -> bytes:
        """What goes out at the end, if that is clean."""
        if self.client.final:
            return end_event(self._retry).encode()
        if self._retry is not None:
            return ServerSentEvent(data=None, retry=self._retry).encode()
        return b""

    def end_by(self, cancel_scope: trio.CancelScope) -> None:
        """Let this scope end the response by force; whoever delivers has it."""
        self._cancel_scope = cancel_scope
        if self.client.pruned:  # Before the response began.
            self.drain()

    def drain(self) -> None:
        """See `Response.drain`."""
        if self._cancel_scope is not None:
            self._cancel_scope.deadline = trio.current_time() + self._streams.write_timeout

    def cancel(self, reason: str) -> None:
        """See `Response.cancel`."""
        if self._cancel_scope is not None:
            self._cancel_scope.cancel(reason)


@final
class ActiveStreams:
    """The clients whose streams one server carries.

    Args:
        write_timeout: Seconds that a response may take to drain.
    """

    def __init__(self, write_timeout: float = math.inf) -> None:
        self.write_timeout = write_timeout
        #: Whether the server is shutting down.
        self.closing = False
        self._clients: set[Client] = set()
        self._discarded = trio.lowlevel.ParkingLot()

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, _: object) -> Self:
        """Return this itself: a middleware may copy a scope, and there is one server still."""
        return self

    def add(self, client: Client) -> None:
        """Let a client's stream end when the server does."""
        self._clients.add(client)
        if self.closing:  # Since the request was looked at.
            client.end()

    def discard(self, client: Client) -> None:
        """Forget the stream of a client, which has ended."""
        self._clients.discard(client)
        self._discarded.unpark_all()

    async def aclose(self) -> None:
        """End each stream after what is queued for it, and wait for that; admit no more."""
        self.closing = True
        for client in self._clients:
            client.end()
        await trio.lowlevel.checkpoint()
        while self._clients:
            await self._discarded.park()
