"""The decoder: what a client makes of any bytes, in both readings of the specification."""

from __future__ import annotations

import tracemalloc
from typing import Final

import attrs
import httpx  # noqa: ASYNC127 (httpx-sse reads its responses)
import httpx_sse
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from trio_sse._core.decoder import EventStreamDecoder, ReceivedEvent

from ..support import wire
from ..support.thorough import THOROUGH

Decoder = EventStreamDecoder

BOM: Final = b"\xef\xbb\xbf"


def message(data: str, event_id: str = "", retry: int | None = None) -> ReceivedEvent:
    return ReceivedEvent("message", data, event_id, retry)


# The examples of WHATWG HTML 9.2.6, "Interpreting an event stream"

STOCKS = b"data: YHOO\ndata: +2\ndata: 10\n\n"
FOUR_BLOCKS = (
    b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n"
)
TWO_OF_THREE = b"data\n\ndata\ndata\n\ndata:"
ONE_SPACE = b"data:test\n\ndata: test\n\n"


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (STOCKS, [message("YHOO\n+2\n10")]),
        (
            FOUR_BLOCKS,
            [message("first event", "1"), message("second event"), message(" third event")],
        ),
        (TWO_OF_THREE, [message(""), message("\n")]),
        (ONE_SPACE, [message("test"), message("test")]),
    ],
    ids=["stocks", "four blocks", "two of three", "one space"],
)
def test_the_examples_of_the_specification(stream: bytes, events: list[ReceivedEvent]) -> None:
    assert Decoder().feed(stream) == events


# Lines


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_a_line_ends_in_three_ways(end: bytes) -> None:
    assert Decoder().feed(end.join([b"data: a", b"data: b", b"", b""])) == [message("a\nb")]


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\v", "\f", "\x1c", "\x1e"])
def test_a_line_ends_in_no_other_way(separator: str) -> None:
    text = f"a{separator}b"
    assert Decoder().feed(f"data: {text}\n\n".encode()) == [message(text)]


def test_a_cr_at_the_end_of_a_chunk_ends_its_line_at_once() -> None:
    decoder = Decoder()
    assert decoder.feed(b"data: a\r\n\r") == [message("a")]
    assert decoder.feed(b"data: b\r") == []
    assert decoder.feed(b"") == []
    # One LF belongs to that line end, a second one ends a line of its own.
    assert decoder.feed(b"\ndata: c\r") == []
    assert decoder.feed(b"\n\n") == [message("b\nc")]


def test_only_one_bom_goes_and_only_at_the_beginning() -> None:
    assert Decoder().feed(BOM + b"data: a\n\n") == [message("a")]
    assert Decoder().feed(BOM + BOM + b"data: a\n\ndata: b\n\n") == [message("b")]
    assert Decoder().feed(b"\n" + BOM + b"data: a\n\ndata: b\n\n") == [message("b")]


def test_bytes_that_are_not_utf_8_are_replaced() -> None:
    decoder = Decoder()
    assert decoder.feed(b": \xff\nid: \xff\nevent: \xe2\x82\ndata: \xf0\x9f") == []
    assert decoder.feed(b"\n\n") == [ReceivedEvent("\ufffd", "\ufffd", "\ufffd", None)]
    assert decoder.comments == ["\ufffd"]


def test_an_event_without_its_empty_line_is_none() -> None:
    decoder = Decoder()
    assert decoder.feed(b"data: 1\n\nid: 2\ndata: 2\n") == [message("1")]
    assert decoder.last_event_id == ""


def test_a_long_line_in_small_pieces_is_kept_once() -> None:
    decoder, piece = Decoder(), b"x" * 10_000
    tracemalloc.start()
    try:
        for _ in range(300):
            decoder.feed(piece)
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held > 3_000_000
    assert peak < held + 100_000  # Never copied while it grows.


# Fields


def test_a_comment_loses_one_space_and_needs_its_line_end() -> None:
    decoder = Decoder()
    assert decoder.feed(b":a\n: b\n:  c\n:\ndata: : no\n\n:half") == [message(": no")]
    assert decoder.comments == ["a", "b", " c", ""]


@pytest.mark.parametrize("line", [b"Data: x", b"data : x", b" data: x", b"datax", b"\xff: x", b"x"])
def test_an_unknown_field_is_ignored(line: bytes) -> None:
    assert Decoder().feed(line + b"\ndata: y\n\n") == [message("y")]


def test_the_last_event_type_of_a_block_is_its_own() -> None:
    decoder = Decoder()
    assert [each.event for each in decoder.feed(b"event: a\nevent: b\ndata\n\ndata\n\n")] == [
        "b",
        "message",
    ]
    assert [each.event for each in decoder.feed(b"event: a\nevent\ndata\n\n")] == ["message"]


def test_a_block_without_data_is_no_event_and_leaves_no_type() -> None:
    decoder = Decoder()
    assert decoder.feed(b"\n\nevent: lost\n\nretry: 5\n\n: note\n\ndata: 1\n\n") == [message("1")]


def test_an_id_stays_until_the_next() -> None:
    events = Decoder().feed(b"id: 7\ndata\n\ndata\n\nid\ndata\n\ndata\n\n")
    assert [each.id for each in events] == ["7", "7", "", ""]


def test_an_id_with_nul_is_ignored() -> None:
    decoder = Decoder()
    assert decoder.feed(b"id: 7\nid: 8\0\ndata: a\n\n") == [message("a", "7")]
    assert decoder.feed(b"id: \0\ndata: \0\n\n") == [message("\0", "7")]


def test_an_id_counts_from_the_end_of_its_block() -> None:
    decoder = Decoder()
    decoder.feed(b"id: 7\ndata: a\n")
    assert decoder.last_event_id == ""
    decoder.feed(b"\n")
    assert decoder.last_event_id == "7"


@pytest.mark.parametrize(("keeps", "last"), [(True, "7"), (False, "")])
@pytest.mark.parametrize(
    "block", [b"id: 7\n\n", b"id: 7\nretry: 5\nevent: x\n\n", b": x\nid: 7\n\n"]
)
def test_the_readings_differ_in_an_id_without_data(keeps: bool, last: str, block: bytes) -> None:
    decoder = Decoder(keeps_bare_ids=keeps)
    assert decoder.feed(block) == []
    assert decoder.last_event_id == last
    assert decoder.feed(b"data: a\n\nid: 8\ndata\n\n") == [message("a", last), message("", "8")]
    assert decoder.last_event_id == "8"


@pytest.mark.parametrize("value", [b"0", b"5", b"007", b"18446744073709551616"])
def test_a_retry_of_digits_is_a_reconnection_time_at_once(value: bytes) -> None:
    decoder = Decoder()
    decoder.feed(b"retry: %b\n" % value)
    assert decoder.retry == int(value)
    events = decoder.feed(b"data: a\n\ndata: b\n\n")
    assert events == [message("a", retry=int(value)), message("b")]
    assert decoder.retry == int(value)


@pytest.mark.parametrize(
    "value", ["", " 5", "5 ", "+5", "-5", "1_0", "5.0", "0x5", "٣", "5\0", "9" * 5000]
)
def test_any_other_retry_is_ignored(value: str) -> None:
    decoder = Decoder()
    stream = f"retry: 1\nretry: {value}\ndata: a\n\n"
    assert decoder.feed(stream.encode()) == [message("a", retry=1)]
    assert decoder.retry == 1


# The event


def test_an_event_reads_its_data_as_json() -> None:
    assert message('{"price": [1, null]}').json() == {"price": [1, None]}
    with pytest.raises(ValueError, match="Expecting value"):
        message("").json()


def test_an_event_cannot_be_changed() -> None:
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        message("a").data = "b"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


# Any stream

#: Soups of all that matters. A `retry` has its whole line: httpx-sse reads it with `int()`, which
#: takes more than digits.
SOUP: Final = st.lists(
    st.sampled_from([b"\r", b"\n", b"\r\n", b"\n\n", b":", b" ", b"\0", b"x", b"7"])
    | st.sampled_from([b"data", b"id", b"event", b"data: ", b"id: ", b"retry: 7\n", b"retry:x\n"])
    | st.sampled_from([BOM, "é€😀\u2028\x85".encode(), b"\xff", b"\xe2\x82", b"\xf0\x9f\x98"]),
    max_size=40,
).map(b"".join)
#: Streams that make sense.
OURS: Final = wire.streams.map(lambda events: b"".join(event.encode() for event in events))
STREAMS: Final = SOUP | OURS

any_stream = settings(deadline=None, max_examples=500 if THOROUGH else 100)


def read(decoder: Decoder, chunks: list[bytes]) -> list[ReceivedEvent]:
    return [event for chunk in chunks for event in decoder.feed(chunk)]


def outcome(decoder: Decoder, chunks: list[bytes]) -> tuple[object, ...]:
    return read(decoder, chunks), decoder.last_event_id, decoder.retry, decoder.comments


@any_stream
@given(STREAMS, wire.places, st.booleans())
@example(b"data: a\r\ndata: b\r\n\r\n", [8, 9], True)
@example(BOM + b"data: a\n\n", [1, 2], True)
def test_it_is_the_same_wherever_the_bytes_are_cut(
    stream: bytes, at: list[int], keeps: bool
) -> None:
    whole, cut, byte_by_byte = (
        outcome(Decoder(keeps_bare_ids=keeps), chunks)
        for chunks in ([stream], wire.cut(stream, at), [bytes([byte]) for byte in stream])
    )
    assert whole == cut == byte_by_byte


@any_stream
@given(STREAMS)
def test_the_readings_differ_in_nothing_but_ids(stream: bytes) -> None:
    keeping, dropping = Decoder(), Decoder(keeps_bare_ids=False)
    kept, dropped = keeping.feed(stream), dropping.feed(stream)
    assert [attrs.evolve(each, id="") for each in kept] == [
        attrs.evolve(each, id="") for each in dropped
    ]
    assert (keeping.retry, keeping.comments) == (dropping.retry, dropping.comments)


# The judge: httpx-sse, by its public interface


def judged(chunks: list[bytes]) -> list[ReceivedEvent]:
    headers = {"content-type": "text/event-stream"}
    source = httpx_sse.EventSource(httpx.Response(200, headers=headers, content=chunks))
    return [ReceivedEvent(each.event, each.data, each.id, each.retry) for each in source.iter_sse()]


@any_stream
@given(STREAMS, wire.places)
@example(STOCKS + FOUR_BLOCKS + ONE_SPACE + TWO_OF_THREE, [3])
@example(b"id: 7\n\nevent: x\ndata\n\n", [])
def test_it_reads_as_httpx_sse_does(stream: bytes, at: list[int]) -> None:
    # httpx-sse keeps the BOM, and gives an empty event for a block without data.
    ours = read(Decoder(), wire.cut(BOM + stream, at))
    theirs = iter(every := judged(wire.cut(stream, at)))
    assert all(each in theirs for each in ours), "in this order, perhaps with others between"
    assert [each for each in ours if each.data] == [each for each in every if each.data]
