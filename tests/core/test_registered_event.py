"""Typed events: what fits is sent as its type has it, what does not reaches nobody."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from enum import IntEnum
from typing import (
    Any,
    Final,
    Generic,
    Literal,
    NamedTuple,
    Optional,
    TypedDict,
    TypeVar,
    get_origin,
)

import attrs
import msgspec
import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_sse import Broadcaster, RegisteredEvent, ServerSentEvent


@dataclass
class DataPrice:
    bid: int
    ask: int = 7


@attrs.define
class AttrsPrice:
    bid: int
    ask: int = 7


class StructPrice(msgspec.Struct):
    bid: int
    ask: int = 7


class TypedDictPrice(TypedDict):
    bid: int


class TuplePrice(NamedTuple):
    bid: int
    ask: int = 7


@dataclass
class Book:
    best: DataPrice
    others: list[DataPrice]


@dataclass
class LastPrice(DataPrice):
    last: int = 5


class LastStructPrice(StructPrice):
    last: int = 5


class Plain:
    """Nothing that msgspec knows."""

    text = "plain"


class Plainer(Plain):
    text = "plainer"


class Model(pydantic.BaseModel):
    text: str


class Level(IntEnum):
    LOW = 1


#: What browsers get: names of fields, and no class can be told from another.
OBJECTS: Final = [DataPrice, AttrsPrice, StructPrice]


def written(data: Any) -> str:
    """Write what msgspec knows nothing of, as a `dumps` of one's own."""
    return data.model_dump_json() if isinstance(data, pydantic.BaseModel) else f"<{data.text}>"


def named(value: object) -> str:
    """Return a test's name for a value, which is the same in each process."""
    return re.sub(r" object at 0x\w+", "", getattr(value, "__name__", repr(value)))[:60]


async def sent(broadcaster: Broadcaster, broadcast: Callable[[], None]) -> Any:
    """Return the data of the one event that this sends, and if it is JSON, what that says."""
    with broadcaster.subscribe() as subscription:
        broadcast()
        assert subscription.queued == 1
        return read((await subscription.receive()).data or "")


def read(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


async def check_refused(
    broadcaster: Broadcaster, broadcast: Callable[[], None], message: str
) -> None:
    """Check that this raises, and that nobody can tell that it was tried."""
    broadcaster.register_event("else")
    before = broadcaster.statistics()
    with broadcaster.subscribe() as subscription:
        with pytest.raises(ValueError, match=message):
            broadcast()
        assert subscription.queued == 0
        broadcaster.broadcast("else", "x")
        event = await subscription.receive()
    assert event.id is not None
    assert event.id.endswith(f"-{before.events_broadcast + 1}")
    assert broadcaster.statistics() == attrs.evolve(
        before, events_broadcast=before.events_broadcast + 1
    )
    if before.events_broadcast == 0:
        start = f"{event.id.partition('-')[0]}-0"
        with broadcaster.subscribe(last_event_id=start) as late:
            assert await late.receive() == ServerSentEvent("else", "x", id=event.id)
            assert late.queued == 0


@pytest.fixture
def broadcaster() -> Broadcaster:
    return Broadcaster()


# What fits


@pytest.mark.parametrize(
    ("payload_type", "payload", "text"),
    [
        *((each, each(1), '{"bid":1,"ask":7}') for each in OBJECTS),
        *((each, {"ask": 2, "bid": 1, "secret": 3}, '{"bid":1,"ask":2}') for each in OBJECTS),
        (TypedDictPrice, {"bid": 1}, '{"bid":1}'),
        (TypedDictPrice, {"bid": 1, "secret": 3}, '{"bid":1}'),
        (TuplePrice, TuplePrice(1), "[1,7]"),
        (TuplePrice, [1, 2], "[1,2]"),
        (
            Book,
            {"best": {"bid": 1, "ask": 2, "secret": 3}, "others": [DataPrice(3), DataPrice(4)]},
            '{"best":{"bid":1,"ask":2},"others":[{"bid":3,"ask":7},{"bid":4,"ask":7}]}',
        ),
        (int, 1, "1"),
        (bool, True, "true"),
        (float, 1.5, "1.5"),
        (float, 2, "2.0"),
        (str, '"as it is"', '"as it is"'),
        (bytes, b"as it is", "as it is"),
        (dict[str, int], {"a": 1}, '{"a":1}'),
        (list[DataPrice], [DataPrice(1)], '[{"bid":1,"ask":7}]'),
        (tuple[int, ...], (1, 2), "[1,2]"),
        (Optional[DataPrice], None, "null"),  # noqa: UP045 (as it is often written)
        (DataPrice | None, {"bid": 1, "ask": 2}, '{"bid":1,"ask":2}'),
        (int | str, "text", "text"),
        (Literal["a", "b"], "b", "b"),
        (Level, 1, "1"),
        (int, Level.LOW, "1"),
        (datetime, datetime(2026, 1, 2, tzinfo=UTC), '"2026-01-02T00:00:00Z"'),
        (datetime, "2026-01-02T00:00:00Z", '"2026-01-02T00:00:00Z"'),
        (None, {"anything": [1]}, '{"anything":[1]}'),
        (None, True, "true"),
        (Any, DataPrice(1), '{"bid":1,"ask":7}'),
    ],
    ids=named,
)
async def test_what_fits_is_sent_as_its_type_has_it(
    broadcaster: Broadcaster, payload_type: Any, payload: Any, text: str
) -> None:
    price = broadcaster.register_event("price", payload_type)
    assert await sent(broadcaster, lambda: price.broadcast(payload)) == read(text)
    assert await sent(broadcaster, lambda: broadcaster.broadcast("price", payload)) == read(text)


FULL: Final = {"bid": 1, "ask": 7}


@pytest.mark.parametrize("price", OBJECTS)
async def test_defaults_are_sent_though_they_were_not_given(
    broadcaster: Broadcaster, price: Any
) -> None:
    event = broadcaster.register_event("price", price)
    assert await sent(broadcaster, lambda: event.broadcast({"bid": 1})) == FULL
    several = broadcaster.register_event("prices", list[price])
    assert await sent(broadcaster, lambda: several.broadcast([{"bid": 1}])) == [FULL]
    named = broadcaster.register_event("named prices", dict[str, price])
    assert await sent(broadcaster, lambda: named.broadcast({"ABC": {"bid": 1}})) == {"ABC": FULL}


@pytest.mark.parametrize(
    ("payload_type", "payload", "text"),
    [
        (DataPrice, LastPrice(1), '{"bid":1,"ask":7,"last":5}'),
        (StructPrice, LastStructPrice(1), '{"bid":1,"ask":7,"last":5}'),
    ],
    ids=["dataclass", "Struct"],
)
async def test_an_instance_of_a_subclass_fits_and_is_sent_whole(
    broadcaster: Broadcaster, payload_type: Any, payload: Any, text: str
) -> None:
    price = broadcaster.register_event("price", payload_type)
    assert await sent(broadcaster, lambda: price.broadcast(payload)) == read(text)


@pytest.mark.parametrize(
    ("payload_type", "payload"),
    [(int, True), (date, datetime(2026, 11, 26, tzinfo=UTC))],
)
def test_an_instance_of_a_subclass_that_json_has_in_another_form_is_refused(
    broadcaster: Broadcaster, payload_type: Any, payload: object
) -> None:
    broadcaster.register_event("event", payload_type)
    with pytest.raises(ValueError, match="'event' does not fit"):
        broadcaster.broadcast("event", payload)


def test_what_is_given_is_left_as_it_is(broadcaster: Broadcaster) -> None:
    payload: Any = {"bid": 1, "secret": 3}
    broadcaster.register_event("price", DataPrice).broadcast(payload)
    assert payload == {"bid": 1, "secret": 3}


@given(bid=st.integers(-(2**63), 2**63 - 1), ask=st.none() | st.integers(0, 9), more=st.booleans())
def test_whatever_the_numbers_a_dict_is_sent_as_the_instance_that_it_stands_for(
    bid: int, ask: int | None, more: bool
) -> None:
    given = {"bid": bid} | ({"ask": ask} if ask is not None else {}) | ({"x": 1} if more else {})
    seen: list[object] = []

    def dumps(data: object) -> bytes:
        seen.append(data)
        return msgspec.json.encode(data)

    price: Any = Broadcaster(dumps=dumps).register_event("price", StructPrice)
    price.broadcast(given)
    assert seen == [StructPrice(bid, 7 if ask is None else ask)]


# What does not fit


@pytest.mark.parametrize(
    ("payload_type", "payload", "fault"),
    [
        *((each, {"bid": "x"}, r"`int`, got `str` - at `\$\.bid`") for each in OBJECTS),
        *((each, {"ask": 1}, "missing required field `bid`") for each in OBJECTS),
        *((each, "text", "got `str`") for each in OBJECTS),
        *((each, None, "got `null`") for each in OBJECTS),
        *((each, Plain(), "got `Plain`") for each in OBJECTS),
        (DataPrice, StructPrice(1), "got `StructPrice`"),
        (StructPrice, LastPrice(1), "got `LastPrice`"),
        (LastPrice, DataPrice(1), "got `DataPrice`"),
        (TypedDictPrice, {"bid": None}, r"`int`, got `null` - at `\$\.bid`"),
        (TypedDictPrice, {}, "missing required field `bid`"),
        (TuplePrice, {"bid": 1}, "`array`, got `object`"),
        (TuplePrice, ["x"], r"`int`, got `str` - at `\$\[0\]`"),
        (
            Book,
            {"best": {"bid": 1}, "others": [{"bid": 1}, {"bid": None}]},
            r"`int`, got `null` - at `\$\.others\[1\]\.bid`",
        ),
        (int, "1", "`int`, got `str`"),
        (int, True, "`int`, got `bool`"),
        (float, True, "`float`, got `bool`"),
        (int | None, False, r"`int \| null`, got `bool`"),
        (bool, 1, "`bool`, got `int`"),
        (DataPrice, {"bid": True}, r"`int`, got `bool` - at `\$\.bid`"),
        (str, 1, "`str`, got `int`"),
        (dict[str, int], {"a": "b"}, "`int`, got `str`"),
        (dict[str, int], {1: 1}, "`str`, got `int`"),
        (list[int], [1, None], r"`int`, got `null` - at `\$\[1\]`"),
        (DataPrice | None, 1, "got `int`"),
        (Literal["a"], "b", "Invalid enum value"),
        (datetime, "yesterday", "Invalid RFC3339"),
    ],
    ids=named,
)
async def test_what_does_not_fit_reaches_nobody_and_the_message_names_event_and_field(
    broadcaster: Broadcaster, payload_type: Any, payload: Any, fault: str
) -> None:
    price = broadcaster.register_event("price", payload_type)
    message = rf"payload of event 'price' does not fit .*{fault}.*; got "
    await check_refused(broadcaster, lambda: price.broadcast(payload), message)
    await check_refused(broadcaster, lambda: broadcaster.broadcast("price", payload), message)


async def test_what_a_class_itself_refuses_reaches_nobody(broadcaster: Broadcaster) -> None:
    @attrs.define
    class Positive:
        bid: int = attrs.field(validator=attrs.validators.gt(0))

    price = broadcaster.register_event("price", Positive)
    wrong: Any = {"bid": -1}
    await check_refused(
        broadcaster, lambda: price.broadcast(wrong), "event 'price'.*'bid' must be > 0: -1"
    )


def test_a_long_payload_is_shortened_in_the_message(broadcaster: Broadcaster) -> None:
    price = broadcaster.register_event("price", DataPrice)
    long: Any = {"bid": "x" * 100_000}
    with pytest.raises(ValueError, match="does not fit") as caught:
        price.broadcast(long)
    assert len(str(caught.value)) < 300


async def test_in_a_broadcaster_that_is_not_strict_nothing_is_checked_or_converted() -> None:
    broadcaster = Broadcaster(strict=False)
    price = broadcaster.register_event("price", DataPrice)
    wrong: Any = {"secret": 1}
    assert await sent(broadcaster, lambda: price.broadcast(wrong)) == {"secret": 1}
    assert await sent(broadcaster, lambda: broadcaster.broadcast("price", "text")) == "text"


# Types that msgspec does not know


@pytest.mark.parametrize(
    ("payload_type", "payload", "text"),
    [
        (Plain, Plain(), "<plain>"),
        (Plain, Plainer(), "<plainer>"),
        (Model, Model(text="model"), '{"text":"model"}'),
    ],
    ids=["class", "subclass", "pydantic"],
)
async def test_a_class_that_msgspec_does_not_know_is_written_by_dumps(
    payload_type: Any, payload: Any, text: str
) -> None:
    broadcaster = Broadcaster(dumps=written)
    event = broadcaster.register_event("event", payload_type)
    assert await sent(broadcaster, lambda: event.broadcast(payload)) == read(text)


@pytest.mark.parametrize(
    ("payload_type", "payload"),
    [(Plain, {"text": "x"}), (Plainer, Plain())],
    ids=named,
)
async def test_a_class_that_msgspec_does_not_know_takes_its_instances_only(
    payload_type: Any, payload: Any
) -> None:
    broadcaster = Broadcaster(dumps=written)
    event = broadcaster.register_event("event", payload_type)
    message = f"'event' does not fit {payload_type.__name__}: .* got `{type(payload).__name__}`"
    await check_refused(broadcaster, lambda: event.broadcast(payload), message)


def test_without_a_dumps_that_knows_them_they_reach_nobody(broadcaster: Broadcaster) -> None:
    event = broadcaster.register_event("event", Plain)
    with pytest.raises(TypeError, match="Plain"):
        event.broadcast(Plain())
    assert broadcaster.statistics().events_broadcast == 0


# Registering


@pytest.mark.parametrize(
    "payload_type", [None, int, DataPrice, int | None, dict[str, int], Plain], ids=named
)
def test_the_same_type_again_gives_the_same_handle(
    broadcaster: Broadcaster, payload_type: Any
) -> None:
    first = broadcaster.register_event("price", payload_type)
    assert broadcaster.register_event("price", payload_type) is first
    assert broadcaster.register_event("other", payload_type) is not first
    assert isinstance(first, RegisteredEvent)
    assert (first.name, first.payload_type) == ("price", payload_type)
    assert broadcaster.event_types == {"price", "other"}


def test_one_type_may_be_written_in_several_ways(broadcaster: Broadcaster) -> None:
    first = broadcaster.register_event("price", Optional[int])  # noqa: UP045 (on purpose)
    assert broadcaster.register_event("price", int | None) is first


@pytest.mark.parametrize(
    ("first", "second"),
    [(int, str), (None, int), (int, None), (DataPrice, LastPrice), (int, int | None)],
    ids=named,
)
def test_another_type_for_the_same_event_is_refused(
    broadcaster: Broadcaster, first: Any, second: Any
) -> None:
    broadcaster.register_event("price", first)
    with pytest.raises(ValueError, match=r"'price' is registered with payload type .*, not "):
        broadcaster.register_event("price", second)
    assert broadcaster.register_event("price", first).payload_type == first


@pytest.mark.parametrize(
    "payload_type",
    [42, "int", ..., [int], (int, str), DataPrice(1), len, StructPrice | LastStructPrice],
    ids=named,
)
def test_what_is_no_type_or_cannot_be_checked_is_refused_when_it_is_registered(
    broadcaster: Broadcaster, payload_type: Any
) -> None:
    with pytest.raises(TypeError, match=r"payload_type .* cannot be checked"):
        broadcaster.register_event("price", payload_type)
    assert broadcaster.event_types == frozenset()


# The handle


async def test_a_handle_broadcasts_to_a_topic(broadcaster: Broadcaster) -> None:
    price = broadcaster.register_event("price", StructPrice)
    with broadcaster.subscribe(topics=["ABC"]) as ours, broadcaster.subscribe() as theirs:
        price.broadcast(StructPrice(1), topic="ABC")
        price.broadcast(StructPrice(2))
        bids = [read((await each.receive()).data or "")["bid"] for each in (ours, ours, theirs)]
        assert bids == [1, 2, 2]
        assert ours.queued == theirs.queued == 0


def test_a_handle_says_what_it_is_without_its_broadcaster(broadcaster: Broadcaster) -> None:
    shown = repr(broadcaster.register_event("price", int))
    assert shown == "RegisteredEvent(name='price', payload_type=<class 'int'>)"


def test_a_handle_can_be_a_key_and_is_only_itself(broadcaster: Broadcaster) -> None:
    first = broadcaster.register_event("price", dict[str, int])
    second = Broadcaster().register_event("price", dict[str, int])
    assert len({first, second}) == 2


T = TypeVar("T")


@dataclass
class Reading:
    value: float


@dataclass
class Box(Generic[T]):
    content: T
    label: str = "no label"


@pytest.mark.parametrize("payload_type", [Box[int], list[Box[int]], dict[str, Box[int]]])
async def test_defaults_of_generic_dataclasses_are_sent(payload_type: Any) -> None:
    broadcaster = Broadcaster()
    event = broadcaster.register_event("event", payload_type)
    box = {"content": 1}
    payload: Any = {list: [box], dict: {"a": box}}.get(get_origin(payload_type), box)
    with broadcaster.subscribe() as subscription:
        event.broadcast(payload)
        received: Any = json.loads((await subscription.receive()).data or "")
    whole = {"content": 1, "label": "no label"}
    assert received in (whole, [whole], {"a": whole})


class Wrapper(pydantic.BaseModel):
    models: list[Model]
    at: datetime


async def test_pydantic_models_are_sent_as_they_say_without_a_dumps() -> None:
    broadcaster = Broadcaster()
    event = broadcaster.register_event("wrapper", Wrapper)
    broadcaster.register_event("any")
    moment = datetime(2026, 11, 26, tzinfo=UTC)
    with broadcaster.subscribe() as subscription:
        event.broadcast(Wrapper(models=[Model(text="a")], at=moment))
        event.broadcast({"models": [{"text": "a"}], "at": "2026-11-26T00:00:00Z"})  # type: ignore[arg-type]
        broadcaster.broadcast("any", {"nested": [Model(text="a")]})
        first, second, third = [await subscription.receive() for _ in range(3)]
    assert first.data == second.data == '{"models":[{"text":"a"}],"at":"2026-11-26T00:00:00Z"}'
    assert third.data == '{"nested":[{"text":"a"}]}'


def test_what_a_pydantic_model_refuses_reaches_nobody() -> None:
    broadcaster = Broadcaster()
    broadcaster.register_event("wrapper", Wrapper)
    with pytest.raises(ValueError, match="'wrapper' does not fit Wrapper"):
        broadcaster.broadcast("wrapper", {"models": [{"text": 1}], "at": "never"})


def test_instances_of_the_users_own_are_left_as_they_are() -> None:
    """Even within what is converted, and with a default that is not their own."""
    broadcaster = Broadcaster()
    event = broadcaster.register_event("event", list[DataPrice])
    own = DataPrice(bid=1)
    before = dict(vars(own))
    event.broadcast([own, {"bid": 2}])  # type: ignore[list-item]
    assert vars(own) == before


@pytest.mark.parametrize(
    ("payload_type", "payload"),
    [
        (float, math.nan),
        (float | None, math.inf),
        (dict[str, list[float]], {"a": [1.0, -math.inf]}),
        (Reading, Reading(math.nan)),
        (Reading, {"value": math.nan}),
    ],
)
def test_what_json_has_no_number_for_is_refused(payload_type: Any, payload: Any) -> None:
    """It would be sent as null."""
    broadcaster = Broadcaster()
    broadcaster.register_event("event", payload_type)
    with pytest.raises(
        ValueError, match=r"'event' does not fit .*: JSON has no number for -?(nan|inf)"
    ):
        broadcaster.broadcast("event", payload)
