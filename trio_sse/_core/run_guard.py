"""Which `trio.run` a broadcaster's clients live in.

A memory channel may be used only from the thread and the run in which its reader waits: from
anywhere else the reader would wake late or never, and nothing would tell. This room tells. It knows
nothing of events or clients.
"""

from __future__ import annotations

from typing import final

import trio


@final
class HomeRun:
    """The run in which this object was made.

    Raises:
        RuntimeError: If made outside of Trio.
    """

    def __init__(self) -> None:
        self._token = trio.lowlevel.current_trio_token()

    def is_over(self) -> bool:
        """Tell whether the home run has finished; `False` means that it is the current one.

        Raises:
            RuntimeError: If the home run goes on, and this is another thread or another run.
        """
        if self._token is _current_token():
            return False
        try:
            self._token.run_sync_soon(_do_nothing)
        except trio.RunFinishedError:
            return True
        raise RuntimeError(
            "this broadcaster has clients in another thread or another trio.run; from a thread "
            "call trio.from_thread.run_sync(broadcaster.broadcast, event, data)"
        )


def _current_token() -> trio.lowlevel.TrioToken | None:
    try:
        return trio.lowlevel.current_trio_token()
    except RuntimeError:
        return None


def _do_nothing() -> None:
    pass
