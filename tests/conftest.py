"""The fixtures of all tests, and which tests a hurried run leaves out."""

from __future__ import annotations

from collections.abc import Generator

import pytest

from trio_sse import sse_app

from .support.doors import DOORS, Door, starlette_door
from .support.redis_server import RedisServer, redis_server
from .support.thorough import THOROUGH

#: Node's tests and a browser's need more than Python: they run when asked for, by their folder.
collect_ignore = ["browser", "interop"]
if not THOROUGH:
    collect_ignore += ["docs/test_examples.py", "docs/test_recipe.py", "redis/test_failures.py"]
    collect_ignore += ["hypercorn/test_rewriting.py", "hypercorn/test_stock_faults.py"]
    collect_ignore += ["program/test_redis_load.py"]


@pytest.fixture(params=list(DOORS.values()), ids=list(DOORS))
def door(request: pytest.FixtureRequest) -> Door:
    """Each way in which an app may serve the same broadcaster; all must behave alike."""
    chosen: Door = request.param
    return chosen


@pytest.fixture(params=[sse_app, starlette_door], ids=["sse_app", "starlette"])
def asgi_door(request: pytest.FixtureRequest) -> Door:
    """The ways in which nothing stands between us and ASGI's `send`."""
    chosen: Door = request.param
    return chosen


@pytest.fixture(scope="session")
def redis() -> Generator[RedisServer]:
    """A server for all tests of this process that leave it as it is."""
    with redis_server() as server:
        yield server
