"""One pinned connection to Redis or Valkey, and how it is opened anew.

The only module that knows coredis, and it uses one narrow way of it: a pool of its own for each
session, holding one connection that is acquired once. So a connection that dies is an error here,
and never another connection behind our back; no command is ever repeated by the client; nothing is
waited for without an end. docs/design.md tells why. It knows commands, and nothing of events.
"""

from __future__ import annotations

import logging
import math
import random
import re
import ssl
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, Final, cast, final
from urllib.parse import SplitResult, parse_qs, urlsplit

import attrs
import trio
from coredis.connection import BaseConnection
from coredis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    RedisError,
    WrongTypeError,
)
from coredis.pool import ConnectionPool

#: Seconds to wait after a session was lost: the first time, and at most.
_SHORTEST_PAUSE: Final = 0.05
_LONGEST_PAUSE: Final = 2.0

_logger = logging.getLogger("trio_sse")

#: What says that a session is over; among them what says that a next one would be, too.
_FAILURES: Final = (RedisError, OSError)
_REFUSALS: Final = (AuthenticationError, AuthorizationError, WrongTypeError)


#: A command's name and its arguments.
Command = tuple[bytes, *tuple[bytes | str | int, ...]]


class SessionLostError(Exception):
    """A connection is gone, or its server does not serve now; another one may be opened."""


class MissingKeyError(SessionLostError):
    """A command needs a key that does not exist."""


class RefusedError(PermissionError):
    """Redis refuses what a relay must do: its password, its permissions or its key are wrong."""


@final
@attrs.frozen(eq=False)
class Session:
    """One connection, for as long as it lasts."""

    _connection: BaseConnection
    _timeout: float

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
        except _FAILURES as error:
            raise _translated(error) from error

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
    """Where Redis is, and how sessions with it went.

    Raises:
        ValueError: If the URL is none of Redis, or wants what only arguments can say.
    """

    url: str = attrs.field(repr=False)  # It may hold a password.
    ssl_context: ssl.SSLContext | None
    timeout: float
    sessions_lost: int = attrs.field(default=0, init=False)
    last_error: str | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        parts = _split(self.url)
        _check(parts)
        if parts.scheme == "rediss" and self.ssl_context is None:
            self.ssl_context = ssl.create_default_context()  # It looks at the host's name, too.

    @asynccontextmanager
    async def open_session(self) -> AsyncGenerator[Session]:
        """Connect; what goes wrong with the connection is told by `SessionLostError`.

        Raises:
            SessionLostError: If the connection cannot be made, or was lost.
            RefusedError: If Redis refuses.
        """
        try:
            async with self._pool() as pool, pool.acquire() as connection:
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
        while True:
            opened_at = trio.current_time()
            try:
                async with self.open_session() as session:
                    await use(session)
            except (SessionLostError, RefusedError) as error:
                if refusable and isinstance(error, RefusedError):
                    raise
                self.note(error)
            else:
                return
            if trio.current_time() - opened_at > _LONGEST_PAUSE:
                pause = _SHORTEST_PAUSE
            if pause == _SHORTEST_PAUSE:
                _logger.warning("no connection to Redis, trying again: %s", self.last_error)
            await trio.sleep(random.uniform(0.5, 1) * pause)  # noqa: S311 (keeps no secret)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def note(self, error: Exception) -> None:
        """Count a session that was lost."""
        self.sessions_lost += 1
        self.last_error = str(error)

    def _pool(self) -> ConnectionPool[Any]:
        options: dict[str, Any] = {"ssl_context": self.ssl_context} if self.ssl_context else {}
        return ConnectionPool.from_url(
            self.url,
            decode_components=True,
            max_connections=1,
            timeout=self.timeout,
            connect_timeout=self.timeout,
            stream_timeout=self.timeout,
            **options,
        )


def _split(url: str) -> SplitResult:
    """Return the parts of a URL; what may be of a password is not shown."""
    with suppress(ValueError):
        parts = urlsplit(url)
        if parts.port != 0 and "@" not in parts.path + parts.query and not parts.fragment:
            return parts
    raise ValueError(
        "the URL's parts cannot be told from its password: percent-encode what is special in user "
        "and password, as %40 for @"
    )


def _check(parts: SplitResult) -> None:
    """Refuse what coredis would ignore, or fail at later."""
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise ValueError(
            "the URL must begin with redis://, rediss:// or unix://, as redis://127.0.0.1:6379 does"
            + (f", got {parts.scheme}://" if parts.netloc else ", got no scheme")
        )
    is_unix = parts.scheme == "unix"
    if not (parts.path if is_unix else parts.hostname):
        raise ValueError("the URL names no host, as redis://host:6379 does, or unix:///path/socket")
    options = parse_qs(parts.query)
    if wrong := sorted(options.keys() - {"db", "client_name"}):
        raise ValueError(f"say {', '.join(wrong)} by the relay's arguments, not in the URL")
    for number in ("" if is_unix else parts.path.strip("/"), *options.get("db", ())):
        if number and not re.fullmatch("[0-9]+", number):
            raise ValueError(f"the URL's database must be a whole number, got {number!r}")


def _translated(error: BaseException) -> SessionLostError | RefusedError:
    if isinstance(error, SessionLostError | RefusedError):
        return error
    text = f"{type(error).__name__}: {error}{_because(error)}"
    if isinstance(error, _REFUSALS):
        return RefusedError(text)
    return MissingKeyError(text) if str(error) == "no such key" else SessionLostError(text)


def _unwrapped(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return what a group is about."""
    failures, others = group.split((*_FAILURES, SessionLostError))
    return _translated(_leaf(failures)) if others is None else _leaf(others)


def _because(error: BaseException) -> str:
    """Return the first of the causes of an exception, in parentheses, if it had any."""
    first = error
    while first.__cause__ is not None:
        first = _leaf(first.__cause__)
    return "" if first is error else f" ({str(first) or type(first).__name__})"


def _leaf(error: Any) -> BaseException:
    while exceptions := getattr(error, "exceptions", ()):
        error = exceptions[0]
    return cast("BaseException", error)
