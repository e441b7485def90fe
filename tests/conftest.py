"""The fixtures of all tests, and which tests a hurried run leaves out."""

from __future__ import annotations

from collections.abc import Generator, Iterator

import pytest
from trio.testing import MockClock

from trio_sse import Broadcaster, sse_app

from .support.apps import APPS, AppOf, starlette_app
from .support.redis_server import RedisServer, redis_server
from .support.thorough import THOROUGH
from .support.ways import WAYS, Way

#: Node's tests and a browser's need more than Python: they run when asked for, by their folder.
collect_ignore = ["browser", "interop"]
if not THOROUGH:
    collect_ignore += ["docs/test_examples.py", "docs/test_recipe.py"]
    collect_ignore += ["redis/test_access.py", "redis/test_failures.py", "redis/test_slow_link.py"]
    collect_ignore += ["redis/test_wrong_settings.py", "redis/test_sentinel.py"]
    collect_ignore += ["hypercorn/test_rewriting.py", "hypercorn/test_stock_faults.py"]
    collect_ignore += ["hypercorn/test_proxies.py", "program/test_redis_load.py"]


@pytest.fixture
def broadcaster() -> Broadcaster:
    """A broadcaster of any events; where a folder or a file has another one, that is used."""
    return Broadcaster(strict=False)


@pytest.fixture(params=list(APPS.values()), ids=list(APPS))
def app_of(request: pytest.FixtureRequest) -> AppOf:
    """Each way in which an app may serve the same broadcaster; all must behave alike."""
    chosen: AppOf = request.param
    return chosen


@pytest.fixture(params=[sse_app, starlette_app], ids=["sse_app", "starlette"])
def asgi_app_of(request: pytest.FixtureRequest) -> AppOf:
    """The ways in which nothing stands between us and ASGI's `send`."""
    chosen: AppOf = request.param
    return chosen


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest) -> Way:
    """Each way in which a stream with options reaches its client."""
    return WAYS[request.param]()


@pytest.fixture(scope="session")
def redis() -> Generator[RedisServer]:
    """A server for all tests of this process that leave it as it is."""
    with redis_server() as server:
        yield server


@pytest.fixture
def short_turns() -> Iterator[None]:
    """Let the writer write to one client at a time, so that something happens amid its rounds."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("trio_sse._delivery.writer._TURN", 1)
        yield


@pytest.fixture
def jumping_clock() -> MockClock:
    """Return a clock that runs as the real one does, and can be set forward."""
    return MockClock(rate=1.0)
