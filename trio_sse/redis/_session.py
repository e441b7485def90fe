"""One pinned connection to Redis or Valkey, and how it is opened anew.

It uses coredis in one narrow way: a pool of its own for each session, holding one connection that
is acquired once. So a connection that dies is an error here, and never another connection behind
our back; no command is ever repeated by the client; nothing is waited for without an end.
docs/design.md tells why. It knows commands, and nothing of events.
"""

from __future__ import annotations

import logging
import math
import random
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final, final

import attrs
import trio
from coredis.connection import BaseConnection
from coredis.exceptions import RedisError

from ._address import Address
from ._logs import only_our_word
from ._refusals import (
    IdleSessionLostError,
    RefusedError,
    ReplicaError,
    SessionLostError,
    leaf,
    translated,
)

#: Seconds to wait after a session was lost: the first time, and at most.
_SHORTEST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 2.0

_logger = logging.getLogger("trio_sse")

_FAILURES: Final = (RedisError, OSError)

#: A command's name and its arguments.
Command = tuple[bytes, *tuple[bytes | str | int, ...]]


@final
@attrs.frozen(eq=False)
class Session:
    """One connection, for as long as it lasts."""

    _connection: BaseConnection
    _timeout: float

    @property
    def server_version(self) -> str:
        """The version that the server says it has."""
        return self._connection.server_version or ""

    @property
    def is_usable(self) -> bool:
        """Whether nothing is known to be wrong with it."""
        return self._connection.usable

    @property
    def bytes_read(self) -> int:
        """How many bytes have come."""
        return self._connection.statistics.bytes_read

    async def command(self, name: bytes, *arguments: bytes | str | int, grace: float = 0) -> Any:
        """Send one command and return its reply; see `exchange`."""
        (reply,) = await self.exchange((name, *arguments), grace=grace)
        return reply

    async def exchange(self, *commands: Command, grace: float = 0) -> list[Any]:
        """Send commands in one write and return their replies, with text as `bytes`.

        A server is waited for as long as bytes come.

        Args:
            commands: Each with its arguments.
            grace: Seconds that it may take beyond the timeout until something comes.

        Raises:
            SessionLostError: If there is no reply, or an error that may pass.
            RefusedError: If the reply says that it will always be one.
        """
        try:
            requests = [self._request(*command) for command in commands]
            return [await self._reply(request, self._timeout + grace) for request in requests]
        except Exception as error:  # Whatever coredis's parser makes of what it cannot read.
            raise translated(error) from error

    def _request(self, name: bytes, *arguments: bytes | str | int) -> Awaitable[Any]:
        # Without a timeout of its own: it would count from here, whatever comes.
        return self._connection.create_request(name, *arguments, decode=False, timeout=math.inf)

    async def _reply(self, request: Awaitable[Any], patience: float) -> Any:
        while True:
            before = self.bytes_read
            with trio.move_on_after(patience):
                return await request
            if self.bytes_read == before:
                raise SessionLostError(f"TimeoutError: nothing has come for {patience:g} seconds")


@final
@attrs.define(eq=False)
class Sessions:
    """How sessions with Redis are opened, and how that went."""

    address: Address
    sessions_lost: int = attrs.field(default=0, init=False)
    last_error: str | None = attrs.field(default=None, init=False)

    @property
    def timeout(self) -> float:
        """Seconds after which a server that does not answer is given up."""
        return self.address.timeout

    @asynccontextmanager
    async def open_session(self) -> AsyncGenerator[Session]:
        """Connect; what goes wrong with the connection is told by `SessionLostError`.

        Raises:
            SessionLostError: If the connection cannot be made, or was lost.
            RefusedError: If Redis refuses.
        """
        try:
            pool = await self.address.pool()
            with only_our_word():
                async with pool, pool.acquire() as connection:
                    yield Session(connection, self.timeout)
        except BaseExceptionGroup as error:  # Of coredis's nurseries, whatever went wrong in them.
            cause = error
        else:
            return
        # Cancelled amid its handshake, coredis says that the connection failed.
        await trio.lowlevel.checkpoint_if_cancelled()
        raise _unwrapped(cause) from cause

    async def keep_session(
        self, use: Callable[[Session], Awaitable[None]], *, refusable: bool = False
    ) -> None:
        """Use a session, and when it is lost another one, until that returns.

        Raises:
            RefusedError: If Redis refuses, and it is `refusable`; else it may think better of it.
        """
        pause = _SHORTEST_PAUSE
        told = set[str]()
        while True:
            opened_at = trio.current_time()
            try:
                async with self.open_session() as session:
                    await use(session)
            except IdleSessionLostError:
                # Nothing was lost with it, so nothing is told; nor is time lost, if it was of use.
                await trio.sleep_until(opened_at + _SHORTEST_PAUSE)
                continue
            except (SessionLostError, RefusedError) as error:
                self.sessions_lost += 1
                self.last_error = reason = str(error)
                if refusable:
                    await self._check_may_pass(error)
            else:
                return
            if trio.current_time() - opened_at > _LONGEST_PAUSE:
                pause = _SHORTEST_PAUSE
                told.clear()
            kind = reason.partition(":")[0]  # How a connection was lost differs each time.
            if kind not in told:
                _logger.warning("no connection to Redis, trying again: %s", reason)
            told.add(kind)
            await trio.sleep(random.uniform(0.5, 1) * pause)  # noqa: S311 (keeps no secret)
            pause = min(2 * pause, _LONGEST_PAUSE)

    async def _check_may_pass(self, error: SessionLostError | RefusedError) -> None:
        """Raise if that will be so each time."""
        may_pass = isinstance(error, ReplicaError) and self.address.url.service
        if isinstance(error, RefusedError) and not may_pass:
            raise error
        if why := await self.address.mismatch():
            raise RefusedError(f"{why} ({error})") from error


def _unwrapped(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return what a group is about."""
    failures, others = group.split((*_FAILURES, SessionLostError, RefusedError))
    return translated(leaf(failures)) if others is None else leaf(others)
