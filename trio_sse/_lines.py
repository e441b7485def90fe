"""The source of `trio-sse serve`: each line of standard input, no faster than the clients read.

It reads in a worker thread, since standard input may be a file, which no event loop can wait for.
It knows bytes, lines and the broadcaster's pace; it does not know how events are served.
"""

from __future__ import annotations

import argparse
import os
import sys
from typing import Final, final

import trio

from ._broadcaster import Broadcaster

_STDIN: Final = 0

#: Bytes read at once: what a Linux pipe holds.
_READ_SIZE: Final = 64 * 1024


async def broadcast_lines(broadcaster: Broadcaster, *, options: argparse.Namespace) -> None:
    """Broadcast the lines, then return if that was asked for, when all clients have taken them."""
    lines = _Lines(broadcaster, options.event, options.buffer)
    try:
        while chunk := await trio.to_thread.run_sync(
            os.read, _STDIN, _READ_SIZE, abandon_on_cancel=True
        ):
            await lines.feed(chunk)
        await lines.finish()
    finally:
        lines.report()
    if not options.exit_on_eof:
        await trio.sleep_forever()


@final
class _Lines:
    """Broadcasts lines out of bytes that are cut anywhere, at the pace of the clients."""

    def __init__(self, broadcaster: Broadcaster, event: str, buffer_size: int) -> None:
        self._broadcaster = broadcaster
        self._event = event
        self._buffer_size = buffer_size
        self._rest: list[bytes] = []
        self._since_pause = 0
        self._replaced = 0

    async def feed(self, chunk: bytes) -> None:
        await trio.lowlevel.checkpoint()
        first, *others = chunk.split(b"\n")
        self._rest.append(first)
        for part in others:
            await self._broadcast(b"".join(self._rest))
            self._rest = [part]

    async def finish(self) -> None:
        """Broadcast a last line that has no line end; wait until everything is taken."""
        if rest := b"".join(self._rest):
            await self._broadcast(rest)
        await self._broadcaster.wait_all_taken()

    def report(self) -> None:
        if self._replaced:
            print(
                f"trio-sse: {self._replaced} bytes that are not UTF-8 were replaced by U+FFFD",
                file=sys.stderr,
            )

    async def _broadcast(self, line: bytes) -> None:
        if self._since_pause == self._buffer_size:
            await self._broadcaster.wait_all_taken()
            self._since_pause = 0
        self._broadcaster.broadcast(self._event, self._decode(line.removesuffix(b"\r")))
        self._since_pause += 1

    def _decode(self, line: bytes) -> str:
        try:
            return line.decode()
        except UnicodeDecodeError:
            self._replaced += len(line) - len(line.decode(errors="ignore").encode())
            return line.decode(errors="replace")
