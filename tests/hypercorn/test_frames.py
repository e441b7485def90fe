"""Frames made by hand are h2's own: the same bytes, and the same state behind them."""

from __future__ import annotations

from typing import Any, cast

import h2.config
import h2.connection
import h2.exceptions
import h2.settings
import hypercorn
from hypothesis import given, settings
from hypothesis import strategies as st

from trio_sse._delivery.socket_writer import SocketWriter
from trio_sse.hypercorn._frames import Frames
from trio_sse.hypercorn._outgoing import Outgoing

STREAMS = (1, 3, 5)

#: What may happen: data for one of the streams, or what a client does.
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("data"), st.sampled_from(STREAMS), st.integers(1, 20_000)),
        st.tuples(st.just("window"), st.sampled_from((0, *STREAMS)), st.integers(1, 30_000)),
        st.tuples(st.just("initial window"), st.just(0), st.integers(0, 60_000)),
        st.tuples(st.just("frame size"), st.just(0), st.integers(16_384, 20_000)),
        st.tuples(st.just("reset"), st.sampled_from(STREAMS), st.just(0)),
        st.tuples(st.just("ping"), st.just(0), st.just(0)),
        st.tuples(st.just("end"), st.sampled_from(STREAMS), st.just(0)),
        st.tuples(st.just("go away"), st.just(0), st.just(0)),
    ),
    max_size=30,
)


class Wire:
    """A connection of ours, whose bytes are kept."""

    def __init__(self) -> None:
        self.sent = b""
        out = Outgoing(10, 30, cast("Any", None))
        self.frames = Frames(hypercorn.Config(), out, cast("Any", None), cast("SocketWriter", self))
        self.h2 = self.frames.h2
        self.h2.initiate_connection()
        client = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        client.initiate_connection()
        for stream_id in STREAMS:
            head = [(":method", "GET"), (":path", "/"), (":scheme", "http"), (":authority", "t")]
            client.send_headers(stream_id, head, end_stream=stream_id == 1)
        self.client = client
        self.h2.receive_data(client.data_to_send())
        for stream_id in STREAMS:
            self.frames.send_headers(stream_id, [(b":status", b"200")])
        self.flush()

    def put(self, data: bytes) -> int:
        self.sent += data
        return len(data)

    def flush(self) -> None:
        self.sent += self.h2.data_to_send()

    def hear(self, kind: str, stream_id: int, number: int) -> None:
        """Let the client do something."""
        match kind:
            case "window":
                self.client.increment_flow_control_window(number, stream_id or None)
            case "initial window":
                code = h2.settings.SettingCodes.INITIAL_WINDOW_SIZE
                self.client.update_settings({code: number})
            case "frame size":
                self.client.update_settings({h2.settings.SettingCodes.MAX_FRAME_SIZE: number})
            case "reset":
                self.client.reset_stream(stream_id)
            case "ping":
                self.client.ping(b"12345678")
            case "go away":
                self.client.close_connection()
            case _:
                self.h2.end_stream(stream_id)
        self.h2.receive_data(self.client.data_to_send())

    def state(self) -> list[object]:
        streams = [
            (number, stream.outbound_flow_control_window, stream.state_machine.state)
            for number, stream in sorted(self.h2.streams.items())
        ]
        connection = self.h2.outbound_flow_control_window, self.h2.state_machine.state
        return [self.sent, connection, *streams]


@given(steps=STEPS)
@settings(max_examples=300, deadline=None)
def test_what_is_sent_at_once_is_what_h2_would_send(steps: list[tuple[str, int, int]]) -> None:
    ours, theirs = Wire(), Wire()
    for kind, stream_id, number in steps:
        if kind == "data":
            data = bytes(number)
            try:
                theirs.h2.send_data(stream_id, data)
            except (h2.exceptions.ProtocolError, KeyError):
                assert not sends(ours, stream_id, data)
                return  # For h2 such a try may itself be the end of a stream.
            assert sends(ours, stream_id, data)
            theirs.flush()
        else:
            outcomes = [outcome(wire, kind, stream_id, number) for wire in (ours, theirs)]
            assert outcomes[0] is outcomes[1]
        if kind != "data":
            ours.flush()
            theirs.flush()
        assert ours.state() == theirs.state()


def sends(wire: Wire, stream_id: int, data: bytes) -> bool:
    if stream_id not in wire.h2.streams:
        return False
    frame = wire.frames.make_frame(stream_id, data)
    if frame:
        wire.frames.send(frame)
    return bool(frame)


def outcome(wire: Wire, kind: str, stream_id: int, number: int) -> type[Exception] | None:
    try:
        wire.hear(kind, stream_id, number)
    except (h2.exceptions.ProtocolError, KeyError) as error:
        return type(error)
    return None
