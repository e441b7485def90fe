"""The ways of one connection's HTTP/2 streams past hypercorn, by their numbers.

What proves that nobody in between rewrites a body is the first piece of it that comes out below all
of ASGI, where it must be what was announced. Several streams of one connection get the same event
one after another: their frames go out together, in a turn that the connection takes behind them. It
knows streams by their numbers, and not why they end.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import final

import trio

from .._delivery.bypass import Bypass, BypassUser
from .._delivery.writer import Writer
from ._stream_writer import StreamWriter


@final
class Bypasses:
    """The bypasses of the streams that are open.

    Args:
        make_writer: Makes the writer of a stream, which calls what it is given to send soon.
        send_held: Sends the frames that are held; raises as `Frames.send_held` does.
        abort: Resets a stream, soon.
    """

    def __init__(
        self,
        make_writer: Callable[[int, Callable[[], bool]], StreamWriter],
        send_held: Callable[[], None],
        abort: Callable[[int], None],
    ) -> None:
        self._make_writer = make_writer
        self._send_held = send_held
        self._abort = abort
        self._bypasses: dict[int, Bypass] = {}
        self._has_turn = False

    def offer(self, stream_id: int, writer: Writer) -> Bypass:
        """Return the bypass of a stream, for which a server's writer writes."""
        own = self._make_writer(stream_id, partial(self._take_turn, writer))
        bypass = Bypass(own, bytes, writer, partial(self._abort, stream_id))
        self._bypasses[stream_id] = bypass
        return bypass

    def observe(self, stream_id: int, data: bytes) -> None:
        """Look at what hypercorn sends of a body."""
        if bypass := self._bypasses.get(stream_id):
            bypass.observe(data)

    def revoke(self, stream_id: int) -> None:
        """Forget a stream: its body, or all of it, has ended."""
        if bypass := self._bypasses.pop(stream_id, None):
            bypass.revoke()

    def deliver(self, room: int) -> int:
        """Send the frames of all streams; if they do not fit, let each stand aside."""
        self._has_turn = False
        try:
            self._send_held()
        except (trio.WouldBlock, trio.BrokenResourceError):
            for user in self._users:
                user.look()
        return 1

    def fail(self, error: Exception) -> None:
        """End all streams, each in its own task."""
        for user in self._users:
            user.fail(error)

    @property
    def _users(self) -> list[BypassUser]:
        return [each.user for each in self._bypasses.values() if each.user is not None]

    def _take_turn(self, writer: Writer) -> bool:
        if len(self._bypasses) == 1:
            return False
        if not self._has_turn:
            self._has_turn = True
            writer.add(self)
        return True
