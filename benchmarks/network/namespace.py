"""A second host on this machine: a network namespace with one link, which can go down (Linux).

It needs root and iproute2's `ip`. Whatever happens, the namespace and its link are gone in the end.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from contextlib import ExitStack
from types import TracebackType
from typing import Final, Self

#: This machine's address on the link, and the other host's.
HERE: Final = "10.213.7.1"
_THERE: Final = "10.213.7.2"


def missing(*programs: str) -> str:
    """Return what is missing for a namespace, and for these programs to run; or nothing."""
    absent = [program for program in ("ip", *programs) if shutil.which(program) is None]
    return ", ".join(absent if os.geteuid() == 0 else ["root", *absent])


class Namespace:
    """The other host, for the length of a block."""

    def __init__(self) -> None:
        self._name = f"sse-{os.getpid()}"
        self._near, self._far = f"ssen{os.getpid()}", f"ssef{os.getpid()}"
        self._undo = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            _ip("netns", "add", self._name)
            undo.callback(_ip, "netns", "del", self._name)
            _ip("link", "add", self._near, "type", "veth", "peer", self._far, "netns", self._name)
            undo.callback(_ip, "link", "del", self._near)
            _ip("address", "add", f"{HERE}/30", "dev", self._near)
            _ip("link", "set", self._near, "up")
            self._there("address", "add", f"{_THERE}/30", "dev", self._far)
            self._there("link", "set", self._far, "up")
            self._undo = undo.pop_all()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._undo.close()

    def command(self, *command: str) -> list[str]:
        """Return the command that runs another one over there."""
        return ["ip", "netns", "exec", self._name, *command]

    def cut(self) -> None:
        """Let the link go down, as seen from over there."""
        self._there("link", "set", self._far, "down")

    def _there(self, *arguments: str) -> None:
        _ip("-n", self._name, *arguments)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)  # noqa: S603, S607 (its path differs by system)
