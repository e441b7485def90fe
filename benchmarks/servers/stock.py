"""Stock hypercorn as our servers use it, with an annotation that leaves nothing open."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, cast

import hypercorn.trio
from hypercorn.config import Config

App = Callable[..., Awaitable[None]]

serve: Final = cast(
    "Callable[[App, Config], Awaitable[None]]",
    hypercorn.trio.serve,  # pyright: ignore[reportUnknownMemberType]
)


def loopback(port: int, *files: str) -> Config:
    """Return a configuration for a port of this machine, and for thousands that come at once.

    The files, of a certificate and its key, are for TLS.
    """
    config = Config()
    config.bind = [f"127.0.0.1:{port}"]
    config.backlog = 4096
    config.loglevel = "WARNING"
    if files:
        config.certfile, config.keyfile = files
    return config
