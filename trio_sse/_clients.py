"""Who is connected: the clients of one broadcaster, and whom the next event goes to.

An event goes to recipients: a client by itself, with its own channel, or an audience of clients
that keep up (`_audience`), which takes it once for all of them. It knows names and runs, and
neither events nor what becomes of them.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from typing import final

from ._groups import Groups
from ._home import HomeRun
from ._subscription import Client, Recipient


@final
class Clients:
    """The clients of one broadcaster, in the order in which they came."""

    def __init__(self) -> None:
        #: How many events were broadcast, and the id of the last of them, if it has one.
        self.position = 0
        self.last_id: str | None = None
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
            self._keys = Groups[Client]()

    def add(self, client: Client) -> None:
        """Let a client have all that comes from now on."""
        if not self._clients:
            self._home = HomeRun()
        self._clients[client] = None
        self.enlist(client)
        if client.key is not None:
            self._keys.add(client.key, client)

    def release(self, client: Client) -> None:
        """Let a client have no more; it may be gone already."""
        self._clients.pop(client, None)
        self.dismiss(client)
        self._keys.discard(client.key, client)

    def recipients(self, topic: str | None) -> Sequence[Recipient]:
        """Return to whom the next event of a topic goes, as of now; without one it is to all."""
        return tuple(self._recipients) if topic is None else self._topics.members(topic)

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

    def of(self, key: Hashable) -> Sequence[Client]:
        """Return the clients of a key, as of now."""
        return self._keys.members(key)

    def count(self, key: Hashable) -> int:
        """Return how many clients a key has."""
        return self._keys.count(key)
