"""The processes of a measurement: one server and one load generator, each on a core of its own.

What a server costs is asked of the operating system: its CPU clock (user and system time, to the
nanosecond) and its resident memory. For nginx that is the worker's.
"""

from __future__ import annotations

import json
import os
import resource
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self

from ..load.client import Client
from .subjects import BENCHMARKS, CORES, Subject

_PATIENCE: Final = 120.0


class Process:
    """A child that answers each line with a line of JSON, and is killed at the end."""

    def __init__(
        self,
        command: Sequence[str],
        core: int,
        pass_fds: Sequence[int] = (),
        checkout: Path = BENCHMARKS.parent,
    ) -> None:
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        os.sched_setaffinity(0, {core})  # Inherited by the child, as is the limit.
        self.process = subprocess.Popen(  # noqa: S603 (the commands of `subjects`)
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            pass_fds=pass_fds,
            cwd=checkout,
            env=environment(checkout),
        )
        os.sched_setaffinity(0, CORES)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.process.terminate()
        try:
            self.process.wait(1)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    @property
    def stdin(self) -> IO[bytes]:
        """The pipe that orders go into."""
        assert self.process.stdin is not None  # noqa: S101 (for the type checkers)
        return self.process.stdin

    def ask(self, order: str) -> dict[str, Any]:
        """Give an order and return the answer.

        Raises:
            TimeoutError: If there is none.
        """
        self.stdin.write(f"{order}\n".encode())
        self.stdin.flush()
        answer: dict[str, Any] = json.loads(self._line())
        return answer

    def _line(self) -> bytes:
        stdout = self.process.stdout
        assert stdout is not None  # noqa: S101 (for the type checkers)
        with selectors.DefaultSelector() as selector:
            selector.register(stdout, selectors.EVENT_READ)
            if not selector.select(_PATIENCE):
                raise TimeoutError("no answer")
        return stdout.readline()


class Server(Process):
    """A subject's server, ready for clients; at the given port, or one that is free."""

    def __init__(self, subject: Subject, cache: Path, port: int = 0, core: int = CORES[0]) -> None:
        self.port = port or free_port()
        self.posts, self.tls, self.http2 = subject.posts, subject.tls, subject.http2
        super().__init__(subject.command(cache, self.port), core, checkout=subject.checkout)

    def __enter__(self) -> Self:
        """Wait until it has streamed once, so that all it loads late is loaded."""
        deadline = time.monotonic() + _PATIENCE
        while not self._streams():
            if time.monotonic() > deadline or self.process.poll() is not None:
                raise TimeoutError("the server does not start")
            time.sleep(0.05)
        return self

    def cpu(self) -> float:
        """Return the seconds of CPU that it has used."""
        return sum(time.clock_gettime(cpu_clock(pid)) for pid in self._workers())

    def resident(self) -> int:
        """Return the bytes of memory that it holds."""
        return sum(_status(pid, "VmRSS") for pid in self._workers()) * 1024

    def tell(self, order: str) -> None:
        """Give an order that has no answer."""
        self.stdin.write(f"{order}\n".encode())
        self.stdin.flush()

    def _workers(self) -> list[int]:
        """Return the processes that do the work: the children, if there are any."""
        pid = self.process.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [int(child) for child in children] or [pid]

    def _streams(self) -> bool:
        try:
            client = Client(self.port, tls=self.tls)
        except ConnectionError:
            return False
        client.sock.settimeout(5)
        while not (client.streaming or client.ended):
            client.take()
        client.sock.close()
        return client.streaming


class Load(Process):
    """The load generator, for one server."""

    def __init__(self, server: Server, clients: int = 0, *, keep_bodies: bool = False) -> None:
        pipe = server.stdin.fileno()
        way = ["--pipe", str(pipe)]
        if server.posts:
            way = ["--post", str(server.port + server.tls)]
        options = [*way, *["--keep-bodies"] * keep_bodies, *["--tls"] * server.tls]
        options += ["--http2", str(server.http2)]
        command = [sys.executable, "-m", "benchmarks.load", str(server.port), *options]
        super().__init__(command, CORES[-1], pass_fds=[pipe])
        self._clients = clients

    def __enter__(self) -> Self:
        """Connect the clients."""
        self.ask(f"admit {self._clients}")
        return self


def environment(checkout: Path) -> dict[str, str]:
    """Return what lets a Python take our packages from a checkout, whatever is installed."""
    return {**os.environ, "PYTHONPATH": str(checkout)}


def clean_up_on_sigterm() -> None:
    """Let SIGTERM end this program as an exception does, so that it kills what it has started."""
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))


def free_port() -> int:
    """Return a port of this machine that nobody listens at."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


def cpu_clock(pid: int) -> int:
    """Return the clock that `clock_getcpuclockid` gives for a process (Linux)."""
    return (~pid << 3) | 2


def _status(pid: int, field: str) -> int:
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0])
    raise KeyError(field)
