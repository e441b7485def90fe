"""Libraries that read event streams, each as a program in `tests/interop`."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Final, final

import trio

from .asgi import App
from .visitors import Told

HERE: Final = Path(__file__).parents[1] / "interop"

#: What runs each of them.
PROGRAMS: Final = {
    "eventsource": ("node", "clients.mjs"),
    "event-source-polyfill": ("node", "clients.mjs"),
    "launchdarkly-eventsource": ("node", "clients.mjs"),
    "@microsoft/fetch-event-source": ("node", "clients.mjs"),
    "undici": ("node", "clients.mjs"),
    "httpx-sse": (sys.executable, "clients.py"),
    "sseclient-py": (sys.executable, "clients.py"),
}


@final
class Library:
    """The program of a library, which ends when that has given up."""

    def __init__(self, name: str, nursery: trio.Nursery) -> None:
        self.told: list[Told] = []
        self.has_given_up = False
        self._command = (*PROGRAMS[name], name)
        self._nursery = nursery

    def site(self, stream: App) -> App:
        return stream

    async def visit(self, port: int) -> None:
        command = [*self._command, f"http://127.0.0.1:{port}/events"]
        run = partial(trio.run_process, cwd=HERE, stdout=subprocess.PIPE)
        process: trio.Process = await self._nursery.start(run, command)
        self._nursery.start_soon(self._listen, process)

    async def _listen(self, process: trio.Process) -> None:
        assert process.stdout is not None
        rest = b""
        async for data in process.stdout:
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                event, data = json.loads(line)
                self.told.append((event, data))
        self.has_given_up = await process.wait() == 0
