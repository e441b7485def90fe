"""Libraries that read event streams, each a program of its own that comes back by itself."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio

from ..support import visitors
from ..support.libraries import PROGRAMS, Library
from ..support.visitors import Visitor


@pytest.fixture(params=PROGRAMS)
def library(request: pytest.FixtureRequest, nursery: trio.Nursery) -> Visitor:
    return Library(request.param, nursery)


@pytest.mark.parametrize("story", visitors.STORIES)
async def test_a_library_misses_nothing_and_stops_when_it_is_told_to(
    library: Visitor, story: Callable[[Visitor], Awaitable[None]]
) -> None:
    await story(library)
