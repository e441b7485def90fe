"""A client whose link goes down while it streams, by each protocol, plain and with TLS.

The client is in a network namespace (`benchmarks.network.namespace`), so nothing of it is heard any
more: no FIN, no RST, no acknowledgement. Timed from the first event that cannot be delivered until
the server has nothing left of it.
"""

from __future__ import annotations

import math
import subprocess
import tempfile
import time
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from ..network.namespace import HERE, missing, open_namespace
from ..report.finding import Finding
from ..servers.certificate import make_certificate
from ..servers.processes import Server
from ..servers.remains import no_more_than, report_at_rest, wait_until
from ..servers.subjects import python, site

_WRITE_TIMEOUT: Final = 2.0
_LIMIT: Final = _WRITE_TIMEOUT + 1
_PATIENCE: Final = 10 * _WRITE_TIMEOUT
_PROTOCOLS: Final = {"HTTP/1.1": "http/1.1", "HTTP/2": "h2"}


def check(cache: Path) -> list[Finding]:
    """Return when each client's stream, task and descriptor were gone."""
    if absent := missing("openssl"):
        return [Finding(f"the link goes down: not tried, missing: {absent}", math.inf, _LIMIT, "s")]
    with tempfile.TemporaryDirectory() as folder:
        certificate = make_certificate(Path(folder))
        return [
            _check(cache, certificate, protocol, security)
            for protocol in _PROTOCOLS
            for security in ("plain", "tls")
        ]


def _check(cache: Path, certificate: list[str], protocol: str, security: str) -> Finding:
    subject = site(_WRITE_TIMEOUT, HERE, *certificate)
    with open_namespace() as peer, Server(subject, cache) as server:
        before = report_at_rest(server)
        port = str(server.port + (security == "tls"))
        module = (str(python(cache)), "-m", "benchmarks.clients.peer")
        command = peer.command(*module, HERE, port, _PROTOCOLS[protocol], security)
        with _streaming(command, server):
            peer.cut()
            cut = time.monotonic()
            server.tell("publish 1 64")
            gone = wait_until(server, no_more_than(before), _PATIENCE) - cut
    return Finding(f"the link goes down, {protocol}, {security}: gone after", gone, _LIMIT, "s")


@contextmanager
def _streaming(command: list[str], server: Server) -> Generator[None]:
    """Run a client for the length of a block, which begins when the client has an event."""
    with subprocess.Popen(command, stdout=subprocess.PIPE) as client:  # noqa: S603
        try:
            wait_until(server, lambda now: now["clients"] == 1, _PATIENCE)
            server.tell("publish 1 64")
            assert client.stdout is not None  # noqa: S101 (for the type checkers)
            if not client.stdout.readline():
                raise ConnectionError("the client gets no events")
            yield
        finally:
            client.kill()
