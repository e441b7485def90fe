"""A port of this machine that nobody uses."""

from __future__ import annotations

import secrets
import socket
from typing import Final

#: Below the ports that systems give to those who connect: one is still free after a restart.
_RANGE: Final = range(20_000, 32_000)


def free_port() -> int:
    while True:
        port = secrets.choice(_RANGE)
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port
