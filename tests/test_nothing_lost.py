"""Nothing lost, nothing twice: whatever happens, a client that comes back has seen every event.

Hypothesis makes up what happens; `World` lets it happen, all in virtual time, and checks each
block that arrives: events are those that were broadcast, of the client's topics and of none, in
order and without a gap, unless a ``stream-reset`` says so, and it says so only where it must; the
snapshot is the state as of then. If the story of a failure takes too long to be made short:
``pytest -o faulthandler_timeout=0``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import cycle, islice
from typing import Any, Final

import attrs
import pytest
import trio
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from .model.life import END, Page
from .model.ways import WAYS
from .model.world import Step, World
from .support.thorough import THOROUGH

READERS: Final = 3

#: CI looks at more, in tests of their own: each must end before it is taken for one that hangs.
ROUNDS, EXAMPLES = (8, 150) if THOROUGH else (1, 50)


@pytest.fixture(autouse=True, scope="module")
def small() -> Iterator[None]:
    """Let things happen amid the writer's rounds, and few events be enough for all there is."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trio_sse._delivery.writer._TURN", 1)
        patch.setattr("trio_sse._core.history._BLOCK", 2)
        yield


#: What may be sent as a last event ID, besides the right one.
LIES: Final = (
    "{epoch}-{last}",
    "{epoch}-{oldest}",
    "{epoch}-{too_old}",
    "{epoch}-{next}",
    "{epoch}-0{last}",
    "{epoch}-{last} ",
    "{epoch}-{last}9",
    "{epoch}-",
    "-{last}",
    "{other}-{last}",
    "",
    END,
)


@attrs.frozen
class Broadcast:
    """Some events, of the topics in turn."""

    count: int
    topics: tuple[str | None, ...]
    size: int

    async def happen(self, world: World) -> None:
        world.broadcast(islice(cycle(self.topics), self.count), self.size)


@attrs.frozen
class Request:
    """How a client asks, and how long its stream may last."""

    in_query: bool = False
    decoy: bytes = b""
    stalled: bool = False
    max_age: float = math.inf


REQUESTS: Final = (
    Request(),
    Request(stalled=True),
    Request(in_query=True),
    Request(decoy=b"0-0"),
    Request(max_age=20),
)


@attrs.frozen
class Come:
    """A client loses its connection, if it has one, misses some events, and comes."""

    reader: int
    rested: bool
    way: tuple[str, ...]
    cut: int
    missing: Broadcast
    lie: str | bytes | None
    request: Request

    async def happen(self, world: World) -> None:
        if self.rested:
            await world.settle()
        world.leave(self.reader, cut=self.cut)
        await self.missing.happen(world)
        world.come(
            self.reader,
            self.way,
            lie=self.lie,
            decoy=self.request.decoy,
            in_query=self.request.in_query,
            max_age=self.request.max_age,
        )
        if self.request.stalled:
            world.stall(self.reader)


@attrs.frozen
class Leave:
    reader: int
    cut: int

    async def happen(self, world: World) -> None:
        world.leave(self.reader, cut=self.cut)


@attrs.frozen
class Stall:
    reader: int

    async def happen(self, world: World) -> None:
        world.stall(self.reader)


@attrs.frozen
class Resume:
    reader: int

    async def happen(self, world: World) -> None:
        world.resume(self.reader)


@attrs.frozen
class Disconnect:
    reader: int
    final: bool

    async def happen(self, world: World) -> None:
        world.disconnect(self.reader, final=self.final)


@attrs.frozen
class Close:
    async def happen(self, world: World) -> None:
        world.close()


@attrs.frozen
class Restart:
    async def happen(self, world: World) -> None:
        world.restart()


@attrs.frozen
class GoOn:
    steps: int

    async def happen(self, world: World) -> None:
        await world.go_on(self.steps)


@attrs.frozen
class Settle:
    async def happen(self, world: World) -> None:
        await world.settle()


@attrs.frozen
class Wait:
    seconds: int

    async def happen(self, world: World) -> None:
        await world.wait(self.seconds)


@attrs.frozen
class Meanwhile:
    """Time goes on, and something happens in the moment in which, perhaps, heartbeats are due."""

    seconds: int
    steps: list[Step]

    async def happen(self, world: World) -> None:
        world.broadcast([None], 0)  # Those who take it all have been silent for as long.
        await world.sleep(self.seconds)
        for step in self.steps:
            await step.happen(world)


def weighed(*kinds: tuple[int, st.SearchStrategy[Any]]) -> st.SearchStrategy[Any]:
    """Draw from one of some strategies, each as often as it weighs (`|` knows no weights)."""
    return st.sampled_from([kind for weight, kind in kinds for _ in range(weight)]).flatmap(
        lambda kind: kind
    )


readers = st.integers(0, READERS - 1)
cuts = weighed((3, st.just(0)), (3, st.integers(1, 100)), (1, st.integers(1, 90_000)))
sizes = st.sampled_from([0, 0, 0, 40_000])
garbage = st.binary(max_size=20).map(lambda sent: sent.translate(None, b"\r\n\0"))
lies = weighed((9, st.sampled_from(LIES)), (1, garbage), (1, garbage.map(lambda sent: sent * 999)))
pages = st.builds(
    Page,
    topics=st.sampled_from(["", "a", "a", "b", "ab", "abc"]).map(frozenset),
    snapshot=st.booleans(),
    way=st.sampled_from(WAYS),
)
topics = st.sampled_from(
    [(None,), (None,), ("a",), ("b",), ("a", "b"), ("a", "c"), ("b", None, "c"), ("c", "a", "b")]
)
broadcasts = st.builds(Broadcast, st.sampled_from([1, 2, 3, 5, 12]), topics, sizes)
some = st.builds(Broadcast, st.integers(0, 5), topics, sizes)
disconnects = st.builds(Disconnect, readers, st.booleans())
steps: st.SearchStrategy[Step] = weighed(
    (5, st.just(Settle())),
    (2, st.builds(GoOn, st.integers(1, 20))),
    (5, broadcasts),
    (
        7,
        st.builds(
            Come,
            reader=readers,
            rested=st.sampled_from([True, True, True, False]),
            way=st.sampled_from(WAYS),
            cut=cuts,
            missing=some,
            lie=weighed((7, st.none()), (1, lies)),
            request=st.sampled_from(REQUESTS),
        ),
    ),
    (1, st.builds(Leave, readers, cuts)),
    (2, st.builds(Stall, readers)),
    (2, st.builds(Resume, readers)),
    (2, st.builds(Wait, st.sampled_from([1, 16, 40]))),
    (
        3,
        st.builds(
            Meanwhile,
            seconds=st.sampled_from([15, 30]),
            steps=st.lists(weighed((2, some), (1, disconnects)), min_size=1, max_size=3),
        ),
    ),
    (1, disconnects),
    (1, st.sampled_from([Close(), Restart(), Restart()])),
)
stories = st.lists(steps, max_size=40) | st.lists(steps, min_size=25, max_size=40)


@pytest.mark.parametrize("turn", range(ROUNDS))
@settings(
    max_examples=EXAMPLES,
    deadline=None,
    database=None,
    phases=[Phase.generate, Phase.shrink],  # To explain takes longer than a test may.
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(
    world=st.builds(
        World,
        buffer_size=st.integers(1, 4),
        history_size=st.sampled_from([1, 2, 6, 20]),
        reconnection_time=st.sampled_from([None, (1.0, 2.0)]),
        pages=st.lists(pages, min_size=READERS, max_size=READERS),
    ),
    story=stories,
    seed=st.random_module(),  # Of Trio's order of tasks, among others.
)
def test_a_client_sees_all_that_was_broadcast_or_is_told_that_it_does_not(
    turn: int, world: World, story: list[Step], seed: object
) -> None:
    trio.run(world.run, story, clock=MockClock(autojump_threshold=0))
