"""Which `trio.run` something lives in, and what may be touched in it now.

A memory channel may be used only from the thread and the run in which its reader waits: from
anywhere else the reader would wake late or never, and nothing would tell. And not from amid Trio's
own steps: a signal handler or a `__del__` may strike there. It knows nothing of events or clients.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Final, final

import trio

#: What whoever starts another kind of server is told.
NOT_ON_TRIO: Final = (
    "trio-sse runs on Trio, but this is no task of Trio: if this server runs asyncio, start it "
    "with `hypercorn -k trio app:app`, or with trio_sse.hypercorn.serve"
)

#: The modules through which every call comes.
_PLAIN: Final = ("trio_sse._core.", "trio_sse._broadcaster")


@final
class RunGuard:
    """The run in which this object was made.

    Raises:
        RuntimeError: If made outside of Trio.
    """

    def __init__(self) -> None:
        self._token = trio.lowlevel.current_trio_token()

    def is_over(self) -> bool:
        """Tell whether the run has finished; `False` means that it is the current one.

        Raises:
            RuntimeError: If the run goes on, and this is another thread or another run.
        """
        if self._token is _current_token():
            return False
        if self.has_finished():
            return True
        raise RuntimeError(
            "this broadcaster belongs to another thread or another trio.run, where its clients "
            "are; from a thread call trio.from_thread.run_sync(broadcaster.broadcast, event, data)"
        )

    def has_finished(self) -> bool:
        """Tell whether the run has finished; this may be asked from anywhere."""
        if self._token is _current_token():
            return False
        try:
            self._token.run_sync_soon(_do_nothing)
        except trio.RunFinishedError:
            return True
        return False

    def run_soon(self, callback: Callable[[], None]) -> None:
        """Call a function between two steps of its tasks, or now if it is over; from anywhere."""
        try:
            self._token.run_sync_soon(callback, idempotent=True)
        except trio.RunFinishedError:
            callback()


def check_on_trio(fix: str = NOT_ON_TRIO) -> None:
    """Refuse what needs Trio where there is none.

    Raises:
        RuntimeError: If this is no task of Trio.
    """
    if not trio.lowlevel.in_trio_task():
        raise RuntimeError(fix)


def strikes_inside_trio() -> bool:
    """Tell whether this call came in the middle of something delicate.

    That is what a KeyboardInterrupt may not come in the middle of, either: the scheduler, Trio's
    synchronous calls, those functions of ours that are protected from it; and any `__del__`, which
    may be called by each of them. Trio is asked only if a frame on the way looks like it, since
    its answer takes some microseconds: not for those through which every call comes, where what
    is delicate is inside of a change.
    """
    try:
        outermost = trio.lowlevel.current_task().coro.cr_frame
    except RuntimeError:  # Between two tasks, or outside of Trio.
        return True
    frame = inspect.currentframe()
    while frame is not None:
        name: str = frame.f_globals.get("__name__", "")
        is_suspect = name.startswith("trio") and not name.startswith(_PLAIN)
        if is_suspect or frame.f_code.co_name == "__del__":
            return trio.lowlevel.currently_ki_protected()
        frame = None if frame is outermost else frame.f_back
    return False


def _current_token() -> trio.lowlevel.TrioToken | None:
    try:
        return trio.lowlevel.current_trio_token()
    except RuntimeError:
        return None


def _do_nothing() -> None:
    pass
