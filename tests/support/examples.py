"""The programs of docs/examples, each in a process of its own."""

from __future__ import annotations

import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final, final

import attrs
import msgspec
import trio

from .clients import NO_HEADERS, Headers, Http1Client, Response
from .waiting import PATIENCE

EXAMPLES: Final = Path(__file__).parents[2] / "docs" / "examples"


@final
@attrs.frozen
class Program:
    """An example that runs."""

    process: trio.Process
    port: int
    clients: list[Http1Client] = attrs.field(factory=list[Http1Client])

    async def ask(
        self, method: str, path: str, headers: Headers = NO_HEADERS, body: bytes = b""
    ) -> Response:
        """Ask on a connection of its own; read the head of the answer."""
        client = Http1Client(await trio.open_tcp_stream("127.0.0.1", self.port))
        self.clients.append(client)
        return await client.request(method, path, headers, body)

    async def status(self, method: str, path: str, headers: Headers = NO_HEADERS) -> int:
        return (await self.ask(method, path, headers)).status

    async def post(self, path: str, content: object, headers: Headers = NO_HEADERS) -> Response:
        headers = {"content-type": "application/json", **headers}
        return await self.ask("POST", path, headers, msgspec.json.encode(content))

    async def stream(self, path: str, headers: Headers = NO_HEADERS) -> Response:
        """Open a stream; with its first bytes the client is known to be registered."""
        response = await self.ask("GET", path, headers)
        assert response.status == 200
        while not response.body:
            await self.clients[-1].read_for(response)
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
            assert (await running.line()).endswith(f"Running on http://127.0.0.1:{running.port}\n")
            try:
                yield running
            finally:
                for client in running.clients:
                    await trio.aclose_forcefully(client.stream)
            assert process.stdout is not None
            assert [chunk async for chunk in process.stdout] == []
