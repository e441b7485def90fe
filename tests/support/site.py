"""The site of docs/deploy.md: nginx, three processes behind it, and its browsers."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, cast, final

import attrs
import trio
import trustme

from .clients import Http1Client, Response
from .examples import EXAMPLES
from .redis_server import RedisServer
from .tcp import free_port
from .thorough import miss
from .waiting import PATIENCE

PYTHON: Final = "/opt/sse/.venv/bin/python"

PROGRAM: Final = "/opt/sse/several.py"

PORTS: Final = ("8001", "8002", "8003")

Event = tuple[str, str]


def nginx() -> str:
    found = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if not found:
        miss("no nginx: apt-get install nginx-light")
    return found


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
        client = Http1Client(cast("trio.SocketStream", await self.connect()))
        return await client.request(method, path, headers, body)

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
        return (await Http1Client(stream).request("GET", "/health")).status == 204


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
