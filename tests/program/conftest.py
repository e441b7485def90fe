"""The fixture of the program's tests with Redis."""

from __future__ import annotations

import pytest

from ..support.redis_server import RedisServer


@pytest.fixture
def shared(redis: RedisServer, request: pytest.FixtureRequest) -> tuple[str, ...]:
    """The arguments of programs that share a stream of this test's own."""
    return ("serve", "--redis", redis.url, "--stream", request.node.name)
