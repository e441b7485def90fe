"""What coredis logs of connections of ours: nothing, since we log a line where it logs a page.

What it logs of others' connections is theirs. It knows no connections.
"""

from __future__ import annotations

import logging
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

_is_ours: Final = ContextVar("_is_ours", default=False)
logging.getLogger("coredis").addFilter(lambda _: not _is_ours.get())


@contextmanager
def only_our_word() -> Generator[None]:
    """Let coredis log nothing of what is done in a block, and in tasks that it starts there."""
    token = _is_ours.set(True)
    try:
        yield
    finally:
        _is_ours.reset(token)
