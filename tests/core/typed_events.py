"""What type checkers must take, and what they must not: mypy and pyright read it, nobody runs it.

What is wrong with a line is said in it, for mypy; for pyright, only that something is. If one is
taken after all, that is an error by itself: in mypy's strict mode, and in pyright by the next line.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=error

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple, TypedDict, assert_type

import attrs
import msgspec

from trio_sse import Broadcaster, RegisteredEvent


@dataclass
class Price:
    bid: int


class LastPrice(Price):
    pass


@attrs.define
class Wrong:
    bid: int


class Quote(msgspec.Struct):
    bid: int


class Row(TypedDict):
    bid: int


class Pair(NamedTuple):
    bid: int


broadcaster = Broadcaster()


def a_payload_is_of_the_type_of_its_event() -> None:
    price = broadcaster.register_event("price", Price)
    assert_type(price, RegisteredEvent[Price])
    price.broadcast(Price(1))
    price.broadcast(LastPrice(1), topic="ABC")
    price.broadcast(Wrong(1))  # type: ignore[arg-type]
    price.broadcast("text")  # type: ignore[arg-type]
    price.broadcast({"bid": 1})  # type: ignore[arg-type]
    price.broadcast(None)  # type: ignore[arg-type]
    price.broadcast(Price)  # type: ignore[arg-type]


def any_kind_of_class_will_do() -> None:
    quote = broadcaster.register_event("quote", Quote)
    quote.broadcast(Quote(1))
    quote.broadcast(Price(1))  # type: ignore[arg-type]
    row = broadcaster.register_event("row", Row)
    row.broadcast({"bid": 1})
    row.broadcast({"bid": "1"})  # type: ignore[typeddict-item]
    pair = broadcaster.register_event("pair", Pair)
    pair.broadcast(Pair(1))
    pair.broadcast((1,))  # type: ignore[arg-type]


def builtin_types_will_do_too() -> None:
    count = broadcaster.register_event("count", int)
    assert_type(count, RegisteredEvent[int])
    count.broadcast(1)
    count.broadcast("1")  # type: ignore[arg-type]
    levels = broadcaster.register_event("levels", dict[str, int])
    assert_type(levels, RegisteredEvent[dict[str, int]])
    levels.broadcast({"a": 1})
    levels.broadcast({"a": "1"})  # type: ignore[dict-item]
    prices = broadcaster.register_event("prices", list[Price])
    prices.broadcast([Price(1), LastPrice(2)])
    prices.broadcast([Wrong(1)])  # type: ignore[list-item]


def a_handle_can_be_named_with_its_type() -> None:
    price: RegisteredEvent[Price] = broadcaster.register_event("price", Price)
    price.broadcast(Price(1))
    quote: RegisteredEvent[Quote] = price  # type: ignore[assignment]
    quote.broadcast(Quote(1))


def whoever_gives_no_type_may_send_anything() -> None:
    tick = broadcaster.register_event("tick")
    assert_type(tick, RegisteredEvent[Any])
    tick.broadcast(Wrong(1))
    tick.broadcast("text")


def a_topic_is_a_str_and_topics_are_many() -> None:
    price = broadcaster.register_event("price", Price)
    price.broadcast(Price(1), topic=1)  # type: ignore[arg-type]
    price.broadcast(Price(1), "ABC")  # type: ignore[call-arg]
    price.broadcast()  # type: ignore[call-arg]
    broadcaster.subscribe(topics=["ABC"])
    broadcaster.subscribe(topics=[1])  # type: ignore[list-item]
