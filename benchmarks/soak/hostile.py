"""Ten thousand broken requests, 50 at a time, beside 100 clients that stream: these do not notice.

The clients are the load generator's, which gets an event every 20 ms; the requests are those of
`benchmarks.clients.fuzz`, sent from here. In the end nothing of them is left in the server, and it
ends as a server should. It knows nothing of what the answers are.
"""

from __future__ import annotations

import math
import random
import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any, Final

import trio

from ..clients.fuzz import Attack, Fuzz
from ..load.client import RESET_ON_CLOSE
from ..report.finding import Finding
from ..servers.processes import Load, Server
from ..servers.remains import list_left, no_more_than, wait_until
from ..servers.subjects import site

_CLIENTS: Final = 100
_REQUESTS: Final = 10_000
_AT_ONCE: Final = 50

#: Fifty events, 20 ms apart.
_SECOND: Final = "publish 50 1 64 20"

#: Longer than hypercorn's `keep_alive_timeout`, 5 seconds.
_PATIENCE: Final = 15.0

#: Seconds that a connection lasts at most, and how many of them once all is sent.
_TIMEOUT: Final = 2.0
_LINGER: Final = 0.3

#: How many of the connections are closed with a reset.
_RESETS: Final = 0.3


def check(cache: Path, requests: int = _REQUESTS) -> list[Finding]:
    """Return what the clients missed, and what is left of the hostile."""
    with (
        Server(site(write_timeout=30.0), cache) as server,
        Load(server, _CLIENTS, keep_bodies=True) as load,
    ):
        load.ask(_SECOND)
        before = server.ask("report")
        answers = trio.run(_attack, server.port, load, requests)
        answers.append(load.ask(_SECOND))
        wait_until(server, no_more_than(before), _PATIENCE)
        after = server.ask("report")
        status = _end(server)
    wrong, ended = (max(answer[name] for answer in answers) for name in ("wrong", "ended"))
    meanwhile = f"{requests:,} broken requests, {50 * len(answers):,} events"
    return [
        Finding(f"{meanwhile}: clients that missed any", wrong, 0),
        Finding("clients that were disconnected", ended, 0),
        *list_left(before, after),
        Finding("exit status at SIGTERM", status, 0),
    ]


async def _attack(port: int, load: Load, requests: int) -> list[dict[str, Any]]:
    """Send the requests; meanwhile let events be broadcast, and return what became of them."""
    attacks = islice(iter(Fuzz(seed=1)), requests)
    answers: list[dict[str, Any]] = []
    async with trio.open_nursery() as publishing:
        publishing.start_soon(_publish, load, answers)
        async with trio.open_nursery() as attackers:
            for number in range(_AT_ONCE):
                attackers.start_soon(_send_each, port, attacks, random.Random(number))  # noqa: S311
        publishing.cancel_scope.cancel("all requests are sent")
    return answers


async def _publish(load: Load, answers: list[dict[str, Any]]) -> None:
    while True:
        answers.append(await trio.to_thread.run_sync(load.ask, _SECOND))


async def _send_each(port: int, attacks: Iterator[Attack], chance: random.Random) -> None:
    for attack in attacks:
        with suppress(OSError, trio.BrokenResourceError), trio.move_on_after(_TIMEOUT):
            async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
                if chance.random() < _RESETS:
                    stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
                await _send(stream, attack)
                with trio.move_on_after(chance.random() * _LINGER):
                    while await stream.receive_some():
                        pass


async def _send(stream: trio.SocketStream, attack: Attack) -> None:
    for part in attack.parts:
        await stream.send_all(part)
        await trio.sleep(attack.pause)


def _end(server: Server) -> float:
    """End the server as a service manager does; return its exit status."""
    server.process.terminate()
    try:
        return abs(server.process.wait(_PATIENCE))
    except subprocess.TimeoutExpired:
        return math.inf
