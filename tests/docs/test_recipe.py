"""docs/deploy.md as it is written: its nginx, its unit's command, its program three times."""

from __future__ import annotations

import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest
import trio

from trio_sse import Broadcaster
from trio_sse._core.hub import hub_of
from trio_sse.redis import RedisRelay

from ..support.clients import Http2Client
from ..support.examples import EXAMPLES
from ..support.redis_server import RedisServer
from ..support.site import PORTS, PROGRAM, PYTHON, Browser, Event, rewritten, site, unit
from ..support.waiting import until


def test_the_unit_starts_the_program_at_the_port_that_is_its_instance() -> None:
    service = unit()["Service"]
    assert service["ExecStart"] == f"{PYTHON} {PROGRAM} %i"
    assert (service["Type"], service["Restart"]) == ("exec", "always")
    # Else the fifth restart within ten seconds would be the last.
    assert unit()["Unit"]["StartLimitIntervalSec"] == "0"
    assert int(service["LimitNOFILE"]) == 65536


def test_systemd_finds_no_fault_in_the_unit(tmp_path: Path) -> None:
    text = (EXAMPLES / "sse@.service").read_text("utf-8")
    copy = tmp_path / "sse@8001.service"
    copy.write_text(rewritten(text, {PYTHON: sys.executable}))
    if analyze := shutil.which("systemd-analyze"):
        verified = subprocess.run([analyze, "verify", copy], capture_output=True, check=False)
        assert (verified.returncode, verified.stderr) == (0, b"")
    assert [*unit()] == ["DEFAULT", "Unit", "Service", "Install"]


def in_redis(redis: RedisServer) -> list[Event]:
    entries = redis.ask("XRANGE", "chat", "-", "+")
    return [(event_id.decode(), fields[3].decode()) for event_id, fields in entries]


@pytest.fixture
def stream_of_its_own(redis: RedisServer) -> Iterator[RedisServer]:
    redis.ask("DEL", "chat")
    yield redis
    redis.ask("DEL", "chat")


async def test_browsers_behind_nginx_get_every_event_once_while_processes_are_killed_and_restarted(
    tmp_path: Path, stream_of_its_own: RedisServer
) -> None:
    redis = stream_of_its_own
    async with site(tmp_path, redis) as running, trio.open_nursery() as nursery:
        browsers = [Browser(running) for _ in range(12)]
        for browser in browsers:
            nursery.start_soon(browser.run)
        await until(_seen(browsers, streams=1))
        ids = [await running.say(f"{number}") for number in range(20)]
        running.stop("8002", signal.SIGKILL)
        ids += [await running.say(f"{number}") for number in range(20, 40)]
        running.start("8002")
        await running.wait_ready()
        assert running.stop("8001", signal.SIGTERM) == 0
        ids += [await running.say(f"{number}") for number in range(40, 60)]
        running.start("8001")
        await running.wait_ready()
        while await running.say("the last") is None:
            pass
        await until(lambda: all(browser.is_done() for browser in browsers))
    said = in_redis(redis)
    assert [browser.events for browser in browsers] == [said] * 12
    acknowledged = {event_id for event_id in ids if event_id is not None}
    assert acknowledged <= {event_id for event_id, _ in said}
    assert len(acknowledged) >= 58  # Each process that went may have taken one with it.
    assert sum(browser.streams for browser in browsers) >= 12 + 4 + 4  # A third each time.


def _seen(browsers: list[Browser], *, streams: int) -> Callable[[], bool]:
    return lambda: all(browser.streams >= streams for browser in browsers)


async def test_a_browser_over_http2_gets_events_at_once(
    tmp_path: Path, stream_of_its_own: RedisServer
) -> None:
    async with site(tmp_path, stream_of_its_own) as running:
        client = Http2Client(cast("trio.SocketStream", await running.connect("h2")))
        streams = [await client.request() for _ in range(8)]
        assert [stream.status for stream in streams] == [200] * 8
        event_id = await running.say("hello")
        events = [await stream.receive() for stream in streams]
        assert [(event.id, event.data) for event in events] == [(event_id, "hello")] * 8


async def test_a_browser_comes_back_even_if_there_is_no_process_at_all(
    tmp_path: Path, stream_of_its_own: RedisServer
) -> None:
    async with site(tmp_path, stream_of_its_own) as running:
        for instance in PORTS:
            running.stop(instance, signal.SIGKILL)
        for _ in range(4):  # From the second on nginx knows, and asks nobody.
            answer = await running.ask("GET", "/events")
            assert (answer.status, answer.headers["content-type"]) == (200, "text/event-stream")
            assert await answer.rest() == []
            assert answer.body == b"retry: 3000\n\n"
            assert (await running.ask("POST", "/say", body=b"hello")).status == 502


@pytest.mark.parametrize("more", ["", "+xrevrange"])
async def test_the_user_of_the_page_may_do_what_it_must(
    stream_of_its_own: RedisServer, more: str
) -> None:
    redis = stream_of_its_own
    page = (EXAMPLES.parent / "redis.md").read_text("utf-8")
    (rules,) = re.findall(r"^user sse (.*)$", page, re.MULTILINE)
    redis.ask("ACL", "SETUSER", "sse", *rules.split(), *more.split())
    relay = RedisRelay(redis.url.replace("//", "//sse:PASSWORD@"), stream="chat")
    broadcaster = Broadcaster(strict=False, relay=relay)
    async with trio.open_nursery() as nursery:
        await nursery.start(relay.run)
        with broadcaster.subscribe() as events:
            event_id = await relay.publish("said", "hello")
            assert (await events.receive()).id == event_id
        first_id = redis.ask("XRANGE", "chat", "-", "+")[0][0].decode()
        assert await hub_of(broadcaster).replay(first_id, frozenset()) is not None
        assert relay.statistics().sessions_lost == 0
        nursery.cancel_scope.cancel()
