"""A primary and its replica, and three Sentinels: who is killed is followed by the other.

Each has what the other had when it was last in touch: replication does not wait. So what a primary
had taken just before it was killed may be gone.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Generator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Final

import trio

from tests.support.redis_server import RedisServer, redis_server, sentinel

_PATIENCE: Final = 60.0
_NAP: Final = 0.05

#: Milliseconds for which a server that is paused answers nobody: too few for an election.
_PAUSES: Final = (50, 200)


@dataclass
class Failover:
    """Two servers, and those who decide which of them is the primary."""

    servers: list[RedisServer]
    sentinels: list[RedisServer]

    @property
    def url(self) -> str:
        """The URL for a relay."""
        hosts = ",".join(f"127.0.0.1:{one.port}" for one in self.sentinels)
        return f"redis+sentinel://{hosts}/service"

    async def fail(self, chance: random.Random) -> None:
        """Kill the primary, and start it again once the other has taken its place."""
        await self.settle()
        old = self.primary()
        old.kill()
        await _wait_for(lambda: self.primary() is not old)
        await trio.sleep(chance.uniform(0, 1))
        await trio.to_thread.run_sync(old.start)

    def harm(self, chance: random.Random) -> str:
        """Cut all connections to the primary, or let it answer nobody for a while; tell which."""
        with suppress(OSError):  # Unless it has just been killed.
            if chance.random() < 0.5:
                self.primary().ask("CLIENT", "KILL", "TYPE", "normal")
                return "cut"
            self.primary().ask("CLIENT", "PAUSE", chance.randint(*_PAUSES))
        return "pause"

    async def settle(self) -> None:
        """Wait until the Sentinels and the replica are at work."""
        await _wait_for(self._is_in_touch)

    def _is_in_touch(self) -> bool:
        primary = self.primary()
        (replica,) = (server for server in self.servers if server is not primary)
        try:
            is_linked = b"master_link_status:up" in replica.ask("INFO", "replication")
            has_all = replica.ask("DBSIZE") >= primary.ask("DBSIZE")
            peers = [len(one.ask("SENTINEL", "SENTINELS", "service")) for one in self.sentinels]
        except OSError:
            return False
        return is_linked and has_all and peers == [len(self.sentinels) - 1] * len(peers)

    def primary(self) -> RedisServer:
        """Return who is the primary now."""
        _, port = self.sentinels[0].ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "service")
        return next(server for server in self.servers if server.port == int(port))


@contextmanager
def failover() -> Generator[Failover]:
    """Run them for the length of a block."""
    with ExitStack() as stack:
        primary = stack.enter_context(redis_server())
        replica = stack.enter_context(redis_server("--replicaof", f"127.0.0.1 {primary.port}"))
        sentinels = [stack.enter_context(sentinel(primary, quorum=2)) for _ in range(3)]
        yield Failover([primary, replica], sentinels)


async def _wait_for(condition: Callable[[], bool]) -> None:
    give_up = time.monotonic() + _PATIENCE
    while not condition():
        if time.monotonic() > give_up:
            raise trio.TooSlowError
        await trio.sleep(_NAP)
