"""The program `trio-sse`, run as a process, and what it answers."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import attrs
import trio

from .server import port_of

PROGRAM = [sys.executable, "-m", "trio_sse"]


@attrs.frozen
class Running:
    process: trio.Process
    port: int

    async def write(self, text: bytes) -> None:
        assert self.process.stdin is not None
        await self.process.stdin.send_all(text)

    async def close_input(self) -> None:
        assert self.process.stdin is not None
        await self.process.stdin.aclose()

    async def get(self, path: str, last_event_id: str = "") -> trio.SocketStream:
        stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        headers = "host: localhost\r\n"
        headers += f"last-event-id: {last_event_id}\r\n" if last_event_id else ""
        await stream.send_all(f"GET {path} HTTP/1.1\r\n{headers}\r\n".encode())
        return stream

    async def finish(self) -> tuple[int, str]:
        """Wait for the end; return the exit status and what was said on standard error."""
        assert self.process.stderr is not None
        errors = b"".join([chunk async for chunk in self.process.stderr])
        return await self.process.wait(), errors.decode()


@asynccontextmanager
async def running(*arguments: str, **options: Any) -> AsyncGenerator[Running]:
    command = [*PROGRAM, *arguments, "--port", "0"]
    pipe = subprocess.PIPE
    options = {"stdin": pipe, **options}
    run = partial(trio.run_process, stdout=pipe, stderr=pipe, check=False, **options)
    async with trio.open_nursery() as nursery:
        with trio.fail_after(60):
            process = await nursery.start(run, command)
            url = await process.stdout.receive_some()
            yield Running(process, port_of(url.decode()))
            nursery.cancel_scope.cancel()


def close_standard_input() -> None:
    os.close(0)


def body_of(response: bytes) -> bytes:
    """Return the events of a whole response, without their ids."""
    body = re.sub(rb"id: .*\n", b"", whole_body_of(response)).removeprefix(b"\n")
    return body.replace(b"event: stream-position\ndata: {}\n\n", b"")


def whole_body_of(response: bytes) -> bytes:
    """Return the body of a response, which must have come to its last chunk."""
    _, _, rest = response.partition(b"\r\n\r\n")
    body = b""
    while True:
        size, _, rest = rest.partition(b"\r\n")
        if size == b"0":
            assert rest == b"\r\n"
            return body
        body += rest[: int(size, 16)]
        rest = rest[int(size, 16) + 2 :]


def events_in(body: bytes) -> list[tuple[bytes, bytes, bytes]]:
    """Return the ids, types and data of events of one line, as they are on the wire."""
    found = re.findall(rb"^id: (.*)\n(?:event: (.*)\n)?data: (.*)\n\n", body, re.MULTILINE)
    return [event for event in found if event[1] != b"stream-position"]
