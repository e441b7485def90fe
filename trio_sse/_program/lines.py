"""The source of `trio-sse serve`: each line of standard input, no faster than it is taken.

It reads in a worker thread, since standard input may be a file, which no event loop can wait for.
It knows bytes, lines and the pace of the clients; it does not know how events are served.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from typing import Final, Protocol, final

import trio

from .._broadcaster import Broadcaster

#: Bytes read at once: what a Linux pipe holds.
_READ_SIZE: Final = 64 * 1024


class Sink(Protocol):
    """Where the lines go."""

    async def send(self, lines: Sequence[str]) -> None:
        """Broadcast lines, as fast as they are taken."""
        ...

    async def finish(self) -> None:
        """Wait until all lines are taken."""
        ...


async def broadcast_lines(sink: Sink, descriptor: int, *, exit_on_eof: bool) -> None:
    """Broadcast the lines, then return if that was asked for, when all clients have taken them."""
    lines = _Lines()
    try:
        while chunk := await trio.to_thread.run_sync(
            os.read, descriptor, _READ_SIZE, abandon_on_cancel=True
        ):
            await sink.send(lines.feed(chunk))
        await sink.send(lines.rest())
        await sink.finish()
    finally:
        lines.report()
    if not exit_on_eof:
        await trio.sleep_forever()


@final
class _Lines:
    """Makes lines of text out of bytes that are cut anywhere."""

    def __init__(self) -> None:
        self._rest: list[bytes] = []
        self._replaced = 0

    def feed(self, chunk: bytes) -> list[str]:
        """Return the lines that end in this chunk."""
        first, *others = chunk.split(b"\n")
        self._rest.append(first)
        if not others:
            return []
        *whole, rest = b"".join(self._rest), *others
        self._rest = [rest]
        return [self._decode(line.removesuffix(b"\r")) for line in whole]

    def rest(self) -> list[str]:
        """Return a last line that has no line end."""
        rest = b"".join(self._rest)
        return [self._decode(rest.removesuffix(b"\r"))] if rest else []

    def report(self) -> None:
        if self._replaced:
            print(
                f"trio-sse: {self._replaced} bytes that are not UTF-8 were replaced by U+FFFD",
                file=sys.stderr,
            )

    def _decode(self, line: bytes) -> str:
        try:
            return line.decode()
        except UnicodeDecodeError:
            self._replaced += len(line) - len(line.decode(errors="ignore").encode())
            return line.decode(errors="replace")


@final
class ToClients:
    """Sends lines to the clients, and after each buffer full of them waits for the slowest."""

    def __init__(self, broadcaster: Broadcaster, options: argparse.Namespace) -> None:
        self._broadcaster = broadcaster
        self._event: str = options.event
        self._buffer_size: int = options.buffer
        self._since_pause = 0

    async def send(self, lines: Sequence[str]) -> None:
        """Broadcast lines, as fast as the clients read."""
        await trio.lowlevel.checkpoint()
        for line in lines:
            if self._since_pause == self._buffer_size:
                await self._broadcaster.wait_all_taken()
                self._since_pause = 0
            self._broadcaster.broadcast(self._event, line)
            self._since_pause += 1

    async def finish(self) -> None:
        """Wait until the clients have taken all lines."""
        await self._broadcaster.wait_all_taken()
