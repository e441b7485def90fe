"""The ways of one connection's HTTP/2 streams past hypercorn, by their numbers.

What proves that nobody in between rewrites a body is the first piece of it that comes out below all
of ASGI, where it must be what was announced. It knows streams by their numbers, and not why they
end.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import final

from .._delivery.bypass import Bypass
from .._delivery.writer import Writer
from ._stream_writer import StreamWriter


@final
class Bypasses:
    """The bypasses of the streams that are open.

    Args:
        make_writer: Makes the writer of a stream.
        abort: Resets a stream, soon.
    """

    def __init__(
        self, make_writer: Callable[[int], StreamWriter], abort: Callable[[int], None]
    ) -> None:
        self._make_writer = make_writer
        self._abort = abort
        self._bypasses: dict[int, Bypass] = {}

    def offer(self, stream_id: int, writer: Writer) -> Bypass:
        """Return the bypass of a stream, for which a server's writer writes."""
        own = self._make_writer(stream_id)
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
