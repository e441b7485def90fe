"""Who is connected: the clients of one broadcaster, and whom the next event goes to.

An event goes to recipients: a client by itself, with its own channel, or an audience of clients
that keep up (`_audience`), which takes it once for all of them. It knows names and runs, and
neither events nor what becomes of them.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import final

from .client import Client, Recipient
from .groups import Groups
from .run_guard import HomeRun


@final
class Clients:
    """The clients of one broadcaster, in the order in which they came."""

    def __init__(self) -> None:
        #: How many events were broadcast, and the id of the last of them, if it has one.
        self.position = 0
        self.last_id: str | None = None
        #: As of the last event for all, and of the last of each topic that somebody listens to.
        self._position_of_all = 0
        self._positions: dict[str, int] = {}
        self._clients: dict[Client, None] = {}
        self._recipients: dict[Recipient, None] = {}
        self._topics = Groups[Recipient]()
        self._keys = Groups[Client]()
        self._home: HomeRun | None = None

    def __len__(self) -> int:
        return len(self._clients)

    def __iter__(self) -> Iterator[Client]:
        return iter(tuple(self._clients))

    def check_home(self) -> None:
        """Refuse a call from elsewhere than the clients' run; forget them if that is over.

        Raises:
            RuntimeError: If there are clients, and this is another thread or another run.
        """
        if self._home is not None and self._clients and self._home.is_over():
            self._clients.clear()
            self._recipients.clear()
            self._topics = Groups[Recipient]()
            self._positions.clear()
            self._keys = Groups[Client]()

    def add(self, client: Client) -> None:
        """Let a client have all that comes from now on."""
        if not self._clients:
            self._home = HomeRun()
        if client.key is not None:
            self._keys.add(client.key, client)
        self._clients[client] = None
        self.enlist(client)

    def release(self, client: Client) -> None:
        """Let a client have no more; it may be gone already."""
        self._clients.pop(client, None)
        self.dismiss(client)
        self._keys.discard(client.key, client)

    def advance(self, event_id: str | None, topic: str | None) -> Sequence[Recipient]:
        """Count an event; return to whom it goes: those of its topic, or all if it has none."""
        self.position += 1
        self.last_id = event_id
        if topic is None:
            self._position_of_all = self.position
            return tuple(self._recipients)
        recipients = self._topics.members(topic)
        if recipients:
            self._positions[topic] = self.position
        return recipients

    def position_of(self, topics: Iterable[str]) -> int:
        """Return the position of the last event that clients of these topics got."""
        return max(self._position_of_all, 0, *(self._positions.get(topic, 0) for topic in topics))

    def enlist(self, recipient: Recipient) -> None:
        """Send events to a recipient from now on."""
        self._recipients[recipient] = None
        for topic in recipient.topics:
            self._topics.add(topic, recipient)

    def dismiss(self, recipient: Recipient) -> None:
        """Send no more events to a recipient; it may be gone already."""
        self._recipients.pop(recipient, None)
        for topic in recipient.topics:
            self._topics.discard(topic, recipient)
            if not self._topics.count(topic):
                self._positions.pop(topic, None)

    def of(self, key: Hashable) -> Sequence[Client]:
        """Return the clients of a key, as of now."""
        return self._keys.members(key)

    def count(self, key: Hashable) -> int:
        """Return how many clients a key has."""
        return self._keys.count(key)
