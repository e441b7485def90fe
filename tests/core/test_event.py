"""The wire: what an event looks like, and that a reader gets back what was sent."""

from __future__ import annotations

from enum import Enum, StrEnum
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from trio_sse import ServerSentEvent

from ..support import wire
from ..support.events import is_users
from ..support.streams import read
from ..support.thorough import THOROUGH


class Kind(StrEnum):
    PRICE = "price"


class OldKind(str, Enum):  # noqa: UP042 (its format() differs from a StrEnum's)
    PRICE = "price"


@pytest.mark.parametrize(
    ("event", "wire"),
    [
        (ServerSentEvent(), b"data: \n\n"),
        (ServerSentEvent(data="hello"), b"data: hello\n\n"),
        (ServerSentEvent("message", "hello"), b"data: hello\n\n"),
        (ServerSentEvent("price", "42"), b"event: price\ndata: 42\n\n"),
        (
            ServerSentEvent("price", "42", "7", 3000, comment="note"),
            b": note\nid: 7\nretry: 3000\nevent: price\ndata: 42\n\n",
        ),
        (ServerSentEvent(id="", data="x"), b"id: \ndata: x\n\n"),
        (ServerSentEvent(data="x", retry=0), b"retry: 0\ndata: x\n\n"),
        (ServerSentEvent(data="x", retry=2**53 - 1), b"retry: 9007199254740991\ndata: x\n\n"),
        (ServerSentEvent(data=" two"), b"data:  two\n\n"),
        (ServerSentEvent(data="a\nb"), b"data: a\ndata: b\n\n"),
        (ServerSentEvent(data="a\r\nb\rc\n"), b"data: a\ndata: b\ndata: c\ndata: \n\n"),
        (ServerSentEvent(data="\n\r"), b"data: \ndata: \ndata: \n\n"),
        (ServerSentEvent(data="\0"), b"data: \0\n\n"),
        (ServerSentEvent(data="grün €"), "data: grün €\n\n".encode()),
        (ServerSentEvent(data=None), b"\n"),
        (ServerSentEvent("price", data=None, id="7"), b"id: 7\n\n"),
        (ServerSentEvent(data=None, comment="heartbeat"), b": heartbeat\n\n"),
        (ServerSentEvent(data=None, comment="a\rb"), b": a\n: b\n\n"),
        (ServerSentEvent(data=None, comment=""), b": \n\n"),
    ],
)
def test_an_event_has_one_wire_form(event: ServerSentEvent, wire: bytes) -> None:
    assert event.encode() == wire


@pytest.mark.parametrize("separator", ["\u2028", "\u2029", "\x85", "\v", "\f", "\x1c", "\x1e"])
def test_only_cr_and_lf_end_a_line(separator: str) -> None:
    text = f"a{separator}b"
    assert ServerSentEvent(text, text, text).encode() == (
        f"id: {text}\nevent: {text}\ndata: {text}\n\n".encode()
    )


@pytest.mark.parametrize("kind", [Kind.PRICE, OldKind.PRICE])
def test_a_str_enum_goes_out_as_its_value(kind: str) -> None:
    event = ServerSentEvent(kind, kind, kind, comment=kind)
    assert event.encode() == b": price\nid: price\nevent: price\ndata: price\n\n"


def test_an_event_is_encoded_once() -> None:
    event = ServerSentEvent("price", "42")
    assert event.encode() is event.encode()


def test_events_with_the_same_fields_are_equal() -> None:
    assert ServerSentEvent("price", "42", "7") == ServerSentEvent("price", "42", "7")
    assert ServerSentEvent("price", "42", "7") != ServerSentEvent("price", "42", "8")


def test_an_event_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        ServerSentEvent().data = "other"  # type: ignore[misc]  # pyright: ignore[reportAttributeAccessIssue]


def test_the_repr_shows_the_fields_and_not_the_wire() -> None:
    assert repr(ServerSentEvent("price", "42")) == (
        "ServerSentEvent(event='price', data='42', id=None, retry=None, comment=None)"
    )


@pytest.mark.parametrize("end", ["\r", "\n", "\0", "\r\n"])
@pytest.mark.parametrize("field", ["event", "id"])
def test_what_would_end_its_own_line_is_refused(field: str, end: str) -> None:
    value: Any = f"ok{end}data: forged"
    with pytest.raises(ValueError, match=f"{field} must not contain CR, LF or NUL, got 'ok"):
        ServerSentEvent(**{field: value})


def test_an_empty_event_type_is_refused() -> None:
    with pytest.raises(ValueError, match="event must not be empty"):
        ServerSentEvent("")


@pytest.mark.parametrize("field", ["event", "data", "id", "comment"])
def test_a_lone_surrogate_is_refused(field: str) -> None:
    value: Any = "a\ud800b"
    with pytest.raises(ValueError, match=r"lone surrogate '\\ud800'"):
        ServerSentEvent(**{field: value})


@pytest.mark.parametrize("retry", [-1, True, False, 1.0, 1.5, "1000", 2**53, float("nan")])
def test_a_retry_that_no_browser_reads_as_sent_is_refused(retry: Any) -> None:
    with pytest.raises(ValueError, match=f"retry must be .*, got {retry!r}"):
        ServerSentEvent(retry=retry)


@pytest.mark.parametrize("value", [b"bytes", 7, ["list"]])
@pytest.mark.parametrize("field", ["event", "data", "id", "comment"])
def test_what_is_no_text_is_refused(field: str, value: Any) -> None:
    with pytest.raises(TypeError, match=f"{field} must be a str, got") as caught:
        ServerSentEvent(**{field: value})
    assert repr(value) in str(caught.value)


def test_a_long_value_is_shortened_in_the_message() -> None:
    with pytest.raises(ValueError, match="got 'xxx") as caught:
        ServerSentEvent("x" * 100_000 + "\n")
    assert len(str(caught.value)) < 200


@settings(deadline=None, max_examples=100 if THOROUGH else 40)
@given(
    wire.names, st.none() | wire.texts, st.none() | wire.texts, wire.retries, st.none() | wire.texts
)
@example("\ud800", None, None, None, None)
def test_an_event_is_made_exactly_if_it_can_be_sent_faithfully(
    event: str, data: str | None, event_id: str | None, retry: int | None, comment: str | None
) -> None:
    sendable = (
        event != ""
        and wire.is_line(event)
        and (event_id is None or wire.is_line(event_id))
        and all(text is None or wire.is_encodable(text) for text in (data, comment))
        and (retry is None or 0 <= retry < 2**53)
    )
    try:
        made = ServerSentEvent(event, data, event_id, retry, comment=comment)
    except ValueError:
        assert not sendable
    else:
        assert sendable
        assert made.encode().endswith(b"\n")


@settings(deadline=None, max_examples=100 if THOROUGH else 40)
@given(wire.streams, wire.places)
async def test_a_reader_gets_back_what_was_sent_wherever_the_bytes_are_cut(
    events: list[ServerSentEvent], at: list[int]
) -> None:
    expected: list[tuple[str, str, str, int | None]] = []
    last_id = ""
    for event in events:
        last_id = last_id if event.id is None else event.id
        if event.data is not None and is_users(event):
            expected.append((event.event, wire.normalised(event.data), last_id, event.retry))
    stream, received = await read(*wire.cut(b"".join(event.encode() for event in events), at))
    assert received == expected
    assert stream.comments == wire.comment_lines(events)
