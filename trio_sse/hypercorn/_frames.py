"""The frames of one HTTP/2 connection: its state, by the h2 library, and what goes out.

One task sends what waits in `Outgoing`, a frame of each stream in turn, as far as the client's
windows go. It knows frames and windows; it knows neither requests nor applications.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, cast, final

import h2.config
import h2.connection
import h2.exceptions
import h2.settings
import trio
from h2.settings import SettingCodes
from h2.utilities import (
    HeaderValidationFlags,
    normalize_outbound_headers,
    validate_outbound_headers,
)
from hypercorn.config import Config
from hypercorn.events import RawData
from hyperframe.frame import GoAwayFrame

from ._outgoing import Outgoing

#: Bytes that are handed to the socket at once, about.
_FLUSH: Final = 64 * 1024

#: What no value of a header may have (RFC 9113, 8.2.1).
_NO_VALUE: Final = re.compile(rb"[\0\r\n]")

#: Bytes of a frame's head.
_HEAD: Final = 9


@final
class Frames:
    """What goes out on one connection."""

    def __init__(
        self, config: Config, out: Outgoing, send: Callable[[RawData], Awaitable[None]]
    ) -> None:
        self.h2 = _connection(config)
        self.closed = False
        self._out = out
        self._send = send
        #: Held while bytes go to the socket, in the order in which they were made.
        self._flushing = trio.Lock()

    def close(self) -> None:
        """Send nothing more."""
        self.closed = True
        self._out.clear()

    def has_begun(self, stream_id: int) -> bool:
        """Tell whether the head of a response was sent, which another one would spoil."""
        return bool(self.h2.streams[stream_id].state_machine.headers_sent)

    def send_headers(
        self, stream_id: int, headers: Iterable[tuple[bytes, bytes]], *, ends: bool = False
    ) -> None:
        """Make the frame of a head, or of the trailers that end a stream.

        All is checked before anything is encoded: h2 would stop in the middle, and its table of
        headers would no longer be the client's.

        Raises:
            h2.exceptions.ProtocolError: If they cannot be sent.
        """
        flags = HeaderValidationFlags(
            is_client=False, is_trailer=ends, is_response_header=not ends, is_push_promise=False
        )
        checked = [*validate_outbound_headers(normalize_outbound_headers(headers, flags), flags)]
        for name, value in checked:
            if _NO_VALUE.search(value) or _NO_VALUE.search(name):
                raise h2.exceptions.ProtocolError(f"the header {name!r} cannot be {value!r}")
        self.h2.send_headers(stream_id, checked, end_stream=ends)

    async def go_away(self, last_stream_id: int) -> None:
        """Tell the client to send its next requests elsewhere; open streams go on."""
        # Not by h2, for which the connection would be over.
        await self._send(RawData(data=GoAwayFrame(last_stream_id=last_stream_id).serialize()))

    async def run(self) -> None:
        """Send what waits, a frame of each stream in turn, until closed."""
        while not self.closed:
            if self._take_frames():
                await self.flush()
            else:
                await self._out.wait_put()

    def _take_frames(self) -> bool:
        taken = 0
        for stream_id in self._out.waiting():
            if taken > _FLUSH:
                break
            try:
                taken += self._take_frame(stream_id)
            except (KeyError, h2.exceptions.ProtocolError):
                self._out.discard(stream_id)
        return bool(taken)

    def _take_frame(self, stream_id: int) -> int:
        window = self.h2.local_flow_control_window(stream_id)
        most = max(0, min(window, self.h2.max_outbound_frame_size))
        if not most and self._out.size(stream_id):
            return 0
        data, is_end = self._out.take(stream_id, most)
        self.h2.send_data(stream_id, data, end_stream=is_end)
        return len(data) + _HEAD

    def blocker_of(self, stream_id: int) -> int:
        """Return the stream whose client keeps one from sending: itself, most of the time.

        When all of the connection's window is used up, it is the one that has used most of it.
        """
        if self.h2.outbound_flow_control_window > 0:
            return stream_id
        windows = {
            each: stream.outbound_flow_control_window
            for each, stream in self.h2.streams.items()
            if each in self._out
        }
        return min(windows, key=lambda each: (windows[each], each != stream_id), default=stream_id)

    async def flush(self) -> None:
        """Hand to the socket what is to be sent, in the order in which it was made."""
        async with self._flushing:
            if data := self.h2.data_to_send():
                await self._send(RawData(data=data))


def _connection(config: Config) -> h2.connection.H2Connection:
    connection = h2.connection.H2Connection(
        config=h2.config.H2Configuration(
            client_side=False,
            header_encoding=None,
            validate_outbound_headers=False,  # By `send_headers`.
            normalize_outbound_headers=False,
        )
    )
    # A constant by its type, and a setting in hypercorn.
    cast("Any", connection).DEFAULT_MAX_INBOUND_FRAME_SIZE = config.h2_max_inbound_frame_size
    connection.local_settings = h2.settings.Settings(
        client=False,
        initial_values={
            SettingCodes.MAX_CONCURRENT_STREAMS: config.h2_max_concurrent_streams,
            SettingCodes.MAX_HEADER_LIST_SIZE: config.h2_max_header_list_size,
            SettingCodes.ENABLE_CONNECT_PROTOCOL: 1,
        },
    )
    return connection
