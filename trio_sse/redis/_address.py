"""Where Redis is now, and as whom one speaks to it.

The primary is asked for, and the credentials are, each time before a connection is made: both may
have changed. It knows how coredis opens connections; it knows no commands of the stream, and not
what a connection is for.
"""

from __future__ import annotations

import inspect
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, Final, final

import attrs
import trio
from coredis import Sentinel
from coredis.connection import TCPLocation
from coredis.exceptions import AuthenticationError
from coredis.pool import ConnectionPool

from ._logs import only_our_word
from ._probe import Speech, spoken
from ._refusals import RefusedError, SessionLostError, translated
from ._url import RedisURL

#: Seconds in which a port tells what it speaks, or is taken to speak what it should.
_PROBE: Final = 1.0

_OTHER: Final = "this port is of something else than Redis: change host or port in the URL"

#: What is wrong with a scheme at a port that speaks so.
_MISMATCHES: Final[dict[tuple[str, Speech], str]] = {
    ("redis", "TLS"): "this port speaks TLS: the URL must begin with rediss://",
    ("rediss", "Redis"): "this port speaks no TLS: the URL must begin with redis://",
    ("redis+sentinel", "TLS"): "this port speaks TLS: Sentinels are asked without TLS",
    ("redis", "other"): _OTHER,
    ("rediss", "other"): _OTHER,
    ("redis+sentinel", "other"): _OTHER,
}

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
            pair = await _ask_for(self.credentials, self.timeout)
            options["username"], options["password"] = pair
        with only_our_word():
            url = await self._ask_sentinels() if self.url.service else self.url.text
        return ConnectionPool.from_url(
            url,
            decode_components=True,
            max_connections=1,
            timeout=self.timeout,
            connect_timeout=self.timeout,
            stream_timeout=self.timeout,
            **options,
        )

    async def mismatch(self) -> str | None:
        """Return what is wrong if a port does not speak what the URL says."""
        if self.url.scheme == "unix":
            return None
        for host, port in self.url.hosts:
            with trio.move_on_after(min(self.timeout, _PROBE)):
                if why := _MISMATCHES.get((self.url.scheme, await spoken(host, port))):
                    return why
        return None

    async def _ask_sentinels(self) -> str:
        """Return the URL of the primary."""
        failures: list[Exception] = []
        options = {"connect_timeout": self.timeout, "stream_timeout": self.timeout}
        locations = [TCPLocation(host, port) for host, port in self.url.hosts]
        async with Sentinel(locations, sentinel_kwargs=options) as sentinels:
            for sentinel in sentinels.sentinels:
                try:
                    found = await sentinel.sentinel_get_master_addr_by_name(str(self.url.service))
                except AuthenticationError as error:
                    why = f"Sentinels that want a password are not supported ({error})"
                    failures.append(RefusedError(why))
                except Exception as error:  # Whatever the parser makes of what it cannot read.
                    failures.append(translated(error))
                else:
                    if found:
                        host, port = found
                        return self.url.of_primary(_text(host), int(port))
                    why = f"no Sentinel knows the service {self.url.service!r}"
                    failures.append(RefusedError(why))
        # Those who are away may know no more than those who are there.
        raise next((why for why in failures if isinstance(why, RefusedError)), failures[-1])


async def _ask_for(credentials: Credentials, patience: float) -> tuple[str, str]:
    pair: Any = None
    with trio.move_on_after(patience) as scope:
        try:
            pair = credentials()
            if inspect.isawaitable(pair):
                pair = await pair
        except Exception as error:
            raise SessionLostError(f"credentials() raised {type(error).__name__}") from error
    if scope.cancelled_caught:
        raise SessionLostError(f"credentials() has returned nothing for {patience:g} seconds")
    match pair:
        case (str(user), str(password)):
            return user, password
        case _:
            raise RefusedError("credentials() must return (user, password), two str")


def _text(host: str | bytes) -> str:
    return host.decode() if isinstance(host, bytes) else host
