"""How far an event, a request and a leaving walk through trio-sse's own code.

    python -m benchmarks.trace

    cp benchmarks/trace.py FOLDER; PYTHONPATH=CHECKOUT python FOLDER/trace.py     # another checkout

One client on a real socket, under `trio_sse.hypercorn.serve`, goes the direct way and keeps up. All
runs in one process and one thread. Four walks are counted once everything has happened before:

- broadcast: from the call of `broadcast()`, with a `str` for a named event, to its return;
- to the socket: from there until the client's socket has the event;
- request: from the connecting until the client has the first block, and nothing is left to do;
- leaving: from the client's close until nothing is left to do.

`sys.setprofile` tells of each Python function that is entered and left. Only those whose file is in
the folder of the package `trio_sse` count; what other packages, and code that attrs has generated,
do between them does not. What is counted of a walk:

- calls: functions entered. A generator, a comprehension, or a coroutine that goes on after an
  `await` is entered again each time, and counts each time, as do those that await it.
- modules: files that a call was in.
- moves: how often a function is entered in another package than the one before it. A package is the
  first name below `trio_sse`; a module that stands there by itself is a package of its own.
"""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final, final

import trio
import trio.testing
from hypercorn.config import Config

import trio_sse
from trio_sse.hypercorn import serve

_ROOT: Final = str(Path(trio_sse.__file__).parent) + os.sep
_REQUEST: Final = b"GET / HTTP/1.1\r\nHost: t\r\nAccept: text/event-stream\r\n\r\n"
_WRITES: Final = frozenset({"write", "send"})

#: Seconds without anything to do after which nothing is left to do.
_QUIET: Final = 0.05


@final
class Walk:
    """What is entered and left, until the walk is over or has arrived."""

    def __init__(self, has_arrived: Callable[[], bool]) -> None:
        self.calls = self.moves = 0
        self.modules: set[str] = set()
        self._package = ""
        self._has_arrived = has_arrived

    def __str__(self) -> str:
        return f"{self.calls:4} calls {len(self.modules):4} modules {self.moves:4} moves"

    def note(self, frame: FrameType, what: str, function: Any) -> None:
        """Take what `sys.setprofile` tells."""
        if what == "call":
            self._enter(frame)
        elif what == "c_return" and function.__name__ in _WRITES and self._has_arrived():
            sys.setprofile(None)

    def _enter(self, frame: FrameType) -> None:
        if module := _module(frame):
            self.calls += 1
            self.modules.add(module)
            package = module.partition(os.sep)[0]
            self.moves += self._package not in ("", package)
            self._package = package


def _module(frame: FrameType) -> str:
    """Return the file of a function of ours, as seen from the package; or nothing."""
    file = frame.f_code.co_filename
    return file.removeprefix(_ROOT) if file.startswith(_ROOT) else ""


@contextmanager
def _walk(has_arrived: Callable[[], bool] = lambda: False) -> Generator[Walk]:
    """Count what happens within a block."""
    walk = Walk(has_arrived)
    sys.setprofile(walk.note)
    try:
        yield walk
    finally:
        sys.setprofile(None)


async def _rest() -> None:
    await trio.testing.wait_all_tasks_blocked(_QUIET)


async def _visit(broadcaster: trio_sse.Broadcaster, port: int) -> dict[str, Walk]:
    """Be one client, from its coming to its going."""
    with socket.create_connection(("127.0.0.1", port)) as client, _walk() as request:
        client.sendall(_REQUEST)
        await _rest()
        sys.setprofile(None)
        for _ in range(2):  # The first takes the client to those that keep up.
            broadcaster.broadcast("price", "before")
            await _rest()
        with _walk() as broadcast:
            broadcaster.broadcast("price", "now")
        with _walk(lambda: b"now" in client.recv(65536, socket.MSG_PEEK)) as to_socket:
            await _rest()
    with _walk() as leaving:
        await _rest()
    return {
        "broadcast": broadcast,
        "to the socket": to_socket,
        "request": request,
        "leaving": leaving,
    }


async def main() -> None:
    """Serve two clients, one after the other, and tell of the second."""
    broadcaster, config = trio_sse.Broadcaster(), Config()
    broadcaster.register_event("price")
    config.bind = ["127.0.0.1:0"]
    async with trio.open_nursery() as nursery:
        (url,) = await nursery.start(serve, trio_sse.sse_app(broadcaster), config)
        port = int(url.rpartition(":")[2])
        await _visit(broadcaster, port)
        for name, walk in (await _visit(broadcaster, port)).items():
            print(f"{name:15}{walk}")
        nursery.cancel_scope.cancel("all is told")


if __name__ == "__main__":
    trio.run(main)
