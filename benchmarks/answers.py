"""What any application's answers cost under `serve`, beside stock hypercorn.

    python -m benchmarks.answers [--pairs 15] [--only h2c,...]

The loads are those of other people's tools: h2load, wrk and ab (Debian: nghttp2-client, wrk,
apache2-utils), against a small Starlette application; openssl makes the certificate. Both servers
live for the whole run and take turns, first the one and then the other. It tells the ratio of CPU
per request, serve / stock, with an interval of 95 %, and how many requests failed.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from .report.comparison import interval
from .servers.certificate import make_certificate
from .servers.processes import cpu_clock, free_port
from .servers.subjects import CORES

_SERVERS: Final = ("serve", "stock")

#: The command of each load, and whether it is for TLS.
_LOADS: Final = {
    "ab, HTTP/1.1, small": ("ab -q -k -c 20 -n 3000 {url}/small", False),
    "ab, HTTP/1.1, 1 MB": ("ab -q -c 10 -n 200 {url}/big", False),
    "wrk, HTTP/1.1, small": ("wrk -t 1 -c 50 -d 2 {url}/small", False),
    "wrk, HTTP/1.1, 1 MB": ("wrk -t 1 -c 10 -d 2 {url}/big", False),
    "wrk, HTTP/1.1 over TLS, small": ("wrk -t 1 -c 50 -d 2 {url}/small", True),
    "wrk, HTTP/1.1 over TLS, 1 MB": ("wrk -t 1 -c 10 -d 2 {url}/big", True),
    "ab, HTTP/1.1 over TLS, 500 MB": ("ab -q -c 1 -n 1 {url}/huge", True),
    "h2load, h2c, small": ("h2load -n 4000 -c 10 -m 10 {url}/small", False),
    "h2load, h2c, 1 MB": ("h2load -n 200 -c 4 -m 4 -w 20 -W 20 {url}/big", False),
    "h2load, HTTP/2 over TLS, small": ("h2load -n 4000 -c 10 -m 10 {url}/small", True),
    "h2load, HTTP/2 over TLS, 1 MB": ("h2load -n 200 -c 4 -m 4 -w 20 -W 20 {url}/big", True),
}

#: How the tools say how many requests were answered, and how many failed.
_ANSWERED: Final = re.compile(r"(?:Complete requests:|status codes:)?\s*(\d+) (?:2xx|requests in)")
_COMPLETE: Final = re.compile(r"Complete requests:\s+(\d+)")
_FAILED: Final = re.compile(
    r"(?:Failed requests:|Non-2xx(?: or 3xx)? responses:|connect|read|write|timeout)\s+(\d+)"
    r"|(\d+) (?:failed|errored|timeout)"
)


@dataclass(frozen=True)
class _Server:
    port: int
    pid: int

    def load(self, command: str, *, tls: bool) -> tuple[float, int]:
        """Return the seconds of CPU for each request, and the requests that failed."""
        url = f"https://127.0.0.1:{self.port + 1}" if tls else f"http://127.0.0.1:{self.port}"
        before = self._cpu()
        words = command.format(url=url).split()
        ran = subprocess.run(words, capture_output=True, text=True, check=False)  # noqa: S603
        used = self._cpu() - before
        answered = _COMPLETE.search(ran.stdout) or _ANSWERED.search(ran.stdout)
        if answered is None or not int(answered[1]):
            raise RuntimeError(f"{command}: {ran.stdout}{ran.stderr}")
        failed = sum(int(a or b) for a, b in _FAILED.findall(ran.stdout))
        return used / int(answered[1]), failed

    def _cpu(self) -> float:
        return time.clock_gettime(cpu_clock(self.pid))


@contextmanager
def _serving(kind: str, files: list[str]) -> Generator[_Server]:
    port = free_port()
    command = [sys.executable, "-m", "benchmarks.servers.answers", kind, str(port), *files]
    os.sched_setaffinity(0, {CORES[0]})
    process = subprocess.Popen(command)  # noqa: S603
    os.sched_setaffinity(0, {CORES[-1]})
    try:
        _wait_for(f"http://127.0.0.1:{port}/small")
        yield _Server(port, process.pid)
    finally:
        process.kill()
        process.wait()


def _wait_for(url: str) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            urllib.request.urlopen(url).close()  # noqa: S310 (of our own server)
        except urllib.error.URLError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--only", type=lambda parts: parts.split(","), default=[""])
    return parser.parse_args()


def main() -> None:
    """Load both servers in turns, a load after the other."""
    options = _arguments()
    chosen = [load for load in _LOADS if any(part in load for part in options.only)]
    with tempfile.TemporaryDirectory() as folder:
        files = make_certificate(Path(folder))
        with _serving("serve", files) as ours, _serving("stock", files) as stock:
            for name in chosen:
                command, tls = _LOADS[name]
                ratios: list[float] = []
                failed: Counter[str] = Counter()
                for turn in range(-1, options.pairs):  # The first one warms up.
                    costs: dict[str, float] = {}
                    pair = [*zip(_SERVERS, (ours, stock), strict=True)]
                    for kind, server in pair[:: 1 if turn % 2 else -1]:
                        costs[kind], missed = server.load(command, tls=tls)
                        failed[kind] += missed
                    if turn >= 0:
                        ratios.append(costs["serve"] / costs["stock"])
                failures = ", ".join(f"{kind} {failed[kind]}" for kind in _SERVERS)
                print(f"{name}: {interval(ratios)}; failed: {failures}", flush=True)


if __name__ == "__main__":
    main()
