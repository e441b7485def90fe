"""A client's side of an HTTP/2 connection that doubts every byte, on the h2 library.

It is fed what a socket gives and raises at the first byte that should not be there: what h2 takes
for an error of the protocol, what is no event, and a stream that is reset for no fault of its
client. It knows no sockets, and not how a connection may end.
"""

from __future__ import annotations

from typing import Final

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import h2.settings
from h2.errors import ErrorCodes

from .reader import Body, CorruptError

#: Bytes that a connection may have on their way beyond those of one stream.
_WINDOW: Final = 1024 * 1024

#: With what a stream is reset whose client takes nothing, or is pruned and does not drain in time.
_TOO_SLOW: Final = (ErrorCodes.CANCEL, ErrorCodes.INTERNAL_ERROR)


class Streams:
    """Reads the streams of one connection.

    Args:
        window: Bytes that a stream may have on their way.
    """

    def __init__(self, window: int) -> None:
        self._h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        code = h2.settings.SettingCodes.INITIAL_WINDOW_SIZE
        self._h2.local_settings = h2.settings.Settings(initial_values={code: window})
        self._h2.initiate_connection()
        self._h2.increment_flow_control_window(_WINDOW)
        self._bodies: dict[int, Body] = {}
        #: Those that have not ended, with what was not given back of their windows; if it is kept.
        self._open: dict[int, int] = {}
        self._kept: set[int] = set()
        self._begun: set[int] = set()

    @property
    def streams(self) -> int:
        """How many were asked for."""
        return len(self._bodies)

    @property
    def events(self) -> int:
        """How many events have come."""
        return sum(body.events for body in self._bodies.values())

    @property
    def between(self) -> bool:
        """Whether no stream has begun and not ended: an idle connection may close at any time."""
        return self._begun.isdisjoint(self._open)

    @property
    def open(self) -> list[int]:
        """The numbers of the streams that have not ended."""
        return [*self._open]

    def ask(self, path: str, *methods: str) -> None:
        """Make requests, each for one stream more."""
        for method in methods:
            number = self._h2.get_next_available_stream_id()
            head = {":method": method, ":scheme": "http", ":authority": "t", ":path": path}
            self._h2.send_headers(number, [*head.items()], end_stream=True)
            self._bodies[number] = Body()
            self._open[number] = 0

    def leave(self, number: int) -> None:
        """Reset a stream."""
        self._h2.reset_stream(number, ErrorCodes.CANCEL)
        self._close(number)

    def keep(self, number: int) -> None:
        """From now on give nothing of a stream's window back."""
        self._kept.add(number)

    def take_output(self) -> bytes:
        """Return what is to be sent."""
        return self._h2.data_to_send()

    def feed(self, data: bytes) -> None:
        """Read on.

        Raises:
            CorruptError: If the bytes are not what a client of trio-sse may get.
        """
        try:
            events = self._h2.receive_data(data)
        except h2.exceptions.ProtocolError as error:
            raise CorruptError(f"not HTTP/2: {error!r}") from error
        for event in events:
            self._take(event)

    def _take(self, event: h2.events.Event) -> None:
        match event:
            case h2.events.ResponseReceived(stream_id=number, headers=headers):
                self._begun.add(number)
                if dict(headers)[b":status"] != b"200":
                    raise CorruptError(f"not a stream: {headers}")
            case h2.events.DataReceived(stream_id=number, data=data):
                self._give_back(number, event.flow_controlled_length)
                if number in self._open:
                    self._bodies[number].feed(data)
            case h2.events.StreamEnded(stream_id=number):
                self._bodies[number].end()
                self._close(number)
            case h2.events.StreamReset(stream_id=number, error_code=code):
                if code not in _TOO_SLOW:
                    raise CorruptError(f"reset with {code!r}")
                self._close(number)
            case h2.events.ConnectionTerminated():
                raise CorruptError(f"sent away: {event}")
            case _:
                pass

    def _give_back(self, number: int, size: int) -> None:
        if number in self._kept and number in self._open:
            self._open[number] += size
        elif size:
            self._h2.acknowledge_received_data(size, number)

    def _close(self, number: int) -> None:
        if kept := self._open.pop(number, 0):
            self._h2.acknowledge_received_data(kept, number)
