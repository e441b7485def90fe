"""Who is connected: the clients of one hub, and whom the next event goes to.

An event goes to recipients: a client by itself, with its own channel, or a queue that clients share
which keep up, and which takes it once for all of them. It knows names and runs; it knows neither
what is in an event nor what becomes of it.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from inspect import CORO_CLOSED, getcoroutinestate
from typing import Generic, TypeVar, final

import attrs
import trio

from .changes import Changes
from .client import Client, Recipient, Response
from .run_guard import RunGuard

_Member = TypeVar("_Member")


@final
class _Groups(Generic[_Member]):
    """Members by a name that they share, in the order in which they came.

    A group without members leaves nothing behind, so names may be as many as they like over time.
    """

    __slots__ = ("_groups",)

    def __init__(self) -> None:
        self._groups: dict[Hashable, dict[_Member, None]] = {}

    def add(self, name: Hashable, member: _Member) -> None:
        self._groups.setdefault(name, {})[member] = None

    def discard(self, name: Hashable, member: _Member) -> None:
        group = self._groups.get(name)
        if group is not None:
            group.pop(member, None)
            if not group:
                del self._groups[name]

    def members(self, name: Hashable) -> Sequence[_Member]:
        return tuple(self._groups.get(name, ()))

    def count(self, name: Hashable) -> int:
        return len(self._groups.get(name, ()))


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
class Registry:
    """The clients of one hub, in the order in which they came."""

    def __init__(self) -> None:
        #: Whoever changes what is in here, or in a client, does it in one of these.
        self.changes = Changes()
        #: How many events were broadcast, and the id of the last of them, if it has one.
        self.position = 0
        self.last_id: str | None = None
        self._response_ended = trio.lowlevel.ParkingLot()
        self._forget()

    def __len__(self) -> int:
        return len(self._clients)

    def __iter__(self) -> Iterator[Client]:
        return iter(tuple(self._clients))

    def check_run(self) -> None:
        """Refuse a call from elsewhere than the clients' run; forget them if that is over.

        Raises:
            RuntimeError: If that run goes on, and this is another thread or another run.
        """
        guard = self.changes.run_guard
        if guard is not None and guard.is_over():
            self._forget()

    def tidy(self) -> None:
        """Forget who would count though it is gone; this may be asked from anywhere.

        Those are the clients of a run that is over, and those whose response was never sent.
        """
        guard = self.changes.run_guard
        if guard is not None and guard.has_finished():
            self._forget()
        for client, task in [*self._expected.items()]:
            if getcoroutinestate(task.coro) == CORO_CLOSED:
                self.changes.run(client.close)

    def add(self, client: Client) -> None:
        """Let a client have all that comes from now on."""
        if self.changes.run_guard is None:
            self.changes.run_guard = RunGuard()
        if client.options.key is not None:
            self._keys.add(client.options.key, client)
        self._clients[client] = None
        self.enlist(client)

    def unregister(self, client: Client) -> None:
        """Let a client have no more; it may be out already."""
        self._clients.pop(client, None)
        self.dismiss(client)
        self._keys.discard(client.options.key, client)

    def expect_response(self, client: Client) -> None:
        """Note that this task will send the response of a client, or else nobody will."""
        self._expected[client] = trio.lowlevel.current_task()
        if client.options.key is not None:
            self._responses_of_key.add(client.options.key, client)

    def add_response(self, client: Client, response: Response) -> None:
        """Note that a response carries a client's events, until it is closed."""
        self._expected.pop(client, None)
        client.response = self.responses[client] = response
        if client.options.key is not None:
            self._responses_of_key.add(client.options.key, client)

    def discard(self, client: Client) -> None:
        """Forget the response of a client, which has ended."""
        self._expected.pop(client, None)
        self.responses.pop(client, None)
        self._responses_of_key.discard(client.options.key, client)
        self._response_ended.unpark_all()

    def close_expected(self) -> None:
        """Let those leave whose response has not begun: it will be an answer of one block."""
        for client in [*self._expected]:
            client.close()

    async def wait_responses_ended(self) -> None:
        """Wait until no response is under way."""
        await trio.lowlevel.checkpoint()
        while self.responses:
            await self._response_ended.park()

    @property
    def recipients(self) -> Sequence[Recipient]:
        """Whom an event without a topic goes to, as of now."""
        return tuple(self._recipients)

    def advance(self, event_id: str | None, topic: str | None) -> Sequence[Recipient]:
        """Count an event; return to whom it goes: those of its topic, or all if it has none."""
        self.position += 1
        self.last_id = event_id
        if topic is None:
            self._position_of_all = self.position
            return self.recipients
        recipients = self._topics.members(topic)
        if recipients:
            self._positions[topic] = self.position
        return recipients

    def position_of(self, topics: Iterable[str]) -> int:
        """Return how many events there were with the last that clients of these topics got."""
        return max(self._position_of_all, 0, *(self._positions.get(topic, 0) for topic in topics))

    def enlist(self, recipient: Recipient) -> None:
        """Send events to a recipient from now on."""
        self._recipients[recipient] = None
        for topic in recipient.topics:
            self._topics.add(topic, recipient)

    def dismiss(self, recipient: Recipient) -> None:
        """Send no more events to a recipient; it may be out already."""
        self._recipients.pop(recipient, None)
        for topic in recipient.topics:
            self._topics.discard(topic, recipient)
            if not self._topics.count(topic):
                self._positions.pop(topic, None)

    def of(self, key: Hashable) -> Sequence[Client]:
        """Return the clients of a key, and those whose response still takes what is queued."""
        return [*dict.fromkeys([*self._keys.members(key), *self._responses_of_key.members(key)])]

    def count(self, key: Hashable) -> int:
        """Return how many clients a key has."""
        return self._keys.count(key)

    def _forget(self) -> None:
        self.changes.run_guard = None
        #: Responses under way, those of ended clients that still take what is queued included.
        self.responses: dict[Client, Response] = {}
        self._responses_of_key = _Groups[Client]()
        #: The tasks that will send a response of those who are registered before.
        self._expected: dict[Client, trio.lowlevel.Task] = {}
        self._clients: dict[Client, None] = {}
        self._recipients: dict[Recipient, None] = {}
        self._topics = _Groups[Recipient]()
        self._keys = _Groups[Client]()
        #: As of the last event for all, and of the last of each topic that somebody listens to.
        self._position_of_all = 0
        self._positions: dict[str, int] = {}
