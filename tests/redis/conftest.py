"""The nodes of the relay's tests."""

from __future__ import annotations

import pytest
import trio

from ..support.redis_server import RedisServer
from ..support.relay_nodes import Nodes


@pytest.fixture
def nodes(nursery: trio.Nursery, redis: RedisServer) -> Nodes:
    return Nodes(nursery, redis)
