"""How long a test waits, and for what."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import trio

#: Seconds after which a test gives up; nothing here takes that long on any machine.
PATIENCE: Final = 90.0


async def until(condition: Callable[[], bool]) -> None:
    """Wait for what nobody announces."""
    with trio.fail_after(PATIENCE):
        while True:
            await trio.sleep(0.001)
            if condition():
                return
