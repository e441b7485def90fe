"""What coredis itself costs: XADD in one process, XREAD BLOCK in another, and nothing else.

    python -m benchmarks.redis.plain read|write PORT plain|pinned COUNT PAUSE BATCH

``plain`` is the client's own way, by `xadd` and `xread`; ``pinned`` is one connection of a pool, as
`trio_sse.redis` uses it. A writer adds so many events, in batches, with a pause of so many
milliseconds before each. A reader says ``{}`` when it is there, takes
so many, and tells as JSON how many milliseconds each was under way, and how many came in a second.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any, Final, cast

import coredis
import trio
from coredis.connection import BaseConnection
from coredis.retry import NoRetryPolicy

from ..load.payload import STAMP, Payloads

_STREAM: Final = "plain"
_SIZE: Final = 64
_COUNT: Final = 500
_BLOCK: Final = 5000


#: An id, and names and values in turn.
_Entry = tuple[bytes, list[bytes]]


class _Plain:
    """The client's own way."""

    def __init__(self, client: coredis.Redis[bytes]) -> None:
        self._client = client

    async def add(self, texts: list[str]) -> None:
        """Add events to the stream."""
        if len(texts) == 1:
            await self._client.xadd(_STREAM, field_values={"data": texts[0]})
            return
        async with self._client.pipeline(transaction=False) as pipe:
            for text in texts:
                pipe.xadd(_STREAM, field_values={"data": text})

    async def read(self, after: bytes) -> tuple[bytes, list[bytes]]:
        """Return the last id and the data of what follows an id."""
        reply = await self._client.xread({_STREAM: after}, count=_COUNT, block=_BLOCK) or {}
        entries = [entry for stream in reply.values() for entry in stream]
        data = [_bytes(entry.field_values[b"data"]) for entry in entries]
        return (_bytes(entries[-1].identifier) if entries else after), data


class _Pinned:
    """One connection, and its requests."""

    def __init__(self, connection: BaseConnection) -> None:
        self._connection = connection

    async def add(self, texts: list[str]) -> None:
        """Add events to the stream."""
        request = self._connection.create_request
        replies = [request(b"XADD", _STREAM, b"*", b"data", text) for text in texts]
        for reply in replies:
            await reply

    async def read(self, after: bytes) -> tuple[bytes, list[bytes]]:
        """Return the last id and the data of what follows an id."""
        options = (b"COUNT", _COUNT, b"BLOCK", _BLOCK, b"STREAMS", _STREAM, after)
        reply = await self._connection.create_request(b"XREAD", *options, decode=False)
        streams = cast("dict[bytes, list[_Entry]]", reply or {})
        entries = [entry for stream in streams.values() for entry in stream]
        return (entries[-1][0] if entries else after), [fields[1] for _, fields in entries]


def _bytes(value: bytes | str) -> bytes:
    """Return what is bytes, unless the client was told to decode."""
    return value if isinstance(value, bytes) else value.encode()


async def _write(way: _Plain | _Pinned, count: int, pause: float, batch: int) -> None:
    payloads, due = Payloads(), time.monotonic()
    for _ in range(0, count, batch):
        due += pause
        if pause:
            await trio.sleep(max(0, due - time.monotonic()))
        await way.add([payloads.next(_SIZE) for _ in range(batch)])


async def _read(way: _Plain | _Pinned, count: int) -> dict[str, object]:
    after, delays = b"0-0", list[float]()
    began = 0.0
    print("{}", flush=True)
    while len(delays) < count:
        after, data = await way.read(after)
        now = time.monotonic_ns()
        began = began or time.monotonic()
        delays += [(now - int(stamp[1])) / 1e6 for text in data for stamp in STAMP.findall(text)]
    return {"delays": delays, "rate": (count - 1) / (time.monotonic() - began)}


async def _work(way: _Plain | _Pinned, verb: str, count: int, pause: float, batch: int) -> None:
    if verb == "write":
        await _write(way, count, pause, batch)
    else:
        print(json.dumps(await _read(way, count)), flush=True)


async def _run(verb: str, port: int, way: str, count: int, pause: float, batch: int) -> None:
    options: Any = {"retry_policy": NoRetryPolicy()} if way == "pinned" else {}
    async with coredis.Redis(port=port, **options) as client:
        if way == "plain":
            await _work(_Plain(client), verb, count, pause, batch)
            return
        async with client.connection_pool.acquire() as connection:
            await _work(_Pinned(connection), verb, count, pause, batch)


if __name__ == "__main__":
    verb, port, way, count, pause, batch = sys.argv[1:]
    trio.run(_run, verb, int(port), way, int(count), float(pause) / 1000, int(batch))
