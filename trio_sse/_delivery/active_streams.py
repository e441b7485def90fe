"""The streams that one server carries, so that it can end them when it shuts down.

A server hands the same `Carried` to each request, as an ASGI extension; a stream is in it for as
long as it runs. It knows neither broadcasters nor servers.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Final, final

import trio

from .._core.client import Client

_EXTENSION: Final = "trio_sse.carried"


@final
class Carried:
    """The clients whose streams one server carries."""

    def __init__(self, write_timeout: float = math.inf) -> None:
        self._write_timeout = write_timeout
        self._closing = False
        self._clients: set[Client] = set()
        self._discarded = trio.lowlevel.ParkingLot()

    def offer(self, scope: Mapping[str, Any]) -> None:
        """Put this into the scope of a request."""
        scope["extensions"][_EXTENSION] = self

    async def aclose(self) -> None:
        """End each stream after what is queued for it, and wait for that; admit no more."""
        self._closing = True
        for client in self._clients:
            client.leave()
        await trio.lowlevel.checkpoint()
        while self._clients:
            await self._discarded.park()

    @staticmethod
    def of(scope: Mapping[str, Any]) -> Carried:
        """Return what the server of a request offered; one of its own if it offered nothing."""
        carried: Carried | None = scope.get("extensions", {}).get(_EXTENSION)
        return carried or Carried()

    @property
    def closing(self) -> bool:
        """Whether the server is shutting down."""
        return self._closing

    def add(self, client: Client) -> None:
        """Carry a client's stream; pruned, it has the write timeout to drain."""
        client.drain_timeout = self._write_timeout
        self._clients.add(client)
        if self._closing:  # Since the request was looked at.
            client.leave()

    def discard(self, client: Client) -> None:
        """Carry it no more."""
        self._clients.discard(client)
        self._discarded.unpark_all()
