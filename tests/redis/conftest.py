"""The nodes and servers of the relay's tests."""

from __future__ import annotations

from collections.abc import Generator

import pytest
import trio

from ..support.redis_server import RedisServer, redis_server
from ..support.relay_nodes import Nodes


@pytest.fixture
def nodes(nursery: trio.Nursery, redis: RedisServer) -> Nodes:
    return Nodes(nursery, redis)


@pytest.fixture
def server() -> Generator[RedisServer]:
    """A server that forgets all when it ends."""
    with redis_server() as server:
        yield server
