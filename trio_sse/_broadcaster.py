"""The broadcaster: one event in, one bounded memory channel for each client out.

It knows nothing of HTTP, of servers and of time. `broadcast` has no checkpoint, so nothing else
runs until every client has its event, and all clients see the same order. A client that comes is
registered in the same step in which its past is looked up, so nothing falls between the two. It
starts no task: whoever subscribes reads in a task of its own. (The file is long for its docstrings,
which are the reference.)
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar, final, overload

import attrs
import msgspec
import trio
from trio.lowlevel import enable_ki_protection

from ._core.client import Client
from ._core.event import END_ID, ServerSentEvent
from ._core.event_types import RESET_EVENT, EventTypes, RegisteredEvent
from ._core.heartbeat import come_back
from ._core.history import History
from ._core.options import (
    check_count,
    check_interval,
    check_limit,
    check_range,
    check_seconds,
    check_topic,
    check_topics,
)
from ._core.preamble import Beginning, Snapshot
from ._core.registry import Clients
from ._core.relay import Node, Recalled, Relay
from ._core.stream_history import StreamHistory
from ._core.subscription import Subscription

if TYPE_CHECKING:
    import quart

#: The last block of a stream whose client shall not come back: it is asked for by this id, and
#: refused.
_END: Final = ServerSentEvent(data=None, id=END_ID)

_Payload = TypeVar("_Payload")

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
        history_size: How many of the last events are kept for clients that come back (0 for none).
            With a history each event has an id; a browser that reconnects sends the last one that
            it has seen, and gets what it missed, or a ``stream-reset`` event whose data is the
            reason why that cannot be known.
        max_clients: How many clients there may be for one more to be let in. A browser that is
            turned away comes back by itself; nobody who is in is ever put out.
        reconnection_time: The range of seconds, (low, high), after which browsers reconnect; each
            gets its own, so that a restart does not bring them all back at once. `None` leaves it
            to the browser (about three seconds).
        dumps: Turns data that is neither `str` nor `bytes` into JSON text.
        relay: Carries the events between several processes, which share their clients' histories:
            a `trio_sse.redis.RedisRelay`, for this broadcaster alone. Then `broadcast` gives an
            event to the relay, and clients get it when it comes back.

    Raises:
        ValueError: If a number is out of its range.

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
        history_size: int = 256,
        max_clients: float = math.inf,
        reconnection_time: tuple[float, float] | None = None,
        dumps: Callable[[object], bytes | str] = msgspec.json.encode,
        relay: Relay | None = None,
    ) -> None:
        check_count("buffer_size", buffer_size, at_least=1)
        check_count("history_size", history_size, at_least=0)
        check_limit("max_clients", max_clients)
        if reconnection_time is not None:
            check_range("reconnection_time", reconnection_time)
        self._buffer_size = buffer_size
        self._heartbeat_interval = check_interval(heartbeat_interval)
        self._max_clients = max_clients
        self._event_types = EventTypes(strict=strict, dumps=dumps)
        self._clients = Clients()
        self._relay = relay
        # What comes through a relay has its id already, and is recorded there.
        self._history = History(history_size) if history_size and relay is None else None
        history = self._history if relay is None else self._attach(relay, history_size)
        self._beginning = Beginning(history, self._event_types, reconnection_time)
        self._streams: set[Client] = set()
        self._stream_ended = trio.lowlevel.ParkingLot()
        self._closed = False
        self._clients_pruned = 0

    @property
    def event_types(self) -> frozenset[str]:
        """The registered event types."""
        return self._event_types.names

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
            events_broadcast=self._clients.position,
            clients_pruned=self._clients_pruned,
        )

    @overload
    def register_event(self, name: str) -> RegisteredEvent[Any]: ...
    @overload
    def register_event(
        self, name: str, payload_type: type[_Payload]
    ) -> RegisteredEvent[_Payload]: ...
    @overload
    def register_event(self, name: str, payload_type: Any) -> RegisteredEvent[Any]: ...
    def register_event(self, name: str, payload_type: Any = None) -> RegisteredEvent[Any]:
        """Allow events of a type to be broadcast; return a handle whose payloads are typed.

        Registering a name again returns the same handle.

        Args:
            name: The event type that browsers listen for.
            payload_type: What its payloads must be, in strict mode: a dataclass, attrs class,
                Struct, TypedDict, NamedTuple, or any other type that msgspec knows. What msgspec
                can convert to it is sent converted; an instance is sent as it is, since a type
                checker has looked at its fields. Classes that msgspec does not know are checked by
                `isinstance`, and need a `dumps` that does. `None` for whatever there is.

        Raises:
            ValueError: If no browser could listen for the name: it is empty, has CR, LF, NUL or a
                lone surrogate, is ``stream-reset``, or is (in strict mode) ``error`` or ``open``,
                which a browser's EventSource dispatches itself; or if it is registered with another
                payload type.
            TypeError: If msgspec cannot tell what fits the payload type.
        """
        return self._event_types.register(RegisteredEvent[Any](name, payload_type, self.broadcast))

    @enable_ki_protection
    def broadcast(self, event: str, data: object, *, topic: str | None = None) -> None:
        """Send an event to every client; a client whose buffer is full is pruned.

        It never waits. What cannot be sent raises here and reaches nobody. With a relay, clients
        get the event when it comes back out of the stream.

        Args:
            event: The event type.
            data: `str` is sent as it is, `bytes` must be UTF-8, anything else becomes JSON (by
                msgspec unless the broadcaster was given another `dumps`): dicts, lists,
                dataclasses, attrs classes, Structs, datetimes, UUIDs, enums; `None` is ``null``.
                If the event type was registered with a payload type, it is that or can be
                converted to it (in strict mode).
            topic: Only clients that asked for this topic get it. `None` for all clients.

        Raises:
            ValueError: If `event` is not registered in strict mode or not sendable, or `data` does
                not fit its payload type or is not UTF-8.
            TypeError: If `data` cannot be turned into JSON, or `topic` is not a `str`.
            trio.ClosedResourceError: If the broadcaster was closed, or its relay does not run.
            trio.WouldBlock: If the relay's outbox is full, because Redis is away or too slow.
            RuntimeError: If it has clients in another thread or another `trio.run`. From a thread:
                ``trio.from_thread.run_sync(broadcaster.broadcast, event, data)``.
        """
        self._check_open()
        if topic is not None:
            check_topic(topic)
        text = self._event_types.serialise(event, data)
        if self._relay is not None:
            self._relay.send_nowait(ServerSentEvent(event, text), topic)
            return
        self._clients.check_home()
        message = ServerSentEvent(event, text, id=self._history and self._history.next_id)
        if self._history is not None:
            self._history.append(message, topic)
        self._send(message, topic)

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
    def subscribe(
        self,
        *,
        last_event_id: str | None = None,
        topics: Iterable[str] = (),
        key: Hashable = None,
    ) -> Subscription:
        """Register a client, at once, and return its end: every later broadcast is in it.

        Args:
            last_event_id: The id of the last event that this client has seen, if it was here
                before. What was broadcast since then comes first; or, if that is not known, a
                ``stream-reset`` event. (With a relay: known in this process.)
            topics: What it gets, besides the events without a topic.
            key: Whose client it is, to be disconnected by; `None` for nobody's.

        Raises:
            trio.ClosedResourceError: If the broadcaster was closed.
            RuntimeError: If not called from a Trio task, or while there are clients of another run.
            TypeError: If `topics` is not a collection of `str`.
        """
        self._check_open()
        self._clients.check_home()
        wanted = check_topics(topics)
        return self._register(self._beginning.missed_events(last_event_id, wanted), wanted, key)

    def admits(self, key: Hashable = None, key_limit: float = math.inf) -> bool:
        """Tell whether one more response may be opened (for the adapters of this package)."""
        return not (
            self._closed
            or len(self._clients) >= self._max_clients
            or (key is not None and self._clients.count(key) >= key_limit)
        )

    def draw_come_back(self) -> float:
        """Return the seconds after which one who is turned away may come back."""
        return come_back(self._beginning.reconnection_time)

    async def recall(
        self, last_event_id: str | None, topics: frozenset[str] = frozenset()
    ) -> Recalled | None:
        """Look up what a client has missed that is not at hand (for the adapters of this package).

        `None` if that cannot be done now: the client must come back later.
        """
        await trio.lowlevel.checkpoint()
        if self._relay is None:
            return Recalled(last_event_id)
        return await self._relay.recall(last_event_id, topics)

    @enable_ki_protection
    def open_stream(
        self,
        recalled: Recalled,
        *,
        topics: frozenset[str] = frozenset(),
        snapshot: Snapshot | None = None,
        key: Hashable = None,
    ) -> Client:
        """Register a client whose events go out in a response (for the adapters of this package).

        What a stream begins with is queued for it: the reconnection time, what the client has
        missed, or the snapshot and where it now is. `aclose` waits until the response closes the
        client, or cancels the `cancel_scope` that the response has set.
        """
        self._check_open()
        self._clients.check_home()
        client = self._register((), topics, key)
        client.last_words = b"".join(self._beginning.reconnection())
        client.renews = snapshot is not None
        try:
            past = self._beginning.blocks(client, recalled.last_event_id, snapshot)
        except BaseException:
            client.close()
            raise
        client.past = [*self._beginning.reconnection(), *recalled.blocks, *past][::-1]
        self._streams.add(client)
        return client

    async def stream(
        self,
        request: quart.Request,
        *,
        topics: Iterable[str] = (),
        snapshot: Snapshot | None = None,
        key: Hashable = None,
        key_limit: float = math.inf,
        max_age: float = math.inf,
    ) -> quart.Response:
        """Return the response of a Quart-Trio route: all that is broadcast while it is sent.

        Needs the extra ``quart``. Code before this call is the place to refuse a request.

        Args:
            request: The request, `quart.request`.
            topics: What the client gets, besides the events without a topic.
            snapshot: Returns the (event type, data) pairs that a stream begins with, unless the
                browser gets just what it missed. It is called in the step in which the client is
                registered, so no change falls between the two; its events are checked as those of
                `broadcast` are.
            key: Whose stream it is (a user's name, a session), to be limited and disconnected by;
                `None` for nobody's.
            key_limit: How many streams of the key there may be at a time. Requests that are under
                way together may exceed it.
            max_age: Seconds after which the stream ends, between two events, and the browser
                reconnects; each stream ends after 80 to 100 % of it.

        Raises:
            ValueError: If `key_limit` is less than 1, or `max_age` not greater than 0.
            TypeError: If `topics` is not a collection of `str`.
        """
        from .quart import stream_response

        check_limit("key_limit", key_limit)
        check_seconds("max_age", max_age)
        await trio.lowlevel.checkpoint()
        wanted = check_topics(topics)
        recall = partial(self.recall, topics=wanted)
        join = partial(self.open_stream, topics=wanted, snapshot=snapshot, key=key)
        admitted = self.admits(key, key_limit)
        return stream_response(self, request, recall, join, admitted=admitted, max_age=max_age)

    @enable_ki_protection
    def disconnect(self, key: Hashable, *, final: bool = False) -> int:
        """End all streams of a key after what is queued for them; return how many.

        Args:
            key: What was given when the streams were opened.
            final: Whether browsers shall not come back: the last id they get is ``end``, and a
                request with that id is answered 204 (No Content), at which a browser stops.

        Raises:
            RuntimeError: As `broadcast` does.
        """
        self._clients.check_home()
        clients = self._clients.of(key)
        for client in clients:
            if final:
                client.last_words += _END.encode()
            client.leave()
        return len(clients)

    @enable_ki_protection
    def close(self) -> None:
        """Admit nobody and end every stream after what is queued for it; never waits."""
        self._clients.check_home()
        self._closed = True
        for client in self._clients:
            client.leave()

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

    def _attach(self, relay: Relay, history_size: int) -> StreamHistory:
        node = Node(
            StreamHistory(history_size),
            self._buffer_size,
            serialise=self._event_types.serialise,
            check_home=self._clients.check_home,
            send=self._send,
            restart=self._restart,
            wait_all_taken=self.wait_all_taken,
        )
        relay.attach(node)
        return node.history

    def _restart(self, reason: str, last_id: str) -> None:
        """Tell all clients that events of the relay may have been missed."""
        self._clients.check_home()
        for client in self._clients:
            if client.renews:  # It comes back, and gets a snapshot with the reset.
                client.leave()
        self._send(ServerSentEvent(RESET_EVENT, reason, id=last_id), None)

    def _send(self, event: ServerSentEvent, topic: str | None) -> None:
        recipients = self._clients.advance(event.id, topic)
        behind = [recipient.offer(event) for recipient in recipients]
        self._prune([client for client in behind if client is not None])

    def _register(
        self, backlog: Sequence[ServerSentEvent], topics: frozenset[str], key: Hashable
    ) -> Client:
        client = Client(self._buffer_size, self._clients, self._end_stream, backlog, topics, key)
        self._clients.add(client)
        return client

    def _check_open(self) -> None:
        if self._closed:
            raise trio.ClosedResourceError("this broadcaster was closed")

    def _prune(self, clients: Sequence[Client]) -> None:
        for client in clients:
            self._clients.release(client)
            client.end(pruned=True)
        self._clients_pruned += len(clients)
        for _ in clients:  # Last: a logging handler may broadcast.
            _logger.info("client pruned: its buffer of %d events is full", self._buffer_size)

    def _end_stream(self, client: Client) -> None:
        self._streams.discard(client)
        self._stream_ended.unpark_all()
