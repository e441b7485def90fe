"""docs/deploy.md as it is written: its nginx, its unit's command, its program three times."""

from __future__ import annotations

import configparser
import os
import re
import secrets
import shutil
import signal
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, cast, final

import attrs
import pytest
import trio
import trustme

from trio_sse import Broadcaster
from trio_sse.redis import RedisRelay

from .redis_servers import RedisServer
from .servers import PATIENCE, Http2Client, Response, until
from .test_examples import EXAMPLES, Visitor

PYTHON: Final = "/opt/sse/.venv/bin/python"
PROGRAM: Final = "/opt/sse/several.py"
PORTS: Final = ("8001", "8002", "8003")

Event = tuple[str, str]


def nginx() -> str:
    """Return where nginx is; without it the test is skipped, but where all must run it fails."""
    found = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if not found:
        hint = "no nginx: apt-get install nginx-light"
        if {"CI", "TRIO_SSE_REQUIRE_REDIS"} & os.environ.keys():
            pytest.fail(hint)
        pytest.skip(hint)
    return found


def free_port() -> int:
    """Return a port that is still free after a restart: systems give others to who connects."""
    while True:
        port = secrets.choice(range(20_000, 32_000))
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)):
                return port


def rewritten(text: str, replacements: dict[str, str]) -> str:
    """Replace what must be there, and there once."""
    for old, new in replacements.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


def unit() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read_string((EXAMPLES / "sse@.service").read_text("utf-8"))
    return parser


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


@final
@attrs.define(eq=False)
class Site:
    """The processes by their ports, and nginx before them."""

    directory: Path
    port: int
    ports: dict[str, int]
    redis_url: str
    authority: trustme.CA
    processes: dict[str, subprocess.Popen[bytes]] = attrs.field(
        factory=dict[str, subprocess.Popen[bytes]]
    )
    streams: list[trio.SocketStream] = attrs.field(factory=list[trio.SocketStream])

    def start(self, instance: str) -> None:
        """Run the unit's command."""
        command = unit()["Service"]["ExecStart"].replace("%i", str(self.ports[instance])).split()
        assert command[:2] == [PYTHON, PROGRAM]
        self.processes[instance] = subprocess.Popen(
            [sys.executable, str(EXAMPLES / "several.py"), *command[2:]],
            env={**os.environ, "REDIS_URL": self.redis_url},
        )

    def stop(self, instance: str, number: signal.Signals) -> int:
        self.processes[instance].send_signal(number)
        return self.processes[instance].wait()

    async def connect(self, protocol: str = "http/1.1") -> trio.SSLStream[trio.SocketStream]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=self.authority.cert_pem.bytes().decode())
        context.set_alpn_protocols([protocol])
        stream = await trio.open_tcp_stream("127.0.0.1", self.port)
        self.streams.append(stream)
        encrypted = trio.SSLStream(
            stream, context, server_hostname="example.org", https_compatible=True
        )
        await encrypted.do_handshake()
        assert encrypted.selected_alpn_protocol() == protocol
        return encrypted

    async def ask(
        self, method: str, path: str, *, last_event_id: str = "", body: bytes = b""
    ) -> Response:
        headers = {"last-event-id": last_event_id} if last_event_id else {}
        visitor = Visitor(cast("trio.SocketStream", await self.connect()))
        return await visitor.ask(method, path, headers, body)

    async def say(self, text: str) -> str | None:
        """Return the id; `None` if the process that was asked has gone."""
        try:
            answer = await self.ask("POST", "/say", body=text.encode())
            await answer.rest()
        except (AssertionError, trio.BrokenResourceError):
            return None
        return answer.body.decode() if answer.status == 200 else None

    async def wait_ready(self) -> None:
        """Wait as a script does that restarts one after another."""
        for port in self.ports.values():
            await _wait_healthy(port)


async def _wait_healthy(port: int) -> None:
    with trio.fail_after(PATIENCE):
        while True:
            if await _is_healthy(port):
                return
            await trio.sleep(0.02)


async def _is_healthy(port: int) -> bool:
    try:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
    except OSError:
        return False
    async with stream:
        return (await Visitor(stream).ask("GET", "/health", {}, b"")).status == 204


@asynccontextmanager
async def site(directory: Path, redis: RedisServer) -> AsyncGenerator[Site]:
    authority = trustme.CA()
    ports = {instance: free_port() for instance in PORTS}
    running = Site(directory, free_port(), ports, redis.url, authority)
    server = _start_nginx(running)
    for instance in PORTS:
        running.start(instance)
    try:
        await running.wait_ready()
        yield running
    finally:
        for stream in running.streams:
            stream.socket.close()
        for process in (server, *running.processes.values()):
            process.terminate()
            process.wait()


def _start_nginx(site: Site) -> subprocess.Popen[bytes]:
    options = ["-p", str(site.directory), "-c", str(_nginx_conf(site)), "-g", "daemon off;"]
    return subprocess.Popen([nginx(), *options])


def _nginx_conf(site: Site) -> Path:
    """Write docs/examples/nginx.conf with nothing changed but addresses and paths."""
    directory = site.directory
    site.authority.issue_cert("example.org").private_key_and_cert_chain_pem.write_to_path(
        str(directory / "both.pem")
    )
    temporary = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    paths = "".join(f"{kind}_temp_path {directory}/{kind}; " for kind in temporary)
    replacements = {
        "user www-data;\n": "",
        "/run/nginx.pid": f"{directory}/pid",
        "http {": f"http {{ access_log off; {paths}",
        "listen 443 ": f"listen 127.0.0.1:{site.port} ",
        "/etc/ssl/example.org.pem": f"{directory}/both.pem",
        "/etc/ssl/example.org.key": f"{directory}/both.pem",
    }
    replacements |= {f"127.0.0.1:{old}": f"127.0.0.1:{new}" for old, new in site.ports.items()}
    copy = directory / "nginx.conf"
    copy.write_text(rewritten((EXAMPLES / "nginx.conf").read_text("utf-8"), replacements))
    return copy


@final
@attrs.define(eq=False)
class Browser:
    """Reads events until one is the last, and comes back whenever its stream ends."""

    site: Site
    events: list[Event] = attrs.field(factory=list[Event])
    last_event_id: str = ""
    streams: int = 0

    async def run(self) -> None:
        while not self.is_done():
            await self._stream()
            await trio.sleep(0.05)  # A browser waits, too, and longer.

    def is_done(self) -> bool:
        return bool(self.events) and self.events[-1][1] == "the last"

    async def _stream(self) -> None:
        try:
            response = await self.site.ask("GET", "/events", last_event_id=self.last_event_id)
        except (AssertionError, OSError, trio.BrokenResourceError):
            return
        assert response.status == 200
        assert response.headers["content-type"].startswith("text/event-stream")
        self.streams += 1
        try:
            async for event in response:
                assert event.event == "said"
                self.events.append((event.id, event.data))
                self._note(response)
                if self.is_done():
                    break
        except trio.BrokenResourceError:
            pass
        self._note(response)

    def _note(self, response: Response) -> None:
        """Remember the last id, be it of an event or of where the stream began."""
        if ids := re.findall(rb"^id: (.*)$", bytes(response.body), re.MULTILINE):
            self.last_event_id = ids[-1].decode()


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


@pytest.mark.parametrize("name", ["sse", "sse-reader"])
async def test_the_users_of_the_page_may_do_what_they_must(
    stream_of_its_own: RedisServer, name: str
) -> None:
    redis = stream_of_its_own
    page = (EXAMPLES.parent / "redis.md").read_text("utf-8")
    (rules,) = re.findall(rf"^user {name} (.*)$", page, re.MULTILINE)
    redis.ask("ACL", "SETUSER", name, *rules.split())
    url = redis.url.replace("//", f"//{name}:PASSWORD@")
    serving, allowed = RedisRelay(url, stream="chat"), RedisRelay(redis.url, stream="chat")
    broadcaster, other = (Broadcaster(strict=False, relay=relay) for relay in (serving, allowed))
    async with trio.open_nursery() as nursery:
        await nursery.start(serving.run)
        await nursery.start(allowed.run)
        with broadcaster.subscribe() as events:
            event_id = await (serving if name == "sse" else allowed).publish("said", "hello")
            assert (await events.receive()).id == event_id
        first = await broadcaster.recall(redis.ask("XRANGE", "chat", "-", "+")[0][0].decode())
        assert first is not None
        assert (serving.statistics().sessions_lost, other.closed) == (0, False)
        if name == "sse-reader":
            broadcaster.broadcast("said", "not by me")
            await until(lambda: "eval" in (serving.statistics().last_error or ""))
        nursery.cancel_scope.cancel()
