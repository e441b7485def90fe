"""A client of one event stream that reads until it is killed, and tells when events come.

    python -m benchmarks.clients.peer HOST PORT http/1.1|h2 plain|tls

For each read that holds the end of an event it writes a line on standard output.
"""

from __future__ import annotations

import socket
import ssl
import sys
from typing import Final

from ..load.payload import MARKER
from .fuzz import http2_request

_TIMEOUT: Final = 10.0
_REQUESTS: Final = {
    "http/1.1": b"GET /events HTTP/1.1\r\nhost: t\r\n\r\n",
    "h2": http2_request(),
}


def _connect(host: str, port: int, protocol: str, *, tls: bool) -> socket.socket:
    sock = socket.create_connection((host, port), _TIMEOUT)
    if tls:
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE  # The server made its certificate a moment ago.
        context.set_alpn_protocols([protocol])
        sock = context.wrap_socket(sock)
    sock.settimeout(None)
    return sock


def main(host: str, port: int, protocol: str, security: str) -> None:
    """Read."""
    sock = _connect(host, port, protocol, tls=security == "tls")
    sock.sendall(_REQUESTS[protocol])
    while data := sock.recv(65536):
        if MARKER in data:
            print("an event", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:])
