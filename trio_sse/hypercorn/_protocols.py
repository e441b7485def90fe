"""Which protocol a connection speaks: hypercorn's HTTP/1.1, or our HTTP/2.

A connection begins with what TLS has agreed on, and goes on with HTTP/2 if its first bytes ask for
it. It stands in the place of hypercorn 0.18's `ProtocolWrapper`, with the same exceptions of its
`H11Protocol`.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, final

from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData
from hypercorn.protocol.h11 import H2CProtocolRequiredError, H2ProtocolAssumedError, H11Protocol
from hypercorn.trio.task_group import TaskGroup
from hypercorn.typing import AppWrapper, ConnectionState, WorkerContext

from .._delivery.socket_writer import SocketWriter
from ._http2 import HTTP2

#: Where a client is, or we are: an address and a port.
Place = tuple[str, int] | None


@final
class HTTP1(H11Protocol):
    """Hypercorn's, which also ends what it has answered by itself (404, say)."""

    async def _create_stream(self, request: Any) -> None:
        await super()._create_stream(request)
        if self.stream is not None and self.stream.closed:
            await self._maybe_recycle()


@final
class Protocols:
    """The protocol of one connection."""

    def __init__(
        self,
        app: AppWrapper,
        config: Config,
        context: WorkerContext,
        task_group: TaskGroup,
        state: ConnectionState,
        places: tuple[bool, Place, Place],
        send: Callable[[Event], Awaitable[None]],
        socket_writer: SocketWriter,
        write_timeout: float,
        abort: Callable[[], None],
    ) -> None:
        parts: tuple[Any, ...] = (app, config, context, task_group)
        self._h11_parts = (*parts, state, *places, send)
        self._h2_parts = ((*parts, *places), config, context, task_group, state, send)
        self._limits = (socket_writer, write_timeout, abort)
        self.protocol: HTTP1 | HTTP2

    async def initiate(self, alpn_protocol: str | None) -> None:
        """Begin with what TLS has agreed on."""
        if alpn_protocol == "h2":
            await self._go_on_with_http2(b"")
        else:
            make: Any = HTTP1
            self.protocol = make(*self._h11_parts)
            await self.protocol.initiate()

    async def handle(self, event: RawData | Closed) -> None:
        """Take what came from the client, or word that nothing more will."""
        try:
            await self.protocol.handle(event)
        except H2ProtocolAssumedError as error:
            await self._go_on_with_http2(error.data)
        except H2CProtocolRequiredError as error:
            await self._go_on_with_http2(error.data, error.headers, error.settings)

    def end(self) -> None:
        """Send nothing more: the connection was aborted."""
        if isinstance(self.protocol, HTTP2):
            self.protocol.end()

    async def _go_on_with_http2(
        self,
        data: bytes,
        headers: list[tuple[bytes, bytes]] | None = None,
        settings: bytes | None = None,
    ) -> None:
        self.protocol = HTTP2(*self._h2_parts, *self._limits)
        await self.protocol.initiate(headers, settings)
        if data:
            await self.protocol.handle(RawData(data=data))
