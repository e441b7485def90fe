"""The URL of a Redis server, or of the Sentinels that know where one is.

What coredis would ignore, or fail at later, is refused here. It knows URLs and makes no connection.
What may be of a password is in no message.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from typing import Final, final
from urllib.parse import SplitResult, parse_qs, unquote, urlsplit

import attrs

_SENTINEL: Final = "redis+sentinel"
_PORTS: Final = {"redis": 6379, "rediss": 6379, "unix": 0, _SENTINEL: 26379}


@final
@attrs.frozen
class RedisURL:
    """A URL that was checked."""

    text: str = attrs.field(repr=False)  # It may hold a password.
    scheme: str
    hosts: Sequence[tuple[str, int]]
    """Where the server listens; or the Sentinels, any of which may be asked."""

    service: str | None
    """What the Sentinels call the servers one of which is the primary."""

    has_credentials: bool

    @classmethod
    def parse(cls, text: str) -> RedisURL:
        """Return the URL.

        Raises:
            ValueError: If it is none of Redis, or wants what only arguments can say.
        """
        parts = _split(text)
        _check_scheme(parts)
        is_sentinel, has_path = parts.scheme == _SENTINEL, parts.scheme != "unix"
        service, _, database = parts.path.strip("/").rpartition("/") if is_sentinel else [""] * 3
        if is_sentinel and not service:
            service, database = database, ""
        _check_options(parts, database if is_sentinel else parts.path.strip("/") * has_path)
        hosts = _hosts(parts)
        if not (all(host for host, _ in hosts) if has_path else parts.path):
            raise ValueError("the URL names no host, as redis://host:6379 does, or unix:///socket")
        if is_sentinel and not service:
            raise ValueError("the URL names no service, as redis+sentinel://host:26379/name does")
        return cls(text, parts.scheme, hosts, unquote(service) or None, "@" in parts.netloc)

    def of_primary(self, host: str, port: int) -> str:
        """Return the URL of the server that a Sentinel told of."""
        parts = _split(self.text)
        user, at, _ = parts.netloc.rpartition("@")
        host = f"[{host}]" if ":" in host else host
        _, _, database = parts.path.strip("/").partition("/")
        return parts._replace(
            scheme="redis", netloc=f"{user}{at}{host}:{port}", path=f"/{database}"
        ).geturl()


def _split(text: str) -> SplitResult:
    """Return the parts of a URL."""
    with suppress(ValueError):
        parts = urlsplit(text)
        is_clear = "@" not in parts.path + parts.query and not parts.fragment
        if is_clear and all(port > 0 or parts.scheme == "unix" for _, port in _hosts(parts)):
            return parts
    raise ValueError(
        "the URL's parts cannot be told from its password: percent-encode what is special in user "
        "and password, as %40 for @"
    )


def _hosts(parts: SplitResult) -> list[tuple[str, int]]:
    hosts = parts.netloc.rpartition("@")[2]
    each = hosts.split(",") if parts.scheme == _SENTINEL else [hosts]
    found = [urlsplit(f"//{host}") for host in each]
    default = _PORTS.get(parts.scheme, 1)
    return [(h.hostname or "", default if h.port is None else h.port) for h in found]


def _check_scheme(parts: SplitResult) -> None:
    if parts.scheme not in _PORTS:
        raise ValueError(
            "the URL must begin with redis://, rediss://, unix:// or redis+sentinel://, as "
            "redis://127.0.0.1:6379 does"
            + (f", got {parts.scheme}://" if parts.netloc else ", got no scheme")
        )


def _check_options(parts: SplitResult, database: str) -> None:
    options = parse_qs(parts.query)
    if wrong := sorted(options.keys() - {"db", "client_name"}):
        raise ValueError(f"say {', '.join(wrong)} by the relay's arguments, not in the URL")
    for number in (database, *options.get("db", ())):
        if number and not re.fullmatch("[0-9]+", number):
            raise ValueError(f"the URL's database must be a whole number, got {number!r}")
