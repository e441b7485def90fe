"""`Broadcaster`: what users call.

Nearly all of it is docstring, which is the reference; hence its length. The engine is `_core.hub`.
It has no name but those that users call.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar, final, overload

import trio

from ._core.conversion import encode_json
from ._core.event_types import EventTypes, RegisteredEvent
from ._core.hub import Hub
from ._core.options import NO_KEY, HubOptions, Snapshot, StreamOptions
from ._core.registry import BroadcasterStatistics
from ._core.relay import Relay
from ._core.run_guard import check_on_trio
from ._core.subscription import Subscription

if TYPE_CHECKING:
    import quart

_Payload = TypeVar("_Payload")


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
        dumps: Callable[[object], bytes | str] = encode_json,
        relay: Relay | None = None,
    ) -> None:
        options = HubOptions(
            buffer_size=buffer_size,
            heartbeat_interval=heartbeat_interval,
            history_size=history_size,
            max_clients=max_clients,
            reconnection_time=reconnection_time,
        )
        self._hub = Hub(options, EventTypes(strict=strict, dumps=dumps), relay)

    @property
    def event_types(self) -> frozenset[str]:
        """The registered event types."""
        return self._hub.event_types.names

    @property
    def client_count(self) -> int:
        """How many clients get the next broadcast."""
        return self._hub.client_count

    @property
    def last_event_id(self) -> str | None:
        """The id of the last event; before the first one, an id that all events follow.

        `None` without a history. With a relay: of the last event that has come back.
        """
        return self._hub.last_event_id

    @property
    def heartbeat_interval(self) -> float:
        """Seconds of silence after which a client gets a comment; `math.inf` for never."""
        return self._hub.options.heartbeat_interval

    @property
    def closed(self) -> bool:
        """Whether the broadcaster was closed and admits nobody."""
        return self._hub.closed

    def statistics(self) -> BroadcasterStatistics:
        """Return what the broadcaster has done and holds."""
        return self._hub.statistics()

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
                checker has looked at its fields. Classes that msgspec does not know, but for
                pydantic's models, are checked by `isinstance`, and need a `dumps` that knows them.
                `None` for whatever there is.

        Raises:
            ValueError: If no browser could listen for the name: it is empty, has CR, LF, NUL or a
                lone surrogate, is ``stream-reset``, ``stream-position`` or ``stream-end``, or is
                (in strict mode) ``error`` or ``open``, which a browser's EventSource dispatches
                itself; or if it is registered with another payload type.
            TypeError: If msgspec cannot tell what fits the payload type.
        """
        event = RegisteredEvent[Any](name, payload_type, self.broadcast)
        return self._hub.event_types.register(event)

    def broadcast(self, event: str, data: object, *, topic: str | None = None) -> None:
        """Send an event to every client; a client whose buffer is full is pruned.

        It never waits. What cannot be sent raises here and reaches nobody. With a relay, clients
        get the event when it comes back out of the stream.

        Args:
            event: The event type.
            data: `str` is sent as it is, `bytes` must be UTF-8, anything else becomes JSON (by
                msgspec unless the broadcaster was given another `dumps`): dicts, lists,
                dataclasses, attrs classes, Structs, pydantic models, datetimes, UUIDs, enums;
                `None` is ``null``, and so is a float that JSON has no number for.
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
        self._hub.broadcast(event, data, topic)

    async def wait_all_taken(self) -> None:
        """Wait until every client has taken what was broadcast before this call, or is gone.

        A publisher that broadcasts a batch of at most `buffer_size` events and then waits here
        never prunes a client that reads, however slowly. A client that has stopped reading holds it
        up: set a deadline, then go on, and the client is pruned.
        """
        await self._hub.wait_all_taken()

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
        return self._hub.subscribe(last_event_id, StreamOptions(topics=topics, key=key))

    async def stream(
        self,
        request: quart.Request,
        *,
        topics: Iterable[str] = (),
        snapshot: Snapshot | None = None,
        key: Hashable = NO_KEY,
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
            key: Whose stream it is (a user, a session), to be limited and disconnected by.
            key_limit: How many streams of the key there may be at a time.
            max_age: Seconds after which the stream ends, between two events, and the browser
                reconnects; each stream ends after 80 to 100 % of it.

        Raises:
            ValueError: If `key_limit` is less than 1 or has no key, or `max_age` is not above 0.
            TypeError: If `topics` is not a collection of `str`, `snapshot` no function, `key`
                cannot be looked up, or `request` is not Quart's.
            RuntimeError: If the server does not run Trio.
        """
        check_on_trio()
        from .quart import stream_response

        await trio.lowlevel.checkpoint()
        options = StreamOptions(
            topics=topics, snapshot=snapshot, key=key, key_limit=key_limit, max_age=max_age
        )
        return await stream_response(self, request, options)

    def disconnect(self, key: Hashable, *, final: bool = False) -> int:
        """End all streams of a key after what is queued for them; return how many.

        Args:
            key: What was given when the streams were opened.
            final: Whether browsers shall not come back: the last id they get is ``end``, and a
                request with that id is answered 204 (No Content), at which a browser stops.

        Raises:
            RuntimeError: As `broadcast` does.
        """
        return self._hub.disconnect(key, final=final)

    def close(self) -> None:
        """Admit nobody and end every stream after what is queued for it; never waits."""
        self._hub.close()

    async def aclose(self) -> None:
        """Close, and wait until the last response has ended; if cancelled, cancel what is left.

        A client that does not read can make this last: set a deadline around it.
        """
        await self._hub.aclose()
