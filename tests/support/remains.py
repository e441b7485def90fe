"""What may not be left behind: compare it before and after."""

from __future__ import annotations

import os

import trio

from trio_sse import Broadcaster


def living() -> tuple[int, int]:
    """Count the tasks and the descriptors."""
    return trio.lowlevel.current_statistics().tasks_living, len(os.listdir("/proc/self/fd"))


def remains(broadcaster: Broadcaster) -> tuple[int, int, int, int]:
    """Count tasks, descriptors, streams and clients."""
    return *living(), broadcaster.statistics().streams, broadcaster.client_count
