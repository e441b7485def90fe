"""A second host on this machine: a network namespace with one link, which can go down (Linux).

It needs root and iproute2's `ip`. Whatever happens, the namespace and its link are gone in the end.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from typing import Final

#: This machine's address on the link, and the other host's.
HERE: Final = "10.213.7.1"
_THERE: Final = "10.213.7.2"


def missing(*programs: str) -> str:
    """Return what is missing for a namespace, and for these programs to run; or nothing."""
    absent = [program for program in ("ip", *programs) if shutil.which(program) is None]
    return ", ".join(absent if os.geteuid() == 0 else ["root", *absent])


class Namespace:
    """The other host, which has the far end of the link."""

    def __init__(self, name: str, link: str) -> None:
        self._name = name
        self._link = link

    def command(self, *command: str) -> list[str]:
        """Return the command that runs another one over there."""
        return ["ip", "netns", "exec", self._name, *command]

    def open(self) -> None:
        """Let the link go up."""
        self._there("address", "add", f"{_THERE}/30", "dev", self._link)
        self._there("link", "set", self._link, "up")

    def cut(self) -> None:
        """Let the link go down, as seen from over there."""
        self._there("link", "set", self._link, "down")

    def _there(self, *arguments: str) -> None:
        _ip("-n", self._name, *arguments)


@contextmanager
def open_namespace() -> Generator[Namespace]:
    """Make the other host and the link to it, for the length of a block."""
    name, near, far = (f"{what}{os.getpid()}" for what in ("sse-", "ssen", "ssef"))
    with ExitStack() as undo:
        _ip("netns", "add", name)
        undo.callback(_ip, "netns", "del", name)
        _ip("link", "add", near, "type", "veth", "peer", far, "netns", name)
        undo.callback(_ip, "link", "del", near)
        _ip("address", "add", f"{HERE}/30", "dev", near)
        _ip("link", "set", near, "up")
        there = Namespace(name, far)
        there.open()
        yield there


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], check=True)  # noqa: S603, S607 (its path differs by system)
