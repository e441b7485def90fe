"""The broadcaster: one event in, one bounded memory channel for each client out.

It knows nothing of HTTP, of servers and of time. `broadcast` has no checkpoint, so nothing else
runs until every client has its event, and all clients see the same order. It starts no task:
whoever subscribes reads in a task of its own. (The file is long for its docstrings, which are the
reference.)
"""

from __future__ import annotations

import logging
import math
import reprlib
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Final, final

import attrs
import msgspec
import trio
from trio.lowlevel import enable_ki_protection

from ._event import ServerSentEvent
from ._home import HomeRun
from ._subscription import Client, Subscription

if TYPE_CHECKING:
    import quart

#: The event type that tells a client that events may have been missed; only the broadcaster sends
#: it.
RESET_EVENT: Final = "stream-reset"

#: Types that a browser's EventSource dispatches itself: a listener could not tell ours from its
#: own.
_BROWSER_EVENTS: Final = frozenset({"error", "open"})

_logger = logging.getLogger("trio_sse")


@final
@attrs.frozen
class BroadcasterStatistics:
    """What a broadcaster has done and holds, as of now."""

    clients: int
    """Clients that get the next broadcast."""

    clients_direct: int
    """Those of them that are written to directly, past ASGI's `send`."""

    streams: int
    """Responses under way, those of pruned clients that still take their backlog included."""

    events_broadcast: int
    """Events broadcast since the broadcaster was made."""

    clients_pruned: int
    """Clients taken out because their buffer was full."""


@final
class Broadcaster(trio.abc.AsyncResource):
    """Sends each event to every connected client, without waiting for any of them.

    It may be made, and its events registered, outside of Trio, and one broadcaster may serve
    several `trio.run` calls, one after another. While it has clients, it belongs to their run. As
    an asynchronous context manager it is closed by `aclose` at the end of the block.

    Args:
        buffer_size: How many events may wait for one client (at least 1). A client whose buffer is
            full when an event is broadcast is pruned: it gets what was queued, then its stream
            ends, and a browser reconnects by itself.
        strict: Whether only events that were registered may be broadcast.
        heartbeat_interval: Seconds of silence after which a comment is sent, so that proxies keep
            the connection and vanished clients are noticed; `None` or `math.inf` for never. The
            default follows the specification's authoring notes: "every 15 seconds or so".
        dumps: Turns data that is neither `str` nor `bytes` into JSON text.

    Raises:
        ValueError: If `buffer_size` is not a whole number of at least 1, or `heartbeat_interval` is
            not a number greater than 0.

    Example::

        broadcaster = Broadcaster()
        broadcaster.register_event("price")
        broadcaster.broadcast("price", {"symbol": "ABC", "bid": 42})
    """

    def __init__(
        self,
        buffer_size: int = 256,
        *,
        strict: bool = True,
        heartbeat_interval: float | None = 15.0,
        dumps: Callable[[object], bytes | str] = msgspec.json.encode,
    ) -> None:
        _check_buffer_size(buffer_size)
        if heartbeat_interval is None:
            heartbeat_interval = math.inf
        _check_heartbeat_interval(heartbeat_interval)
        self._buffer_size = buffer_size
        self._strict = strict
        self._heartbeat_interval = heartbeat_interval
        self._dumps = dumps
        self._event_types: frozenset[str] = frozenset()
        self._clients: dict[Client, trio.MemorySendChannel[ServerSentEvent]] = {}
        self._streams: set[Client] = set()
        self._stream_ended = trio.lowlevel.ParkingLot()
        self._home: HomeRun | None = None
        self._closed = False
        self._events_broadcast = 0
        self._clients_pruned = 0

    @property
    def event_types(self) -> frozenset[str]:
        """The registered event types."""
        return self._event_types

    @property
    def client_count(self) -> int:
        """How many clients get the next broadcast."""
        return len(self._clients)

    @property
    def heartbeat_interval(self) -> float:
        """Seconds of silence after which a client gets a comment; `math.inf` for never."""
        return self._heartbeat_interval

    @property
    def closed(self) -> bool:
        """Whether the broadcaster was closed and admits nobody."""
        return self._closed

    def statistics(self) -> BroadcasterStatistics:
        """Return what the broadcaster has done and holds."""
        return BroadcasterStatistics(
            clients=len(self._clients),
            clients_direct=sum(client.waker is not None for client in self._clients),
            streams=len(self._streams),
            events_broadcast=self._events_broadcast,
            clients_pruned=self._clients_pruned,
        )

    def register_event(self, name: str) -> None:
        """Allow events of type `name` to be broadcast; registering a name again changes nothing.

        Raises:
            ValueError: If no browser could listen for the name: it is empty, has CR, LF, NUL or a
                lone surrogate, is ``stream-reset``, or is (in strict mode) ``error`` or ``open``,
                which a browser's EventSource dispatches itself.
        """
        _check_not_reserved(name)
        if self._strict and name in _BROWSER_EVENTS:
            raise ValueError(
                f"{name!r} is an event that EventSource dispatches itself, so a listener could not "
                "tell them apart; choose another name"
            )
        self._event_types |= {ServerSentEvent(name).event}

    @enable_ki_protection
    def broadcast(self, event: str, data: object) -> None:
        """Send an event to every client; a client whose buffer is full is pruned.

        It never waits. What cannot be sent raises here and reaches nobody.

        Args:
            event: The event type.
            data: `str` is sent as it is, `bytes` must be UTF-8, anything else becomes JSON (by
                msgspec unless the broadcaster was given another `dumps`): dicts, lists,
                dataclasses, attrs classes, Structs, datetimes, UUIDs, enums; `None` is ``null``.

        Raises:
            ValueError: If `event` is not registered in strict mode or not sendable, or `data` is
                not UTF-8.
            TypeError: If `data` cannot be turned into JSON.
            trio.ClosedResourceError: If the broadcaster was closed.
            RuntimeError: If it has clients in another thread or another `trio.run`. From a thread:
                ``trio.from_thread.run_sync(broadcaster.broadcast, event, data)``.
        """
        self._check_open()
        _check_not_reserved(event)
        if self._strict and event not in self._event_types:
            raise ValueError(
                f"event type {event!r} is not registered; call register_event({event!r}) first, or "
                f"make the broadcaster with strict=False (registered: {sorted(self._event_types)})"
            )
        message = ServerSentEvent(event, self._serialise(data))
        self._check_home()
        full: list[Client] = []
        for client, channel in self._clients.items():
            try:
                channel.send_nowait(message)
            except trio.WouldBlock:
                if client.waker is None or not client.waker.relieve():
                    full.append(client)
                    continue
                channel.send_nowait(message)
            if client.waker is not None:
                client.waker.notify()
        self._events_broadcast += 1
        for client in full:
            self._prune(client)

    async def wait_all_taken(self) -> None:
        """Wait until every client has taken what was broadcast before this call, or is gone.

        A publisher that broadcasts a batch of at most `buffer_size` events and then waits here
        never prunes a client that reads, however slowly. A client that has stopped reading holds it
        up: set a deadline, then go on, and the client is pruned.
        """
        await trio.lowlevel.checkpoint()
        for taken in [client.expect_taken() for client in self._clients]:
            if not taken.is_set():  # Each wait is a turn of the scheduler.
                await taken.wait()

    @enable_ki_protection
    def subscribe(self) -> Subscription:
        """Register a client, at once, and return its end: every later broadcast is in it.

        Raises:
            trio.ClosedResourceError: If the broadcaster was closed.
            RuntimeError: If not called from a Trio task, or while there are clients of another run.
        """
        return self._register()

    @enable_ki_protection
    def open_stream(self) -> Client:
        """Register a client whose events go out in a response (for the adapters of this package).

        `aclose` waits until the response closes the client, or cancels the `cancel_scope` that the
        response has set.
        """
        client = self._register()
        self._streams.add(client)
        return client

    async def stream(self, request: quart.Request) -> quart.Response:
        """Return the response of a Quart-Trio route: all that is broadcast while it is sent.

        Needs the extra ``quart``. Code before this call is the place to refuse a request.

        Args:
            request: The request, `quart.request`.
        """
        from .quart import stream_response

        await trio.lowlevel.checkpoint()
        return stream_response(self, request)

    @enable_ki_protection
    def close(self) -> None:
        """Admit nobody and end every stream after what is queued for it; never waits."""
        self._check_home()
        self._closed = True
        for client in self._clients:
            client.end()
        self._clients.clear()

    async def aclose(self) -> None:
        """Close, and wait until the last response has ended; if cancelled, cancel what is left.

        A client that does not read can make this last: set a deadline around it.
        """
        self.close()
        try:
            await trio.lowlevel.checkpoint()
            while self._streams:
                await self._stream_ended.park()
        finally:
            for client in self._streams:
                if client.cancel_scope is not None:
                    client.cancel_scope.cancel("aclose() of the broadcaster was cancelled")

    def _register(self) -> Client:
        self._check_open()
        self._check_home()
        if not self._clients:
            self._home = HomeRun()
        client = Client(self._buffer_size, self._release, self._end_stream)
        self._clients[client] = client.send_channel
        return client

    def _serialise(self, data: object) -> str:
        encoded = data if isinstance(data, str | bytes) else self._dumps(data)
        if isinstance(encoded, str):
            return encoded
        try:
            return str(encoded, "utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(
                f"data must be UTF-8, got {reprlib.repr(encoded)}; decode it, or send it as base64"
            ) from error

    def _check_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("this broadcaster was closed")

    def _check_home(self) -> None:
        """Refuse a call from elsewhere than the clients' run; forget them if that is over."""
        if self._home is not None and self._clients and self._home.is_over():
            self._clients.clear()

    def _prune(self, client: Client) -> None:
        if self._clients.pop(client, None) is None:
            return  # A logging handler that broadcasts was first.
        client.end(pruned=True)
        self._clients_pruned += 1
        _logger.info("client pruned: its buffer of %d events is full", self._buffer_size)

    def _release(self, client: Client) -> None:
        self._clients.pop(client, None)

    def _end_stream(self, client: Client) -> None:
        self._streams.discard(client)
        self._stream_ended.unpark_all()


def sse_route(broadcaster: Broadcaster) -> Callable[[], Awaitable[quart.Response]]:
    """Return a Quart-Trio view that streams all that is broadcast to whoever requests it.

    Needs the extra ``quart``. Use it as ``app.add_url_rule("/events",
    view_func=sse_route(broadcaster))``; each view has an endpoint name of its own, so that an app
    may have several.
    """
    from .quart import view

    return view(broadcaster)


def _check_buffer_size(value: object) -> None:
    if not isinstance(value, int) or value < 1:
        raise ValueError(f"buffer_size must be a whole number of at least 1, got {value!r}")


def _check_heartbeat_interval(value: object) -> None:
    if not isinstance(value, int | float) or not value > 0:
        raise ValueError(
            "heartbeat_interval must be a number of seconds greater than 0 (None for never), "
            f"got {value!r}"
        )


def _check_not_reserved(event: str) -> None:
    if event == RESET_EVENT:
        raise ValueError(f"{RESET_EVENT!r} is sent by the broadcaster itself; choose another name")
