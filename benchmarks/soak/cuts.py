"""Two hundred clients that are cut at random bytes 5,000 times in all, and miss nothing.

While 20,000 events are sent in random bursts, a half of the connections go through a proxy that
cuts them (`benchmarks.network.proxy`); the others are closed or reset by the client, amid whatever
it has read. Each client comes back as a browser does (`benchmarks.clients.browser`), a tenth with
its last event ID in the query. The history holds all, so no reset is right. By each way to the
socket.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Final

import trio

from ..clients.browser import Browser
from ..clients.reader import CorruptError
from ..clients.sealed import unseal
from ..network.proxy import Proxy, draw_cut, reset_on_close
from ..report.finding import Finding
from ..servers.processes import Server
from ..servers.remains import wait_until
from ..servers.subjects import remembering

_WAYS: Final = ("direct", "portable", "quart")
_CLIENTS: Final = 200
_EVENTS: Final = 20_000
_CUTS: Final = 5_000

#: How many events a burst has at most, of how many characters, and the mean of the pauses.
_BURST, _SIZE, _PAUSE = 40, 100, 0.05

#: Bytes that a connection gets on average.
_MEAN: Final = 60_000

#: The longest time until a client comes back: mostly at once, sometimes after hundreds of events.
_AWAY: Final = (0.0, 0.05, 0.05, 1.0)

_READ: Final = 65536
_PATIENCE: Final = 300.0


@dataclass
class _Ledger:
    """What one client got of the events, which are numbered from 0."""

    next: int = 0
    missing: set[int] = field(default_factory=set[int])
    doubled: int = 0
    disordered: int = 0
    resets: int = 0

    def take(self, kind: str, data: str) -> None:
        if kind != "message":
            self.resets += 1
            return
        number = unseal(data)
        if number >= self.next:
            self.missing.update(range(self.next, number))
            self.next = number + 1
        elif number in self.missing:
            self.missing.remove(number)
            self.disordered += 1
        else:
            self.doubled += 1


@dataclass
class _Run:
    """All that one server's clients have in common."""

    server: Server
    events: int
    proxy: Proxy
    proxied: int = 0
    cuts: int = 0
    aborted: int = 0
    ledgers: list[_Ledger] = field(default_factory=list[_Ledger])
    astray: int = 0
    faults: list[str] = field(default_factory=list[str])


def check(cache: Path, events: int = _EVENTS) -> list[Finding]:
    """Return what was lost, by each way."""
    return [finding for way in _WAYS for finding in _check(cache, way, events)]


def _check(cache: Path, way: str, events: int) -> list[Finding]:
    with Server(remembering(way, events), cache) as server:
        proxy = Proxy(server.port, _MEAN, random.Random(0))  # noqa: S311 (repeatable)
        run = _Run(server, events, proxy)
        trio.run(_follow_all, run, way)
    cuts, ledgers = run.cuts + proxy.cuts, run.ledgers
    late = sum(ledger.next < events for ledger in ledgers)
    wanted = _CUTS * events // _EVENTS
    return [
        Finding(f"{events:,} events, {way}, {cuts:,} cuts: too few", max(0, wanted - cuts), 0),
        Finding(f"clients that did not go the way, {way}", run.astray, 0),
        Finding("; ".join([f"corrupt, {way}", *run.faults[:1]]), len(run.faults), 0),
        Finding(f"clients that had not got to the end in time, {way}", late, 0),
        Finding(f"events lost, {way}", sum(len(ledger.missing) for ledger in ledgers), 0),
        Finding(f"events doubled, {way}", sum(ledger.doubled for ledger in ledgers), 0),
        Finding(f"events out of order, {way}", sum(ledger.disordered for ledger in ledgers), 0),
        Finding(f"false resets, {way}", sum(ledger.resets for ledger in ledgers), 0),
        Finding(f"streams that the server broke off, {way}", run.aborted, 0),
    ]


async def _follow_all(run: _Run, way: str) -> None:
    """Let the clients come; send the events; wait until all clients have them."""
    async with trio.open_nursery() as proxying:
        run.proxied = await proxying.start(run.proxy.run)
        with trio.move_on_after(_PATIENCE + 2 * run.events * _PAUSE / (_BURST / 2)):
            async with trio.open_nursery() as clients:
                for number in range(1, _CLIENTS + 1):
                    clients.start_soon(_follow, run, random.Random(number))  # noqa: S311
                run.astray = await trio.to_thread.run_sync(_count_astray, run.server, way)
                clients.start_soon(_publish, run, random.Random(0))  # noqa: S311
        proxying.cancel_scope.cancel("all is read, or never will be")


def _count_astray(server: Server, way: str) -> int:
    """Wait until all clients are there; return how many are not, or go another way."""
    direct = 0 if way == "portable" else _CLIENTS
    there = {"clients": _CLIENTS, "clients_direct": direct}
    wait_until(server, lambda now: there.items() <= now.items(), _PATIENCE)
    report: dict[str, int] = server.ask("report")
    return max(abs(report[name] - count) for name, count in there.items())


async def _publish(run: _Run, chance: random.Random) -> None:
    left = run.events
    due = time.monotonic()
    while left and run.server.process.poll() is None:
        count = min(left, chance.randint(1, _BURST))
        run.server.tell(" ".join(["seal", *(str(chance.randint(0, _SIZE)) for _ in range(count))]))
        left -= count
        due += chance.uniform(0, 2 * _PAUSE)
        await trio.sleep(max(0, due - time.monotonic()))


async def _follow(run: _Run, chance: random.Random) -> None:
    """Be one client, until it has all."""
    browser, ledger = Browser(by_query=chance.random() < 0.1), _Ledger()
    run.ledgers.append(ledger)
    while ledger.next < run.events and run.server.process.poll() is None:
        # Nobody knows what one has missed who has no ID yet: that one is cut later.
        by_proxy = browser.last_event_id and chance.random() < 0.5
        try:
            if by_proxy:
                await _visit_by_proxy(run, browser, ledger)
            else:
                await _visit(run, browser, ledger, chance)
        except (CorruptError, ValueError) as error:
            run.faults.append(str(error))
        except (OSError, trio.BrokenResourceError):
            pass  # Cut.
        await trio.sleep(chance.uniform(0, chance.choice(_AWAY)))


async def _visit_by_proxy(run: _Run, browser: Browser, ledger: _Ledger) -> None:
    async with await trio.open_tcp_stream("127.0.0.1", run.proxied) as stream:
        await stream.send_all(browser.connect())
        while ledger.next < run.events and (data := await stream.receive_some(_READ)):
            _take(browser, ledger, data)


async def _visit(run: _Run, browser: Browser, ledger: _Ledger, chance: random.Random) -> None:
    """Read some bytes, then leave: with a reset if any are unread or it is drawn, or a FIN."""
    async with await trio.open_tcp_stream("127.0.0.1", run.server.port) as stream:
        if chance.random() < 0.5:
            reset_on_close(stream)
        await stream.send_all(browser.connect())
        left = draw_cut(chance, _MEAN)
        receive = partial(_receive, run, browser, stream)
        while ledger.next < run.events and (left > 0 or not browser.last_event_id):
            if not (data := await receive(max(1, min(left, _READ)))):
                return
            _take(browser, ledger, data)
            left -= len(data)
        run.cuts += left <= 0


async def _receive(
    run: _Run, browser: Browser, stream: trio.SocketStream, size: int
) -> bytes | bytearray:
    """Receive from the server itself, which ends a stream cleanly or not at all."""
    try:
        data = await stream.receive_some(size)
    except trio.BrokenResourceError:
        data = b""
    run.aborted += not data and not browser.ended
    return data


def _take(browser: Browser, ledger: _Ledger, data: bytes | bytearray) -> None:
    for kind, text in browser.feed(bytes(data)):
        ledger.take(kind, text)
