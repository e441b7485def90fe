"""The Redis server of the tests, and what it spends."""

from __future__ import annotations

from tests.support.redis_server import PERSISTENT, RedisServer, redis_server

__all__ = ["PERSISTENT", "RedisServer", "cpu", "redis_server"]


def cpu(server: RedisServer) -> float:
    """Return the seconds of CPU that it has used since it was started."""
    lines: list[str] = server.ask("INFO", "cpu").decode().splitlines()
    return sum(
        float(line.partition(":")[2])
        for line in lines
        if line.startswith(("used_cpu_user:", "used_cpu_sys:"))
    )
