"""`open_event_stream`: from the bytes of a body to events and comments."""

from __future__ import annotations

from typing import Final

import pytest

from ..support.streams import Read, read

# The examples of WHATWG HTML 9.2.6, "Interpreting an event stream".
SPEC_EXAMPLES: Final[list[tuple[bytes, list[Read]]]] = [
    (b"data: YHOO\ndata: +2\ndata: 10\n\n", [("message", "YHOO\n+2\n10", "", None)]),
    (
        b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event",
        [("message", "first event", "1", None), ("message", "second event", "", None)],
    ),
    (b"data\n\ndata\ndata\n\ndata:", [("message", "", "", None), ("message", "\n", "", None)]),
    (b"data:test\n\ndata: test\n\n", [("message", "test", "", None)] * 2),
    (b"data:  two spaces\n\n", [("message", " two spaces", "", None)]),
    (b"id: 7\nretry: 5\n\ndata: x\n\n", [("message", "x", "7", None)]),
    (b"\xef\xbb\xbfdata: x\n\n", [("message", "x", "", None)]),
    (b"data: x\n\nid: 7\n\nevent: y\n\n", [("message", "x", "", None)]),
]


@pytest.mark.parametrize(("wire", "events"), SPEC_EXAMPLES)
async def test_events_are_read_as_the_specification_says(wire: bytes, events: list[Read]) -> None:
    _, received = await read(wire)
    assert received == events


async def test_a_block_without_data_is_no_event_but_gives_its_id() -> None:
    _, events = await read(b"\n\nid: 7\n\nevent: lost\n\nretry: 5\n\n: note\n\ndata: 1\n\n")
    assert events == [("message", "1", "7", None)]


async def test_an_event_without_its_empty_line_is_none() -> None:
    _, events = await read(b"data: 1\n\ndata: 2\n")
    assert events == [("message", "1", "", None)]


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
async def test_the_bytes_may_be_cut_anywhere(end: str) -> None:
    lines = [
        "\ufeff: grün",
        "id: ä",
        "event: €",
        "data: 😀",
        "data: b",
        "",
        "data: c",
        "",
        ": z",
        "",
    ]
    wire = end.join(lines).encode()
    stream, events = await read(*(wire[place : place + 1] for place in range(len(wire))))
    assert events == [("€", "😀\nb", "ä", None), ("message", "c", "ä", None)]
    assert stream.comments == ["grün", "z"]
    assert stream.raw_bytes == wire


async def test_comments_lose_one_space_and_need_their_line_end() -> None:
    stream, _ = await read(b":a\n: b\n:  c\n:\ndata: : no\n\n:half")
    assert stream.comments == ["a", "b", " c", ""]


async def test_bytes_that_are_not_utf_8_are_replaced() -> None:
    stream, events = await read(b": \xff\ndata: \xff\n\n")
    assert events == [("message", "\ufffd", "", None)]
    assert stream.comments == ["\ufffd"]
