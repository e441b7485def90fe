"""A server with 500 clients is restarted: all come back, spread over the time that they were given.

The server is ended by SIGTERM, and another begins at the same port. Each client obeys the last
`retry:` that it got, as a browser does (`benchmarks.clients.browser`), also when it is refused.
Each must be told by a reset that events were missed, and get live events. Timed from the end of the
first stream to each client's first attempt.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import trio

from ..clients.browser import Browser
from ..report.finding import Finding
from ..servers.processes import Server
from ..servers.subjects import remembering

_CLIENTS: Final = 500
_HISTORY: Final = 256
_LOW, _HIGH = 1.0, 5.0
_BINS: Final = 8

#: One event of 64 bytes each 100 ms.
_PACE: Final = "pace 100 64"

_READ: Final = 65536
_PATIENCE: Final = 30.0


@dataclass
class _Story:
    """What one client has lived through."""

    browser: Browser = field(default_factory=Browser)
    settled: trio.Event = field(default_factory=trio.Event)
    content: trio.Event = field(default_factory=trio.Event)
    left_at: float = 0.0
    back_at: float = 0.0
    refused: int = 0
    resets: int = 0

    @property
    def whole(self) -> bool:
        """Whether the client got events before, one reset, and events after it."""
        return self.settled.is_set() and self.resets == 1 and self.content.is_set()

    def take(self, kind: str) -> None:
        """Take note of an event."""
        if kind == "stream-reset":
            self.resets += 1
        elif self.resets:
            self.content.set()
        else:
            self.settled.set()


def check(cache: Path) -> list[Finding]:
    """Return how many clients did not come back well, and how they came back."""
    stories = [_Story() for _ in range(_CLIENTS)]
    subject = remembering("direct", _HISTORY, _LOW, _HIGH)
    with Server(subject, cache) as server:
        trio.run(_restart, server, cache, stories)
    bins = _histogram(stories)
    refused = sum(story.refused for story in stories)
    back = f"{_CLIENTS} come back after a restart, {refused} attempts refused"
    spread = f"in each {(_HIGH - _LOW) / _BINS:g} s from {_LOW:g} to {_HIGH:g} s: {bins}; the most"
    return [
        Finding(
            f"{back}: without a reset and live events", sum(not story.whole for story in stories), 0
        ),
        Finding(spread, max(bins), 2 * _CLIENTS / _BINS),
        Finding("attempts before or after that", _CLIENTS - sum(bins), 0),
    ]


def _histogram(stories: list[_Story]) -> list[int]:
    """Return how many came back first in each part of the range; half a bin's grace at its end."""
    ended = min(story.left_at for story in stories)
    width = (_HIGH - _LOW) / _BINS
    bins = [0] * _BINS
    for story in stories:
        place = (story.back_at - ended - _LOW) / width
        if 0 <= place < _BINS + 0.5:
            bins[min(int(place), _BINS - 1)] += 1
    return bins


async def _restart(server: Server, cache: Path, stories: list[_Story]) -> None:
    async with trio.open_nursery() as nursery:
        nursery.cancel_scope.deadline = trio.current_time() + _PATIENCE
        for story in stories:
            nursery.start_soon(_live, server.port, story)
        server.tell(_PACE)
        for story in stories:
            await story.settled.wait()
        server.process.terminate()
        await trio.to_thread.run_sync(server.process.wait)
        nursery.start_soon(_serve_again, server, cache, stories)


async def _serve_again(server: Server, cache: Path, stories: list[_Story]) -> None:
    """Run the second server until all clients are content."""
    subject = remembering("direct", _HISTORY, _LOW, _HIGH)
    again = await trio.to_thread.run_sync(Server, subject, cache, server.port)
    try:
        await trio.to_thread.run_sync(again.__enter__)
        again.tell(_PACE)
        for story in stories:
            await story.content.wait()
    finally:
        again.__exit__(None, None, None)


async def _live(port: int, story: _Story) -> None:
    """Be one client: read, and come back when the last reconnection time is over."""
    while not story.content.is_set():
        try:
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                await _read(stream, story)
        except OSError:
            story.refused += 1
        story.left_at = story.left_at or time.monotonic()
        await trio.sleep(story.browser.retry or 3.0)
        story.back_at = story.back_at or time.monotonic()


async def _read(stream: trio.SocketStream, story: _Story) -> None:
    await stream.send_all(story.browser.connect())
    while not story.content.is_set():
        try:
            data = await stream.receive_some(_READ)
        except trio.BrokenResourceError:
            return
        if not data:
            return
        for kind, _, _ in story.browser.feed(bytes(data)):
            story.take(kind)
