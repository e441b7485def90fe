"""What Redis's refusals mean, and what mends them.

Some failures pass by themselves: a connection that is cut, a server that loads its data. Others
will be the same each time, until somebody mends them; these are told with the fix. It knows
coredis's exceptions and Redis's words; it knows neither connections nor commands.
"""

from __future__ import annotations

import ssl
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, Final, cast

from coredis.exceptions import (
    AskError,
    AuthenticationError,
    AuthorizationError,
    ClusterCrossSlotError,
    ReadOnlyError,
    UnknownCommandError,
    WrongTypeError,
)


class SessionLostError(Exception):
    """A connection is gone, or its server does not serve now; another one may be opened."""


class MissingKeyError(SessionLostError):
    """A command needs a key that does not exist."""


class IdleSessionLostError(SessionLostError):
    """A connection has gone while nothing was on its way, as when the server closes idle ones."""


class RefusedError(PermissionError):
    """Redis refuses what a relay must do, and always will: the message tells what mends it."""


class ReplicaError(RefusedError):
    """The server is a replica; where Sentinels told of it, they will tell of its primary yet."""


#: Kinds of errors, or words of theirs, that will not pass, and what mends them.
_FIXES: Final[tuple[tuple[type[BaseException] | str, str], ...]] = (
    (AuthenticationError, "give the right user and password, in the URL or by credentials="),
    (AuthorizationError, "give the user the permissions that docs/redis.md lists"),
    ("ACL failure", "give the user the permissions that docs/redis.md lists"),
    ("can't run this command", "give the user the permissions that docs/redis.md lists"),
    (WrongTypeError, "its key holds something else: choose another stream="),
    (
        ReadOnlyError,
        "this is a read-only replica: give its primary's address, or redis+sentinel://",
    ),
    (
        "'SENTINEL'",
        "this is no Sentinel: the URL must begin with redis:// for a server's own address",
    ),
    (
        UnknownCommandError,
        "the relay needs that command: it is disabled or renamed here, or this is a Sentinel's "
        "port (use redis+sentinel://host:port/service), or no Redis 7 and no Valkey",
    ),
    (
        "Unknown Redis command",
        "the relay needs that command in scripts: it is disabled or renamed here",
    ),
    (
        AskError,  # MOVED, too.
        "this is a Cluster, whose nodes the relay does not follow: use a server of its own, or the "
        "node that has the stream's slot",
    ),
    (
        "Hash slot not served",
        "this is a Cluster in which no node has the stream's slot: use a server of its own, or "
        "give all slots to the nodes",
    ),
    (ClusterCrossSlotError, "in a Cluster the stream needs a hash tag, as in stream='{chat}'"),
    ("DB index is out of range", "this server has no such database: change that in the URL"),
    ("SELECT is not allowed", "a Cluster has no database but 0: leave it out of the URL"),
    ("DENIED", "this server is in protected mode: give it a password"),
    (
        ssl.SSLCertVerificationError,
        "give ssl_context=ssl.create_default_context(cafile=...) with the authority that signed "
        "the certificate, and a host name that is in it",
    ),
    (
        "_ALERT_",  # Of TLS: what the server says before it ends a handshake.
        "give what the server wants: an ssl_context that has a client certificate, by "
        "load_cert_chain(), or a version and a cipher that both sides have",
    ),
)


def translated(error: BaseException) -> SessionLostError | RefusedError:
    """Return what an error of coredis means for a session."""
    if isinstance(error, SessionLostError | RefusedError):
        return error
    chain = _causes(error)
    said = str(error).partition(", with args")[0].rstrip(". ")  # Which are a whole script.
    text = f"{type(error).__name__}: {said}"
    if len(chain) > 1:
        text += f" ({str(chain[-1]) or type(chain[-1]).__name__})"
    for sign, fix in _FIXES:
        if any(sign in str(e) if isinstance(sign, str) else isinstance(e, sign) for e in chain):
            return (ReplicaError if sign is ReadOnlyError else RefusedError)(f"{text}; {fix}")
    return MissingKeyError(text) if str(error) == "no such key" else SessionLostError(text)


@contextmanager
def reading_replies() -> Generator[None]:
    """Take a reply that is none of those that a command has for the end of the connection."""
    try:
        yield
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise SessionLostError(f"a reply of Redis cannot be read: {error!r}") from error


def leaf(error: Any) -> BaseException:
    """Return the first exception itself that a group holds, however deep."""
    while exceptions := getattr(error, "exceptions", ()):
        error = exceptions[0]
    return cast("BaseException", error)


def _causes(error: BaseException) -> list[BaseException]:
    """Return an error, what it was raised from, and so on."""
    chain = [error]
    while cause := chain[-1].__cause__:
        chain.append(leaf(cause))
    return chain
