"""TLS as openssl's client speaks it, which can ask for new keys as no library of Python's can."""

from __future__ import annotations

import re
import subprocess
from typing import Final

import trio

from trio_sse import Broadcaster, sse_app

from ..support.hardened import hardened
from ..support.waiting import until

EVENTS: Final = 120

#: An order to ask the server for new keys, and to use new ones.
NEW_KEYS: Final = b"K\n"


async def test_a_client_that_asks_for_new_keys_amid_events_misses_none() -> None:
    """Each answer to it is sealed between two events, and is on the wire between them."""
    broadcaster = Broadcaster(strict=False)
    seen = b""
    async with hardened(sse_app(broadcaster)) as served:
        client = await trio.lowlevel.open_process(
            ["openssl", "s_client", "-connect", f"127.0.0.1:{served.secure.port}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert client.stdin
        assert client.stdout
        await client.stdin.send_all(b"GET /events HTTP/1.1\r\nhost: t\r\n\r\n")
        await until(lambda: broadcaster.statistics().clients_direct == 1)
        for number in range(EVENTS):
            broadcaster.broadcast("x", f"{number};")
            if number % 5 == 0:
                await client.stdin.send_all(NEW_KEYS)
            while f"data: {number};" not in seen.decode():
                seen += await client.stdout.receive_some()
        client.kill()
        await client.wait()
    assert re.findall(rb"data: (\d+);", seen) == [b"%d" % number for number in range(EVENTS)]
    assert seen.count(b"KEYUPDATE") >= EVENTS // 5
