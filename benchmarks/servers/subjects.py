"""What is measured: each subject's name, and how its server is started on a port."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

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
    """Whether events are posted to it, as it cannot be told to make them."""
    direct: bool = False
    """Whether all of its clients should go the direct way."""
    checkout: Path = BENCHMARKS.parent
    """Where our packages are."""

    def of(self, checkout: Path) -> Subject:
        """Return the same of another checkout."""
        return replace(self, name=before(self.name), checkout=checkout)


def _ours(way: str, write_timeout: float = 30.0) -> Callable[[Path, int], list[str]]:
    def command(cache: Path, port: int) -> list[str]:
        module = "benchmarks.servers.ours"
        return [str(python(cache)), "-m", module, way, str(port), str(write_timeout)]

    return command


def _module(name: str) -> Callable[[Path, int], list[str]]:
    def command(cache: Path, port: int) -> list[str]:
        return [str(python(cache)), "-m", f"benchmarks.servers.{name}", str(port)]

    return command


def _floor(cache: Path, port: int) -> list[str]:
    return [str(cache / "floor"), str(port)]


def _better_sse(cache: Path, port: int) -> list[str]:
    return ["node", str(cache / "node" / "better_sse.mjs"), str(port)]


def _nchan(cache: Path, port: int) -> list[str]:
    nginx = cache / "nginx"
    folder = cache / "nginx-run"
    folder.mkdir(exist_ok=True)
    conf = (BENCHMARKS / "servers" / "nchan.conf").read_text()
    module = nginx / "usr/lib/nginx/modules/ngx_nchan_module.so"
    conf = conf.replace("{{module}}", str(module)).replace("{{port}}", str(port))
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
PEERS: Final = {"direct": FLOOR, "quart": FLOOR, "portable": BARE, "stock": BARE}

SUBJECTS: Final = {
    subject.name: subject
    for subject in (
        Subject(FLOOR, "bare C epoll server (the floor)", _floor),
        Subject("direct", "trio-sse, `serve()`, direct", _ours("direct"), direct=True),
        Subject("quart", "trio-sse, Quart-Trio route, `serve()`", _ours("quart"), direct=True),
        Subject("nchan", "nginx + nchan", _nchan, posts=True),
        Subject("better-sse", "better-sse on Node", _better_sse),
        Subject("aiohttp-sse", "aiohttp-sse on uvloop", _module("aiohttp_sse_server")),
        Subject(
            "sse-starlette", "sse-starlette on uvicorn, uvloop", _module("sse_starlette_server")
        ),
        Subject("portable", "trio-sse, `serve()`, portable", _ours("portable")),
        Subject("stock", "trio-sse on stock hypercorn", _ours("stock")),
        Subject(BARE, "bare ASGI loop on stock hypercorn", _module("bare_asgi")),
    )
}


def before(name: str) -> str:
    """Return what a subject is called when it is another checkout's."""
    return name + _BEFORE


def title(name: str) -> str:
    """Return a subject's title, whosever checkout it is of."""
    own = name.removesuffix(_BEFORE)
    return SUBJECTS[own].title + (", before" if own != name else "")
