"""`open_event_stream`: from the bytes of a body to events and comments.

How bytes are read is the decoder's matter, see `core/test_decoder.py`.
"""

from __future__ import annotations

import pytest

from ..support.streams import read


async def test_a_block_without_data_is_no_event_but_gives_its_id() -> None:
    stream, events = await read(
        b"id: 7\n\nevent: lost\n\nretry: 5\n\n: note\n\ndata: 1\n\nid: 8\n\n"
    )
    assert events == [("message", "1", "7", None)]
    assert stream.last_event_id == "8"


@pytest.mark.parametrize("end", ["\n", "\r", "\r\n"])
async def test_the_bytes_may_be_cut_anywhere(end: str) -> None:
    lines = [
        "\ufeff: grün",
        "id: ä",
        "event: €",
        "retry: 5",
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
    assert events == [("€", "😀\nb", "ä", 5), ("message", "c", "ä", None)]
    assert stream.comments == ["grün", "z"]
    assert stream.raw_bytes == wire


async def test_what_is_done_to_the_comments_changes_no_other_look() -> None:
    stream, _ = await read(b": a\n\n")
    stream.comments.clear()
    assert stream.comments == ["a"]


@pytest.mark.parametrize("name", ["stream-position", "stream-end"])
async def test_an_event_that_only_tells_an_id_is_not_seen_but_gives_its_id(name: str) -> None:
    first, last = (f"event: {name}\nid: {n}\ndata: {{}}\n\n".encode() for n in (7, 8))
    stream, events = await read(first, b"data: 1\n\n", last)
    assert events == [("message", "1", "7", None)]
    assert stream.last_event_id == "8"
    assert stream.raw_bytes == first + b"data: 1\n\n" + last


async def test_a_reset_is_seen() -> None:
    _, events = await read(b"event: stream-reset\ndata: why\n\n")
    assert events == [("stream-reset", "why", "", None)]
