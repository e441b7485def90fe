"""Browsers, each a process that opens one page, which reports what it sees."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import ssl
import subprocess
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Final, final

import pytest

from ..support.asgi import END, HEAD, App, Message, Receive, Send, chunk, with_lifespan
from ..support.hardened import certificate
from ..support.server import serving
from ..support.thorough import miss
from ..support.visitors import Told
from ..support.waiting import until

#: What an EventSource told its page, and when, in seconds: an event's type and the beginning of its
#: data, or the readyState that came with the browser's own ``open`` and ``error``.
Seen = tuple[str, str | int, float]

#: EventSource.CLOSED: it has given up.
CLOSED: Final = 2

PAGE: Final = (Path(__file__).parent / "page.html").read_bytes()


def chromium(home: Path) -> list[str]:
    """Return the command that starts it, without a name of any host being looked up."""
    names = "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1"
    return [
        *("chromium", "--headless", "--no-sandbox", "--no-first-run"),
        *(names, "--ignore-certificate-errors", f"--user-data-dir={home}"),
    ]


def firefox(home: Path) -> list[str]:
    """Return the same of Firefox, which asks its makers for more than a page."""
    preferences = {
        "network.dns.disabled": True,
        "datareporting.policy.dataSubmissionEnabled": False,
    }
    lines = [f'user_pref("{name}", {json.dumps(value)});\n' for name, value in preferences.items()]
    (home / "user.js").write_text("".join(lines))
    return ["firefox-esr", "--headless", "--no-remote", "--profile", str(home)]


@final
class Browser:
    """A browser that opens a page, and that page's server but for its stream."""

    def __init__(self, command: list[str], home: Path) -> None:
        self.seen: list[Seen] = []
        self.requests = 0  # Those for the stream.
        self.stream: App
        self.reports_at = 0  # A port for `take_report`.
        self._command = command
        self._home = home
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def told(self) -> list[Told]:
        """The events of a stream, without the browser's own."""
        own = ("open", "error")
        return [(kind, str(value)) for kind, value, _ in self.seen if kind not in own]

    @property
    def has_given_up(self) -> bool:
        return ("error", CLOSED) in [(kind, value) for kind, value, _ in self.seen]

    def count(self, kind: str) -> int:
        return [seen[0] for seen in self.seen].count(kind)

    def site(self, stream: App) -> App:
        """Return the page, and beside it a stream that may be exchanged for another."""
        self.stream = stream
        return self._serve

    async def visit(self, port: int) -> None:
        """Start, and return when the page asks for its stream."""
        self._start(f"http://127.0.0.1:{port}/?{self.reports_at}")
        await until(lambda: self.requests > 0)

    def visit_securely(self, port: int) -> None:
        """Start with the page of a server whose certificate is that of the tests."""
        pem, end, _ = (
            Path(certificate()[0]).read_text("ascii").partition("-----END CERTIFICATE-----")
        )
        digest = hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem + end)).digest()
        trusted = ("OID.2.16.840.1.101.3.4.2.1", digest.hex(":").upper(), "")  # By its SHA-256.
        line = "\t".join((f"127.0.0.1:{port}:", *trusted))
        (self._home / "cert_override.txt").write_text(f"{line}\n")  # Firefox asks for it there.
        self._start(f"https://127.0.0.1:{port}/")

    async def take_report(self, _: Message, receive: Receive, send: Send) -> None:
        """Serve the port for what the page sees."""
        message = await receive()
        body: bytes = message["body"]
        while message["more_body"]:
            message = await receive()
            body += message["body"]
        self.seen = [(kind, value, at) for kind, value, at in json.loads(body)]
        await send({**HEAD, "status": 204})
        await send(END)

    def kill(self) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            shutil.rmtree(self._home, ignore_errors=True)  # Megabytes.

    def _start(self, url: str) -> None:
        home = {**os.environ, "HOME": str(self._home)}
        self._process = subprocess.Popen([*self._command, url], env=home, start_new_session=True)

    async def _serve(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and scope["path"] == "/":
            await send({**HEAD, "headers": [(b"content-type", b"text/html; charset=utf-8")]})
            await send(chunk(PAGE, last=True))
            return
        self.requests += scope["type"] == "http"
        await self.stream(scope, receive, send)


@pytest.fixture(params=[chromium, firefox], ids=["chromium", "firefox"])
async def browser(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncGenerator[Browser]:
    command: list[str] = request.param(tmp_path)
    if not shutil.which(command[0]):
        miss(f"no {command[0]}: apt-get install {command[0]}")
    browser = Browser(command, tmp_path)
    async with serving(with_lifespan(browser.take_report)) as reports:
        browser.reports_at = reports.port
        try:
            yield browser
        finally:
            browser.kill()
