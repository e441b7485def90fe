"""One producer, one client: a stream that lives as long as both.

What produces is a context manager that gives a Trio channel, as functions decorated with
`trio.as_safe_channel` do: it is entered when the response begins, and left when the client leaves.
Its events go the way of all others. It knows nothing of broadcasters.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, final

import trio

from ._asgi import begin
from ._core.client import Client, Recipient
from ._core.event import ServerSentEvent
from ._core.heartbeat import Silence, come_back
from ._core.options import check_interval
from ._delivery.active_streams import Carried
from ._delivery.response import Delivery, Receive, Scope, Send
from ._http.headers import Head, Headers

Source = AbstractAsyncContextManager[trio.abc.ReceiveChannel[ServerSentEvent]]

#: Events that wait for the client, besides one that waits for those: the producer may be as far
#: ahead of the socket.
_AHEAD: Final = 1


def producer_app(
    source: Source, *, heartbeat_interval: float | None = 15.0, headers: Headers = ()
) -> ProducerApp:
    """Return an ASGI application that streams to one client what is produced for it.

    It is for one request: return it from a Starlette route, or await it from an application of
    yours. The source is entered when the response begins, and left, which cancels what is in it,
    when the client leaves. It is never far ahead of a client that reads slowly. When its channel
    ends, the stream ends cleanly; if it fails, or is cancelled, the client sees a cut. A browser's
    EventSource reconnects after either, unless the last event has the id ``end``: the request that
    names it is answered 204, at which a browser stops.

    Args:
        source: A context manager that gives a channel, as what `trio.as_safe_channel` decorates.
        heartbeat_interval: Seconds of silence after which a comment is sent; `None` or `math.inf`
            for never.
        headers: Further response headers, as for `sse_app`.

    Raises:
        ValueError: If `heartbeat_interval` is not greater than 0, or a header as for `sse_app`.

    Example::

        @trio.as_safe_channel
        async def countdown():
            for n in range(10, 0, -1):
                yield ServerSentEvent("count", str(n))
                await trio.sleep(1)

        app = producer_app(countdown())
    """
    return ProducerApp(source, check_interval(heartbeat_interval), Head(headers))


@final
class ProducerApp:
    """An ASGI application that streams what is produced for one client; see `producer_app`."""

    def __init__(self, source: Source, heartbeat_interval: float, head: Head) -> None:
        self._source = source
        self._heartbeat_interval = heartbeat_interval
        self._head = head

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one HTTP request."""
        head = await begin(scope, receive, send, self._head, admitted=True, come_back=come_back())
        if head is None:
            return
        carried = Carried.of(scope)
        async with produce(self._source) as client:
            carried.add(client)
            try:
                silence = Silence(self._heartbeat_interval)
                await Delivery(client, scope, send, silence, whole=True).run(head, receive)
            finally:
                carried.discard(client)


@final
class _Alone:
    """The registry of a client that has a producer of its own."""

    def __init__(self) -> None:
        self.position = 0
        self.last_id: str | None = None
        #: The client, or on the direct way its audience.
        self.recipient: Recipient

    def position_of(self, topics: frozenset[str]) -> int:
        """Return that nothing is broadcast."""
        return self.position

    def release(self, client: Client) -> None:
        """Nobody else knows the client."""

    def enlist(self, recipient: Recipient) -> None:
        """Send events to a recipient from now on."""
        self.recipient = recipient

    def dismiss(self, recipient: Recipient) -> None:
        """Another one comes in its place."""


@asynccontextmanager
async def produce(source: Source) -> AsyncGenerator[Client]:
    """Let a source produce for a client, until one of them ends."""
    registry = _Alone()
    with Client(_AHEAD, registry, _forget, (), frozenset(), None) as client:
        registry.enlist(client)
        async with source as events, trio.open_nursery() as nursery:
            nursery.start_soon(_feed, events, client, registry)
            yield client
            nursery.cancel_scope.cancel("the client has left")


async def _feed(
    events: trio.abc.ReceiveChannel[ServerSentEvent], client: Client, registry: _Alone
) -> None:
    async for event in events:
        while not client.ended and registry.recipient.offer(event) is not None:
            await client.expect_taken().wait()
        if client.ended:
            return
    client.leave()


def _forget(client: Client) -> None:
    pass
