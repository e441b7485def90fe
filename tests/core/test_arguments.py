"""Bad arguments are refused where they are given: what was given, what is allowed, and the fix."""

from __future__ import annotations

import inspect
import math
from collections.abc import AsyncGenerator, Callable
from functools import partial
from typing import Any

import pytest
import trio

from trio_sse import Broadcaster, ServerSentEvent, producer_app, sse_app, sse_route

broadcaster = Broadcaster(strict=False)

#: The same without their types, for wrong arguments.
app: Any = sse_app
route: Any = sse_route
produce: Any = producer_app
make: Any = Broadcaster


async def asynchronous() -> list[tuple[str, object]]:
    await trio.lowlevel.checkpoint()
    return []


async def generator() -> AsyncGenerator[ServerSentEvent]:
    await trio.lowlevel.checkpoint()
    yield ServerSentEvent()


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (partial(app, "x"), TypeError, "a trio_sse.Broadcaster is wanted, got 'x'"),
        (partial(route, None), TypeError, "a trio_sse.Broadcaster is wanted, got None"),
        (
            partial(app, broadcaster, headers=[("a", "b", "c")]),
            TypeError,
            r"\(name, value\) pairs .* got \('a', 'b', 'c'\)",
        ),
        (partial(app, broadcaster, headers={"a": 1}), TypeError, r"got \('a', 1\)"),
        (
            partial(app, broadcaster, snapshot=[("a", 1)]),
            TypeError,
            "snapshot must be a function that returns .* got ",
        ),
        (partial(app, broadcaster, snapshot=generator), TypeError, "must not be asynchronous"),
        (partial(route, broadcaster, key=asynchronous), TypeError, "key must not be asynchronous"),
        (partial(route, broadcaster, topics=asynchronous), TypeError, "topics must not be async"),
        (partial(app, broadcaster, headers=None), TypeError, "headers must be .* got None"),
        (partial(make, relay="redis://"), TypeError, r"such as RedisRelay\(url\), got 'redis://'"),
        (partial(broadcaster.broadcast, ["a"], 1), TypeError, r"event must be a str, got \['a'\]"),  # type: ignore[arg-type]
        (partial(broadcaster.disconnect, ["a"]), TypeError, "key must be hashable"),  # type: ignore[arg-type]
        (partial(app, broadcaster, snapshot=asynchronous), TypeError, "must not be asynchronous"),
        (
            partial(app, broadcaster, key=["a"]),
            TypeError,
            r"key must be hashable.* got \['a'\]",
        ),
        (partial(app, broadcaster, key_limit=2), ValueError, "key_limit=2 .* give a key"),
        (partial(route, broadcaster, key_limit=2), ValueError, "key_limit=2 .* give a key"),
        (partial(app, broadcaster, topics="abc"), TypeError, "topics must be a collection"),
        (partial(make, reconnection_time=5), ValueError, r"such as \(1, 5\), got 5"),
        (partial(make, reconnection_time=("1", "5")), ValueError, r"got \('1', '5'\)"),
        (partial(make, reconnection_time=(1, math.inf)), ValueError, r"got \(1, inf\)"),
        (partial(make, reconnection_time=(5, 1)), ValueError, r"got \(5, 1\)"),
        (partial(make, dumps=None), TypeError, "dumps must be a function .* got None"),
        (partial(produce, None), TypeError, "trio.as_safe_channel, .* got None"),
        (partial(produce, generator), TypeError, "trio.as_safe_channel, .* got <function"),
        (lambda: produce(generator()), TypeError, "got <async_generator"),
    ],
)
def test_what_cannot_be_meant_is_refused_with_the_fix(
    call: Callable[[], Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        call()


def test_the_signature_tells_that_a_stream_is_nobodys_unless_it_has_a_key() -> None:
    assert str(inspect.signature(sse_app).parameters["key"]) == "key: 'Hashable' = None"


def test_headers_may_be_a_mapping() -> None:
    sse_app(broadcaster, headers={"x-a": "b"})
    sse_app(broadcaster, headers={b"x-a": b"b"})


def test_a_limit_may_be_given_with_a_key_that_is_nobodys() -> None:
    sse_app(broadcaster, key=None, key_limit=2)


def test_a_subscription_outside_of_trio_is_refused_with_the_fix() -> None:
    with pytest.raises(RuntimeError, match=r"subscribe\(\) must be called inside trio\.run"):
        broadcaster.subscribe()


async def test_what_dumps_returns_is_looked_at() -> None:
    await trio.lowlevel.checkpoint()
    careless = Broadcaster(strict=False, dumps=lambda _: None)  # type: ignore[arg-type, return-value]
    with pytest.raises(TypeError, match="dumps must return str or bytes, got None"):
        careless.broadcast("x", {})


def test_data_that_contains_itself_is_refused_with_its_event() -> None:
    endless: list[object] = []
    endless.append(endless)
    with pytest.raises(ValueError, match="data of event 'x' contains itself"):
        broadcaster.broadcast("x", endless)


def test_data_that_is_no_json_is_refused_with_its_event_and_the_fix() -> None:
    with pytest.raises(TypeError, match=r"event 'x' .* objects of type object .*\(dumps=\.\.\.\)"):
        broadcaster.broadcast("x", {"a": [object()]})


async def test_the_last_event_id_of_a_subscription_is_a_str() -> None:
    await trio.lowlevel.checkpoint()
    with pytest.raises(TypeError, match="last_event_id must be a str, got b'x'"):
        broadcaster.subscribe(last_event_id=b"x")  # type: ignore[arg-type]
