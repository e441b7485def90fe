"""The frames of one HTTP/2 connection: its state, by the h2 library, and what goes out.

One task sends what waits in `Outgoing`, a frame of each stream in turn, as far as the client's
windows go. It knows frames and windows; it knows neither requests nor applications.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Awaitable, Callable, Iterable
from typing import Any, Final, cast, final

import h2.config
import h2.connection
import h2.exceptions
import h2.settings
import trio
from h2.connection import ConnectionState
from h2.settings import SettingCodes
from h2.stream import StreamState
from h2.utilities import (
    HeaderValidationFlags,
    normalize_outbound_headers,
    validate_outbound_headers,
)
from hypercorn.config import Config
from hypercorn.events import RawData
from hyperframe.frame import GoAwayFrame
from trio.lowlevel import enable_ki_protection

from .._delivery.socket_writer import SocketWriter
from ._outgoing import Outgoing

#: Bytes that are handed to the socket at once, about.
_FLUSH: Final = 64 * 1024

#: What no value of a header may have (RFC 9113, 8.2.1).
_NO_VALUE: Final = re.compile(rb"[\0\r\n]")

#: The head of a frame (RFC 9113, 4.1): its length, in two parts, type, flags and stream.
_DATA: Final = struct.Struct(">HBBBL")

#: The states of a stream in which we may send.
_SENDING: Final = frozenset({StreamState.OPEN, StreamState.HALF_CLOSED_REMOTE})

#: Bytes of a frame's head.
_HEAD: Final = 9


@final
class Frames:
    """What goes out on one connection."""

    def __init__(
        self,
        config: Config,
        out: Outgoing,
        send: Callable[[RawData], Awaitable[None]],
        socket_writer: SocketWriter,
    ) -> None:
        self._socket_writer = socket_writer
        self.h2 = _connection(config)
        self.closed = False
        self._out = out
        self._send = send
        #: Frames made by hand, and what h2 had made before them.
        self._held = bytearray()
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

    @enable_ki_protection
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

    @enable_ki_protection
    def make_frame(self, stream_id: int, data: bytes) -> bytes:
        """Make one frame of data of a stream; none, if not all windows have room.

        It is made by hand, as h2 takes some ten microseconds for it; of h2's state it changes what
        h2 itself would, the two windows (a test compares them). It is to be sent, or held, at once.
        """
        connection, size = self.h2, len(data)
        stream = connection.streams[stream_id]
        if (
            size > stream.outbound_flow_control_window
            or size > connection.outbound_flow_control_window
            or size > connection.max_outbound_frame_size
            or stream.state_machine.state not in _SENDING
            or connection.state_machine.state is ConnectionState.CLOSED
        ):
            return b""
        stream.outbound_flow_control_window -= size
        connection.outbound_flow_control_window -= size
        return _DATA.pack(size >> 8, size & 0xFF, 0, 0, stream_id) + data

    def send(self, frame: bytes) -> None:
        """Send a frame, behind all that was made before it.

        Raises:
            trio.WouldBlock: If the socket is full: all was taken.
            trio.BrokenResourceError: If the connection is gone.
        """
        self._socket_writer.put(self._take_made() + frame)

    def hold(self, frame: bytes) -> int:
        """Let a frame go out with the next; return how many bytes do."""
        self._held += self.h2.data_to_send() + frame
        return len(self._held)

    @enable_ki_protection
    def send_held(self) -> None:
        """Send what is held; raises as `send` does, also if the socket is full of other things."""
        if self._held:
            self.send(b"")
        else:
            self._socket_writer.flush_nowait()

    def _take_made(self) -> bytes:
        made = self.h2.data_to_send()
        if self._held:
            made = bytes(self._held) + made
            self._held.clear()
        return made

    @enable_ki_protection
    def send_waiting(self) -> None:
        """Send what waits, as far as windows go; raises as `send` does."""
        while self._take_frames():
            self._socket_writer.put(self._take_made())

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

    @enable_ki_protection  # What strikes amid it may write, too.
    async def flush(self) -> None:
        """Hand to the socket what is to be sent, in the order in which it was made."""
        async with self._flushing:
            if data := self._take_made():
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
