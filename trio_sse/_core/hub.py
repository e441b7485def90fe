"""The engine: one event in, one bounded memory channel for each client out.

It knows nothing of HTTP, of servers and of time, and starts no task. Sending has no checkpoint, so
nothing else runs until every client has its event, and all clients see the same order. Opening is
one step, too: a client that comes is registered where its past was looked up, so nothing falls
between the two. Whatever changes something is one of the registry's `Changes`: a broadcast that
strikes inside one (out of a signal handler, a `__del__`, a logging handler) goes out after it.

Users see its face, `Broadcaster`; the adapters of this package reach it by `hub_of`.
"""

from __future__ import annotations

import logging
from collections.abc import Hashable, Sequence
from typing import final

import trio
from trio.lowlevel import enable_ki_protection

from .changes import report
from .client import Client, Opened
from .event import RESET_EVENT, ServerSentEvent
from .event_types import EventTypes
from .history import History, LocalHistory
from .options import HubOptions, StreamOptions, check_event_id, check_key, check_topic
from .preamble import Preamble, Replay
from .registry import BroadcasterStatistics, Registry
from .relay import Relay, Replayed
from .run_guard import check_on_trio
from .subscription import Subscription

_logger = logging.getLogger("trio_sse")


@final
class Hub:
    """What a broadcaster does; see there for the arguments."""

    def __init__(self, options: HubOptions, event_types: EventTypes, relay: Relay | None) -> None:
        self.options = options
        self.event_types = event_types
        self.registry = Registry()
        self.closed = False
        self._clients_pruned = 0
        self._relay = relay
        self._history = self._new_history(options.history_size)
        self._preamble = Preamble(self._history, event_types, options.reconnection_time)

    # Events in.

    def broadcast(self, event: str, data: object, topic: str | None) -> None:
        """See `Broadcaster.broadcast`."""
        self.check_open()
        if topic is not None:
            check_topic(topic)
        message = ServerSentEvent(event, self.event_types.serialise(event, data))
        if self._relay is not None:
            self._relay.send_nowait(message, topic)
        else:
            self.registry.check_run()
            self.registry.changes.run(self._record_and_send, message, topic)

    @property
    def buffer_size(self) -> int:
        """See `Node.buffer_size`."""
        return self.options.buffer_size

    def serialise(self, event: str, data: object) -> str:
        """See `Node.serialise`."""
        return self.event_types.serialise(event, data)

    def check_run(self) -> None:
        """See `Node.check_run`."""
        self.registry.check_run()

    @enable_ki_protection
    def deliver(self, event: ServerSentEvent, topic: str | None) -> None:
        """See `Node.deliver`."""
        self.registry.check_run()
        with self.registry.changes:
            self._record_and_send(event, topic)

    @enable_ki_protection
    def begin_again(self, reason: str, last_id: str) -> None:
        """See `Node.begin_again`."""
        with self.registry.changes:
            self._end([client for client in self.registry if client.ends_on_gap])
            self._send(ServerSentEvent(RESET_EVENT, reason, id=last_id), None)

    # Clients in.

    def admits(self, options: StreamOptions) -> bool:
        """Tell whether one more response may be opened.

        Raises:
            RuntimeError: While there are clients of another run.
        """
        self.registry.check_run()
        self.registry.tidy()
        key = options.key
        return not (
            self.closed
            or len(self.registry) >= self.options.max_clients
            or (key is not None and self.registry.count(key) >= options.key_limit)
        )

    async def replay(self, last_event_id: str | None, topics: frozenset[str]) -> Replayed | None:
        """Look up what a client has missed that is not at hand.

        `None` if that cannot be done now: the client must come back later.
        """
        await trio.lowlevel.checkpoint()
        if self._relay is None:
            return Replayed(last_event_id)
        return await self._relay.replay(last_event_id, topics)

    @enable_ki_protection
    def open(self, options: StreamOptions, replayed: Replayed) -> Opened:
        """Register a client whose events go out in a response; return with what it begins.

        Whoever opens it adds the response, or closes the client.

        Raises:
            trio.ClosedResourceError: If the broadcaster was closed.
            RuntimeError: While there are clients of another run.
            Exception: Whatever the snapshot raises; then nobody is registered.
        """
        self.check_open()
        self.registry.check_run()
        with self.registry.changes:
            replay = self._preamble.look_up(replayed.last_event_id, options.topics)
            client = Client(self.registry, self.buffer_size, options, replay.behind)
            self.registry.add(client)
            state = self._take_snapshot(client, replay, options)
        before = [*self._preamble.retry_line(), *replayed.blocks, *replay.missed]
        blocks = [*before, *state, *replay.position]
        return Opened(client, blocks[::-1], self._preamble.draw_retry())

    def subscribe(self, last_event_id: str | None, options: StreamOptions) -> Subscription:
        """See `Broadcaster.subscribe`."""
        self.check_open()
        check_on_trio(
            "subscribe() must be called inside trio.run, by the task that reads the events"
        )
        check_event_id(last_event_id)
        self.registry.check_run()
        client = Client(self.registry, self.buffer_size, options)
        self.registry.changes.run(self._admit, client, last_event_id)
        return Subscription(client)

    # Clients out.

    def disconnect(self, key: Hashable, *, final: bool) -> int:
        """See `Broadcaster.disconnect`."""
        check_key("key", key)
        self.registry.check_run()
        clients = self.registry.of(key)
        self.registry.changes.run(self._end, clients, final)
        return len(clients)

    def close(self) -> None:
        """See `Broadcaster.close`."""
        self.registry.check_run()
        self.closed = True  # First: what is broadcast from now on would reach nobody.
        self.registry.changes.run(self._end_all)

    async def aclose(self) -> None:
        """See `Broadcaster.aclose`."""
        self.close()
        self.registry.close_expected()
        try:
            await self.registry.wait_responses_ended()
        finally:
            for response in self.registry.responses.values():
                response.cancel("aclose() of the broadcaster was cancelled")

    # How it is.

    @property
    def client_count(self) -> int:
        """See `Broadcaster.client_count`."""
        self.registry.tidy()
        return len(self.registry)

    @property
    def last_event_id(self) -> str | None:
        """See `Broadcaster.last_event_id`."""
        return None if self._history is None else self._history.last_id

    async def wait_all_taken(self) -> None:
        """See `Broadcaster.wait_all_taken`."""
        if self._relay is not None:
            await self._relay.wait_all_back()
        await self.wait_delivered_taken()

    async def wait_delivered_taken(self) -> None:
        """See `Node.wait_delivered_taken`."""
        await trio.lowlevel.checkpoint()
        self.registry.check_run()
        self.registry.changes.catch_up()
        awaited = [(client, client.expect_taken()) for client in self.registry]
        try:
            for _, taken in awaited:
                if not taken.is_set():  # Each wait is a turn of the scheduler.
                    await taken.wait()
        finally:
            for client, taken in awaited:
                client.expect_no_more(taken)

    def statistics(self) -> BroadcasterStatistics:
        """See `Broadcaster.statistics`."""
        self.registry.tidy()
        return BroadcasterStatistics(
            clients=len(self.registry),
            clients_direct=sum(client.waker is not None for client in self.registry),
            streams=len(self.registry.responses),
            events_broadcast=self.registry.position,
            clients_pruned=self._clients_pruned,
        )

    def check_open(self) -> None:
        """Refuse what needs an open broadcaster.

        Raises:
            trio.ClosedResourceError: If it was closed.
        """
        if self.closed:
            raise trio.ClosedResourceError("this broadcaster was closed")

    def _new_history(self, size: int) -> History | None:
        if self._relay is not None:
            if not hasattr(self._relay, "attach"):
                raise TypeError(f"relay must be such as RedisRelay(url), got {self._relay!r}")
            return self._relay.attach(self, size)
        return LocalHistory(size) if size else None

    def _record_and_send(self, event: ServerSentEvent, topic: str | None) -> None:
        if self._history is not None:
            event = self._history.append(event, topic)
        self._send(event, topic)

    def _send(self, event: ServerSentEvent, topic: str | None) -> None:
        recipients = self.registry.advance(event.id, topic)
        behind = [recipient.offer(event) for recipient in recipients]
        self._prune([client for client in behind if client is not None])

    def _prune(self, clients: Sequence[Client]) -> None:
        for client in clients:
            client.prune()
        self._clients_pruned += len(clients)
        try:
            for _ in clients:
                _logger.info("client pruned: its buffer of %d events is full", self.buffer_size)
        except Exception as error:  # Of a filter or handler: it is not the publisher's.
            report(error)

    def _take_snapshot(self, client: Client, replay: Replay, options: StreamOptions) -> list[bytes]:
        if options.snapshot is None or replay.is_exact:
            return []
        try:
            return self._preamble.encode(options.snapshot)
        except BaseException:
            client.close()
            raise

    def _admit(self, client: Client, last_event_id: str | None) -> None:
        missed, began_at = self._preamble.missed_events(last_event_id, client.topics)
        client.put_first(missed, began_at)
        self.registry.add(client)
        if self.closed:  # Since the call.
            client.end()

    def _end(self, clients: Sequence[Client], final: bool = False) -> None:
        for client in clients:
            client.end(final=final)

    def _end_all(self) -> None:
        self._end([*self.registry])


def hub_of(broadcaster: object) -> Hub:
    """Return the engine of a broadcaster, for the adapters of this package.

    Raises:
        TypeError: If it is none.
    """
    hub = getattr(broadcaster, "_hub", None)
    if not isinstance(hub, Hub):
        raise TypeError(f"a trio_sse.Broadcaster is wanted, got {broadcaster!r}")
    return hub
