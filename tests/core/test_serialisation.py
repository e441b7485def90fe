"""From the data given to `broadcast` to the text of an event."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import Enum, StrEnum
from typing import Any
from uuid import UUID

import attrs
import msgspec
import pytest
import trio

from trio_sse import Broadcaster, ServerSentEvent


@dataclass
class DataPoint:
    x: int


@attrs.define
class AttrsPoint:
    x: int


class StructPoint(msgspec.Struct):
    x: int


class Colour(Enum):
    RED = "red"


class Kind(StrEnum):
    PRICE = "price"


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("as it is", "as it is"),
        ("", ""),
        ('"quoted"', '"quoted"'),
        ("grün".encode(), "grün"),
        (b"", ""),
        (None, "null"),
        (True, "true"),
        (7, "7"),
        (1.5, "1.5"),
        ([1, "a"], '[1,"a"]'),
        ({"a": {"b": None}}, '{"a":{"b":null}}'),
        ((1, 2), "[1,2]"),
        (DataPoint(1), '{"x":1}'),
        (AttrsPoint(1), '{"x":1}'),
        (StructPoint(1), '{"x":1}'),
        (Colour.RED, '"red"'),
        (Kind.PRICE, "price"),
        (UUID(int=7), '"00000000-0000-0000-0000-000000000007"'),
        (datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC), '"2026-01-02T03:04:05Z"'),
    ],
    ids=repr,
)
async def test_data_is_sent_as_text_or_json(data: object, text: str) -> None:
    broadcaster = Broadcaster(strict=False, history_size=0)
    async with broadcaster.subscribe() as subscription:
        broadcaster.broadcast("x", data)
        assert subscription.receive_nowait() == ServerSentEvent("x", text)


def text(_: object) -> str:
    return "text"


def utf8(_: object) -> bytes:
    return b"text"


@pytest.mark.parametrize("dumps", [text, utf8])
async def test_another_serialiser_may_give_text_or_bytes(
    dumps: Callable[[object], str | bytes],
) -> None:
    broadcaster = Broadcaster(strict=False, dumps=dumps, history_size=0)
    async with broadcaster.subscribe() as subscription:
        broadcaster.broadcast("x", {"any": "thing"})
        assert subscription.receive_nowait().data == "text"


@pytest.mark.parametrize(
    ("event", "data", "error", "message"),
    [
        ("x", b"\xff", ValueError, r"UTF-8, got b'\\xff'"),
        ("x", "a\ud800", ValueError, "lone surrogate"),
        ("x", object(), TypeError, "object"),
        ("x", {"a": object()}, TypeError, "object"),
        ("a\nb", "", ValueError, "CR, LF or NUL"),
        ("", "", ValueError, "must not be empty"),
        (7, "", TypeError, "must be a str"),
    ],
)
async def test_what_cannot_be_sent_raises_in_the_publisher_and_reaches_nobody(
    event: Any, data: object, error: type[Exception], message: str
) -> None:
    broadcaster = Broadcaster(strict=False, history_size=0)
    async with broadcaster.subscribe() as subscription:
        with pytest.raises(error, match=message):
            broadcaster.broadcast(event, data)
        with pytest.raises(trio.WouldBlock):
            subscription.receive_nowait()
    assert broadcaster.statistics().events_broadcast == 0
