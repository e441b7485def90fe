"""What is measured: each subject's name, and how its server is started on a port."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

from .certificate import make_certificate

#: This checkout's benchmarks, and where what they need is installed.
BENCHMARKS: Final = Path(__file__).parents[1]
CACHE: Final = BENCHMARKS / ".benchmarks"

#: Servers and load generator are on a core each, where there are two.
CORES: Final = sorted(os.sched_getaffinity(0))


def python(cache: Path) -> Path:
    """Return the interpreter of the environment that `benchmarks.setup` makes."""
    return cache / "python" / "bin" / "python"


@dataclass(frozen=True)
class Subject:
    """One server program."""

    name: str
    title: str
    command: Callable[[Path, int], list[str]]
    posts: bool = False
    """Whether events are posted to it, as it cannot be told to make them; over TLS, one port on."""
    tls: bool = False
    """Whether its streams are sealed."""
    http2: int = 0
    """How many streams a connection has; none over HTTP/1.1."""
    direct: bool = False
    """Whether all of its clients should go the direct way."""
    checkout: Path = BENCHMARKS.parent
    """Where our packages are."""

    def over_http2(self, streams: int) -> Subject:
        """Return the same over HTTP/2, with so many streams on a connection."""
        version = "h2" if self.tls else "h2c"
        several = f"x{streams}" if streams > 1 else ""
        title = f"{self.title}, HTTP/2{f', {streams} streams a connection' if several else ''}"
        name = f"{self.name.removesuffix('-tls')}-{version}{several}"
        return replace(self, name=name, title=title, http2=streams)

    def of(self, checkout: Path) -> Subject:
        """Return the same of another checkout."""
        return replace(self, name=before(self.name), checkout=checkout)


def _ours(
    way: str, write_timeout: float = 30.0, *, tls: bool = False
) -> Callable[[Path, int], list[str]]:
    def command(cache: Path, port: int) -> list[str]:
        words = [str(python(cache)), "-m", "benchmarks.servers.ours", way, str(port)]
        return [*words, str(write_timeout), *(make_certificate(cache) if tls else [])]

    return command


def _module(name: str, *, tls: bool = False) -> Callable[[Path, int], list[str]]:
    def command(cache: Path, port: int) -> list[str]:
        words = [str(python(cache)), "-m", f"benchmarks.servers.{name}", str(port)]
        return [*words, *(make_certificate(cache) if tls else [])]

    return command


def _floor(cache: Path, port: int) -> list[str]:
    return [str(cache / "floor"), str(port)]


def _better_sse(*, tls: bool = False) -> Callable[[Path, int], list[str]]:
    def command(cache: Path, port: int) -> list[str]:
        words = ["node", str(cache / "node" / "better_sse.mjs"), str(port)]
        return [*words, *(make_certificate(cache) if tls else [])]

    return command


def _nchan(cache: Path, port: int) -> list[str]:
    return _nginx(cache, f"listen 127.0.0.1:{port} backlog=4096;")


def _nchan_over_tls(cache: Path, port: int) -> list[str]:
    certificate, key = make_certificate(cache)
    listen = (
        f"listen 127.0.0.1:{port} ssl http2 backlog=4096; listen 127.0.0.1:{port + 1}; "
        f"ssl_protocols TLSv1.3; ssl_certificate {certificate}; ssl_certificate_key {key};"
    )
    return _nginx(cache, listen)


def _nginx(cache: Path, listen: str) -> list[str]:
    nginx = cache / "nginx"
    folder = cache / "nginx-run"
    folder.mkdir(exist_ok=True)
    conf = (BENCHMARKS / "servers" / "nchan.conf").read_text()
    module = nginx / "usr/lib/nginx/modules/ngx_nchan_module.so"
    conf = conf.replace("{{module}}", str(module)).replace("{{listen}}", listen)
    if os.geteuid() == 0:
        conf = "user root;\n" + conf
    (folder / "nginx.conf").write_text(conf)
    return [str(nginx / "usr/sbin/nginx"), "-p", f"{folder}/", "-c", "nginx.conf", "-e", "stderr"]


def patient(way: str, write_timeout: float) -> Subject:
    """Return trio-sse with another `write_timeout`."""
    return Subject(f"ours-{way}", f"trio-sse, {way}", _ours(way, write_timeout))


def site(write_timeout: float, *address: str) -> Subject:
    """Return trio-sse as a site; the address: a host, and files of a certificate and its key."""

    def command(cache: Path, port: int) -> list[str]:
        module = "benchmarks.servers.site"
        return [str(python(cache)), "-m", module, str(port), str(write_timeout), *address]

    return Subject("ours-site", "trio-sse, a site", command)


def remembering(way: str, history: int, *reconnection: float) -> Subject:
    """Return trio-sse with such a history and range of reconnection times, by one of its ways."""

    def command(cache: Path, port: int) -> list[str]:
        module = "benchmarks.servers.remembering"
        options = map(str, [way, port, history, *reconnection])
        return [str(python(cache)), "-m", module, *options]

    return Subject(f"remembering-{way}", f"trio-sse, {way}, long memory", command)


def node(
    redis: int | str,
    publisher: int = 0,
    history: int = 256,
    timeout: float = 5.0,
    maxlen: int = 50_000,  # More than any flood: a node that lags behind one has no gap.
) -> Subject:
    """Return one of several processes that share a stream, in the Redis at that port, or URL."""
    url = redis if isinstance(redis, str) else f"redis://127.0.0.1:{redis}"

    def command(cache: Path, port: int) -> list[str]:
        module = "benchmarks.servers.node"
        options = map(str, [url, port, publisher, history, maxlen, timeout])
        return [str(python(cache)), "-m", module, *options]

    return Subject(f"node-{publisher}", "trio-sse, a node", command)


_BEFORE: Final = "@before"

FLOOR: Final = "floor"
BARE: Final = "bare"

#: Our subjects that another checkout has, too, and what is as near to each as can be.
PEERS: Final = {
    "direct": FLOOR,
    "quart": FLOOR,
    "direct-tls": FLOOR,
    "quart-tls": FLOOR,
    "portable": BARE,
    "stock": BARE,
}

_OVER_HTTP1: Final = (
    Subject(FLOOR, "bare C epoll server (the floor)", _floor),
    Subject("direct", "trio-sse, `serve()`, direct", _ours("direct"), direct=True),
    Subject("quart", "trio-sse, Quart-Trio route, `serve()`", _ours("quart"), direct=True),
    Subject(
        "own-topics", "trio-sse, direct, a topic for each client", _ours("own-topics"), direct=True
    ),
    Subject("nchan", "nginx + nchan", _nchan, posts=True),
    Subject("better-sse", "better-sse on Node", _better_sse()),
    Subject("aiohttp-sse", "aiohttp-sse on uvloop", _module("aiohttp_sse_server")),
    Subject("sse-starlette", "sse-starlette on uvicorn, uvloop", _module("sse_starlette_server")),
    Subject("portable", "trio-sse, `serve()`, portable", _ours("portable")),
    Subject("stock", "trio-sse on stock hypercorn", _ours("stock")),
    Subject(BARE, "bare ASGI loop on stock hypercorn", _module("bare_asgi")),
    Subject(
        "direct-tls",
        "trio-sse, `serve()`, direct, TLS",
        _ours("direct", tls=True),
        tls=True,
        direct=True,
    ),
    Subject(
        "quart-tls",
        "trio-sse, Quart-Trio route, `serve()`, TLS",
        _ours("quart", tls=True),
        tls=True,
        direct=True,
    ),
    Subject(
        "stock-tls",
        "trio-sse on stock hypercorn, TLS",
        _ours("stock", tls=True),
        tls=True,
    ),
    Subject(
        "better-sse-tls",
        "better-sse on Node, TLS",
        _better_sse(tls=True),
        tls=True,
    ),
    Subject("nchan-tls", "nginx + nchan, TLS", _nchan_over_tls, posts=True, tls=True),
    Subject(
        "sse-starlette-tls",
        "sse-starlette on uvicorn, uvloop, TLS",
        _module("sse_starlette_server", tls=True),
        tls=True,
    ),
)

#: Over HTTP/2 with TLS, by one stream a connection, and by five, as of a browser with five tabs.
_OVER_HTTP2: Final = ("direct-tls", "stock-tls", "nchan-tls", "better-sse-tls")


def _all() -> Iterator[Subject]:
    yield from _OVER_HTTP1
    own = {subject.name: subject for subject in _OVER_HTTP1}
    yield own["direct"].over_http2(1)
    yield own["direct"].over_http2(5)
    yield own["stock"].over_http2(1)
    for name in _OVER_HTTP2:
        yield own[name].over_http2(1)
        yield own[name].over_http2(5)


SUBJECTS: Final = {subject.name: subject for subject in _all()}


def before(name: str) -> str:
    """Return what a subject is called when it is another checkout's."""
    return name + _BEFORE


def title(name: str) -> str:
    """Return a subject's title, whosever checkout it is of."""
    own = name.removesuffix(_BEFORE)
    return SUBJECTS[own].title + (", before" if own != name else "")
