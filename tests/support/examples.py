"""The programs of docs/examples, as processes, and clients that say who they are."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final, final

import attrs
import h11
import msgspec
import trio

from .clients import Http1Client, Response
from .waiting import PATIENCE

EXAMPLES: Final = Path(__file__).parents[2] / "docs" / "examples"

Headers = Mapping[str, str]

NONE: Final[Headers] = {}


@final
class Visitor(Http1Client):
    """A client that says who it is."""

    async def ask(self, method: str, path: str, headers: Headers, body: bytes) -> Response:
        fields = {"host": "localhost", "accept": "text/event-stream", **headers}
        fields |= {"content-length": str(len(body))} if body else {}
        request = h11.Request(method=method, target=path, headers=[*fields.items()])
        parts = (request, h11.Data(data=body), h11.EndOfMessage())
        await self.stream.send_all(b"".join(self._h11.send(part) or b"" for part in parts))
        return await Response(self).read_head()


@final
@attrs.frozen
class Program:
    """An example that runs."""

    process: trio.Process
    port: int
    visitors: list[Visitor] = attrs.field(factory=list[Visitor])

    async def ask(
        self, method: str, path: str, headers: Headers = NONE, body: bytes = b""
    ) -> Response:
        """Ask on a connection of its own; read the head of the answer."""
        visitor = Visitor(await trio.open_tcp_stream("127.0.0.1", self.port))
        self.visitors.append(visitor)
        return await visitor.ask(method, path, headers, body)

    async def status(self, method: str, path: str, headers: Headers = NONE) -> int:
        return (await self.ask(method, path, headers)).status

    async def post(self, path: str, content: object, headers: Headers = NONE) -> Response:
        headers = {"content-type": "application/json", **headers}
        return await self.ask("POST", path, headers, msgspec.json.encode(content))

    async def stream(self, path: str, headers: Headers = NONE) -> Response:
        """Open a stream; with its first bytes the client is known to be registered."""
        response = await self.ask("GET", path, headers)
        assert response.status == 200
        while not response.body:
            await self.visitors[-1].read_for(response)
        return response

    async def is_turned_away(self, path: str, headers: Headers) -> bool:
        """Tell whether a browser gets a reconnection time and a clean end."""
        response = await self.stream(path, headers)
        assert await response.rest() == []
        return re.fullmatch(rb"retry: \d+\n\n", bytes(response.body)) is not None

    async def line(self) -> str:
        assert self.process.stdout is not None
        line = b""
        while not line.endswith(b"\n"):
            byte = await self.process.stdout.receive_some(1)
            assert byte, f"the program ended amid {line!r}"
            line += byte
        return line.decode()

    def interrupt(self) -> None:
        """Press Ctrl-C."""
        self.process.send_signal(signal.SIGINT)


@asynccontextmanager
async def running(example: str, folder: Path) -> AsyncGenerator[Program]:
    """Run an example until the block interrupts it: it must end well, with nothing more to say.

    It is run as it is, but for its address: a socket that listens already, so that nobody needs to
    wait until it does.
    """
    program = folder / example
    pipe, both = subprocess.PIPE, subprocess.STDOUT
    with trio.fail_after(PATIENCE), socket.create_server(("127.0.0.1", 0)) as listener:
        code, descriptor = (EXAMPLES / example).read_text("utf-8"), listener.fileno()
        assert code.count("Config()") == 1
        bound = f"Config.from_mapping(bind='fd://{descriptor}')"
        program.write_text(code.replace("Config()", bound), "utf-8")
        run = partial(trio.run_process, stdout=pipe, stderr=both, pass_fds=[descriptor])
        async with trio.open_nursery() as nursery:
            process: trio.Process = await nursery.start(run, [sys.executable, str(program)])
            running = Program(process, listener.getsockname()[1])
            try:
                yield running
            finally:
                for visitor in running.visitors:
                    await trio.aclose_forcefully(visitor.stream)
            assert process.stdout is not None
            assert [chunk async for chunk in process.stdout] == []
