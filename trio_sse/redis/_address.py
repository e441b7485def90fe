"""Where Redis is now, and as whom one speaks to it.

The primary is asked for, and the credentials are, each time before a connection is made: both may
have changed. It knows how coredis opens connections; it knows no commands of the stream, and not
what a connection is for.
"""

from __future__ import annotations

import inspect
import ssl
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any, Final, final

import attrs
import trio
from coredis import Sentinel
from coredis.connection import TCPLocation
from coredis.exceptions import RedisError
from coredis.pool import ConnectionPool

from ._refusals import RefusedError, SessionLostError, translated
from ._url import RedisURL

#: Seconds in which a port tells what it speaks, or is taken to speak what it should.
_PROBE: Final = 1.0

#: Returns a user and a password.
Credentials = Callable[[], tuple[str, str] | Awaitable[tuple[str, str]]]


@final
@attrs.define(eq=False)
class Address:
    """Where Redis is.

    Raises:
        ValueError: If an argument does not fit the URL.
        TypeError: If `credentials` is no function.
    """

    url: RedisURL
    ssl_context: ssl.SSLContext | None
    credentials: Credentials | None
    timeout: float

    def __attrs_post_init__(self) -> None:
        if self.ssl_context is not None and self.url.scheme != "rediss":
            raise ValueError(
                f"ssl_context is for rediss://, and the URL begins with {self.url.scheme}://"
            )
        if self.url.scheme == "rediss" and self.ssl_context is None:
            self.ssl_context = ssl.create_default_context()  # It looks at the host's name, too.
        if self.credentials is not None and not callable(self.credentials):
            raise TypeError(
                "credentials must be a function that returns (user, password), got "
                f"{type(self.credentials).__name__}"
            )
        if self.credentials is not None and self.url.has_credentials:
            raise ValueError("give user and password in the URL or by credentials, not by both")

    async def pool(self) -> ConnectionPool[Any]:
        """Return what opens one connection, to where Redis is now and as whoever we are now.

        Raises:
            SessionLostError: If no Sentinel answers, or the credentials are not to be had.
            RefusedError: If no Sentinel knows the service, or the credentials are none.
        """
        options: dict[str, Any] = {"ssl_context": self.ssl_context} if self.ssl_context else {}
        if self.credentials is not None:
            options["username"], options["password"] = await _ask_for(self.credentials)
        return ConnectionPool.from_url(
            await self._ask_sentinels() if self.url.service else self.url.text,
            decode_components=True,
            max_connections=1,
            timeout=self.timeout,
            connect_timeout=self.timeout,
            stream_timeout=self.timeout,
            **options,
        )

    async def mismatch(self) -> str | None:
        """Return what is wrong if the port speaks TLS and the URL does not, or the reverse."""
        ((host, port),) = self.url.hosts[:1]
        patience = min(self.timeout, _PROBE)
        with trio.move_on_after(patience), suppress(OSError, trio.BrokenResourceError):
            if self.url.scheme == "redis" and await _speaks_tls(host, port):
                return "this port speaks TLS: the URL must begin with rediss://"
            if self.url.scheme == "rediss" and await _speaks_plainly(host, port):
                return "this port speaks no TLS: the URL must begin with redis://"
        return None

    async def _ask_sentinels(self) -> str:
        """Return the URL of the primary."""
        failure: Exception = RefusedError(f"no Sentinel knows the service {self.url.service!r}")
        options = {"connect_timeout": self.timeout, "stream_timeout": self.timeout}
        locations = [TCPLocation(host, port) for host, port in self.url.hosts]
        async with Sentinel(locations, sentinel_kwargs=options) as sentinels:
            for sentinel in sentinels.sentinels:
                try:
                    found = await sentinel.sentinel_get_master_addr_by_name(str(self.url.service))
                except (RedisError, OSError) as error:
                    failure = translated(error)
                    continue
                if found:
                    host, port = found
                    return self.url.of_primary(_text(host), int(port))
        raise failure


async def _ask_for(credentials: Credentials) -> tuple[str, str]:
    try:
        pair = credentials()
        if inspect.isawaitable(pair):
            pair = await pair
    except Exception as error:
        raise SessionLostError(f"credentials() raised {type(error).__name__}") from error
    match pair:
        case (str(user), str(password)):
            return user, password
        case _:
            raise RefusedError("credentials() must return (user, password), two str")


async def _speaks_tls(host: str, port: int) -> bool:
    """Tell by a handshake; nothing is said behind it, so nobody need be trusted."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    async with await trio.open_tcp_stream(host, port) as stream:
        await trio.SSLStream(stream, context, server_hostname=host).do_handshake()
    return True


async def _speaks_plainly(host: str, port: int) -> bool:
    async with await trio.open_tcp_stream(host, port) as stream:
        await stream.send_all(b"PING\r\n")
        return bytes(await stream.receive_some(1)) in (b"+", b"-")


def _text(host: str | bytes) -> str:
    return host.decode() if isinstance(host, bytes) else host
