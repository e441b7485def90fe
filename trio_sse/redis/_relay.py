"""`RedisRelay`: what users call, and the tasks that carry events.

What is on its way into the stream is in `_outbox`, what comes out of it in `_reader`, what clients
have missed in `_replay`. It knows neither commands of Redis nor connections.
"""

from __future__ import annotations

import logging
import ssl
from collections.abc import Generator
from contextlib import contextmanager
from typing import Final, final

import trio

from .._core.event import ServerSentEvent
from .._core.history import History
from .._core.options import check_count, check_seconds, check_topic
from .._core.relay import Node, Replayed
from .._core.run_guard import RunGuard
from ._address import Address, Credentials
from ._commands import RedisStream
from ._history import StreamHistory
from ._outbox import Outbox, PendingEvent
from ._publisher import Publisher
from ._reader import StreamReader
from ._replay import Replayer
from ._session import Sessions
from ._statistics import RelayStatistics
from ._url import RedisURL

#: Seconds that the end of a relay waits until Redis has what was broadcast before.
_FLUSH_TIMEOUT: Final = 1.0

_logger = logging.getLogger("trio_sse")


@final
class RedisRelay:
    """Carries the events of one broadcaster through a stream that other processes share.

    Give it to `Broadcaster(relay=...)` and run it: ``await nursery.start(relay.run)``. An event
    reaches clients, those of this process too, when it comes back out of the stream: so all
    processes have the same events in the same order, with the same ids, and a client may come back
    to any of them. While Redis is away clients stay connected and hear heartbeats.

    Args:
        url: ``redis://``, ``rediss://`` (TLS) or ``unix://``, as in
            ``rediss://user:password@host:6379/0``; what is special in user and password is
            percent-encoded. Or ``redis+sentinel://host:26379,host:26379/service/0``, whose
            Sentinels are asked for the primary before each connection is made.
        stream: The key of the stream. Relays with the same stream see each other's events.
        maxlen: How many of the last events Redis keeps at least, for clients that come back.
        outbox_size: How many events may wait for Redis.
        outbox_bytes: How many bytes they may have.
        timeout: Seconds after which a server that does not answer is given up, and for which a
            client that comes back waits for its past.
        ssl_context: For ``rediss://``; the default trusts the system's authorities and checks the
            host's name.
        credentials: Returns (user, password), or does so when awaited, within the timeout; asked
            before each connection is made, so that they may change.

    Raises:
        ValueError: If a number is out of its range, or the URL will not do.
        TypeError: If `credentials` is no function.
    """

    def __init__(
        self,
        url: str,
        *,
        stream: str = "trio-sse",
        maxlen: int = 10_000,
        outbox_size: int = 1_000,
        outbox_bytes: int = 8 * 1024 * 1024,
        timeout: float = 5.0,  # noqa: ASYNC109 (of each exchange with Redis)
        ssl_context: ssl.SSLContext | None = None,
        credentials: Credentials | None = None,
    ) -> None:
        check_count("maxlen", maxlen, at_least=1)
        check_count("outbox_size", outbox_size, at_least=1)
        check_count("outbox_bytes", outbox_bytes, at_least=1)
        check_seconds("timeout", timeout)
        if not stream:
            raise ValueError("stream must not be empty: it is the stream's key in Redis")
        address = Address(RedisURL.parse(url), ssl_context, credentials, timeout)
        self._sessions = Sessions(address)
        self._stream = RedisStream(stream, maxlen)
        self._outbox = Outbox(outbox_size, outbox_bytes, window=maxlen)
        self._dropped = 0
        self._node: Node | None = None
        self._reader: StreamReader
        self._publisher: Publisher
        self._replayer: Replayer
        self._run_guard: RunGuard | None = None

    def attach(self, node: Node, history_size: int) -> History:
        """Work for a hub (which calls this itself); return the record of what comes.

        Raises:
            RuntimeError: If it works for another one.
        """
        if self._node is not None:
            raise RuntimeError("this relay has a broadcaster already: make one for each")
        self._node = node
        history = StreamHistory(history_size)
        self._reader = StreamReader(self._stream, node, history, self._outbox)
        self._publisher = Publisher(self._stream, self._outbox, self._reader)
        self._replayer = Replayer(self._sessions, self._stream, history, self._reader)
        return history

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Carry events until cancelled; it has started once the stream can be read.

        Whether it can be written, too, is known by then: `statistics` tells. While Redis
        cannot be reached it tries again, for ever: bound the start, if it matters, by
        `trio.fail_after`. When cancelled it waits a second at most until Redis has what was
        broadcast before.

        Raises:
            RefusedError: At the start, if something is wrong that will not pass.
            RuntimeError: If no broadcaster has this relay, or it runs already.
        """
        if self._node is None or self._run_guard is not None:
            raise RuntimeError("a relay runs for the Broadcaster(relay=...) that has it, and once")
        self._run_guard = run_guard = RunGuard()
        self._stream.new_producer()
        flushing = trio.CancelScope(shield=True)
        try:
            await self._sessions.keep_session(self._reader.find_start, refusable=True)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._sessions.keep_session, self._reader.read)
                await self._reader.reading.wait()
                nursery.start_soon(self._replayer.run)
                nursery.start_soon(self._publish, flushing)
                with self._accepting(flushing, run_guard):
                    await self._publisher.tried.wait()
                    task_status.started()
                    await trio.sleep_forever()
        finally:
            self._reader.started, self._reader.reading = trio.Event(), trio.Event()
            self._publisher.tried = trio.Event()
            self._run_guard = None
            self._drop()

    async def publish(self, event: str, data: object, *, topic: str | None = None) -> str:
        """Broadcast an event, and wait until Redis has it; return its id.

        If cancelled, the event may have been sent, or may be sent yet.

        Args:
            event: As for `Broadcaster.broadcast`.
            data: As for `Broadcaster.broadcast`.
            topic: As for `Broadcaster.broadcast`.

        Raises:
            ValueError: As `Broadcaster.broadcast` does, or if the event is too large.
            TypeError: As `Broadcaster.broadcast` does.
            trio.ClosedResourceError: If the relay does not run.
            trio.BrokenResourceError: If the relay ended before Redis had acknowledged the event.
        """
        if topic is not None:
            check_topic(topic)
        if self._node is None:
            raise trio.ClosedResourceError("no Broadcaster(relay=...) has this relay")
        self._check_running()
        pending = PendingEvent(ServerSentEvent(event, self._node.serialise(event, data)), topic)
        await self._outbox.post(pending)
        await pending.settled.wait()
        if pending.id is None:
            raise trio.BrokenResourceError(
                "the relay ended before Redis had acknowledged this event, which may be lost"
            )
        return pending.id

    def send_nowait(self, event: ServerSentEvent, topic: str | None) -> None:
        """Accept an event for the stream (which `Broadcaster.broadcast` calls)."""
        self._check_running()
        self._outbox.post_nowait(PendingEvent(event, topic))

    async def replay(self, last_event_id: str | None, topics: frozenset[str]) -> Replayed | None:
        """Look up what a client has missed (which its request calls)."""
        return await self._replayer.look_up(last_event_id, topics)

    async def wait_all_back(self) -> None:
        """Wait until clients were sent what was broadcast before (as `Broadcaster` does)."""
        await self._outbox.wait_all_back()

    def statistics(self) -> RelayStatistics:
        """Return how the relay is, once a broadcaster has it."""
        reader, oldest = self._reader, self._outbox.oldest_posted_at
        return RelayStatistics(
            ready=reader.reads and self._publisher.works,
            head=reader.head,
            lag=reader.lag,
            outbox_events=len(self._outbox),
            outbox_bytes=self._outbox.bytes,
            outbox_age=0.0 if oldest is None else trio.current_time() - oldest,
            published=self._publisher.published,
            received=reader.received,
            refused=reader.refused,
            dropped=self._dropped,
            gaps=reader.gaps,
            recalling=self._replayer.waiting,
            sessions_lost=self._sessions.sessions_lost,
            last_error=self._sessions.last_error,
        )

    def _check_running(self) -> None:
        if self._run_guard is not None:
            self._run_guard.is_over()
        self._outbox.check_open()

    async def _publish(self, flushing: trio.CancelScope) -> None:
        with flushing:
            await self._sessions.keep_session(self._publisher.send)

    @contextmanager
    def _accepting(self, flushing: trio.CancelScope, run_guard: RunGuard) -> Generator[None]:
        """Accept events within a block, then leave a little time to what is on its way."""
        self._outbox.open(run_guard)
        try:
            yield
        finally:
            self._outbox.close()
            flushing.deadline = trio.current_time() + _FLUSH_TIMEOUT

    def _drop(self) -> None:
        dropped = self._outbox.drop()
        self._dropped += dropped
        if dropped:
            _logger.error("the relay ended; %d events that Redis does not have are lost", dropped)
