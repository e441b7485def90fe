"""Real proxies, in a folder and on a port of their own: nginx with a cache, Varnish as it comes."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

import trio

from .site import nginx
from .tcp import free_port
from .thorough import miss
from .waiting import PATIENCE

#: Returns the command of a proxy, given its folder, its port and that of the server behind it.
Proxy = Callable[[Path, int, int], list[str]]

_NGINX_CONF: Final = """
pid {folder}/pid;
error_log stderr;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {folder}/client_body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    proxy_cache_path {folder}/cache keys_zone=all:1m;
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://127.0.0.1:{server};
            proxy_cache all;
            proxy_cache_valid any 1h;
        }}
    }}
}}
"""


def caching_nginx(folder: Path, port: int, server: int) -> list[str]:
    conf = folder / "nginx.conf"
    conf.write_text(_NGINX_CONF.format(folder=folder, port=port, server=server))
    return [
        nginx(),
        "-p",
        str(folder),
        "-e",
        "stderr",
        "-c",
        str(conf),
        "-g",
        "daemon off; master_process off;",
    ]


def varnish(folder: Path, port: int, server: int) -> list[str]:
    found = shutil.which("varnishd", path=f"{os.environ['PATH']}:/usr/sbin")
    if not found:
        miss("no varnishd: apt-get install varnish")
    places = ["-n", str(folder), "-a", f"127.0.0.1:{port}", "-b", f"127.0.0.1:{server}"]
    return [found, "-F", "-j", "none", *places]


async def start(nursery: trio.Nursery, proxy: Proxy, folder: Path, server: int) -> int:
    """Start a proxy, which the nursery ends; return its port once it serves that."""
    port = free_port()
    await nursery.start(partial(trio.run_process, proxy(folder, port, server)))
    with trio.fail_after(PATIENCE):
        while True:
            if await _accepts(port):
                return port
            await trio.sleep(0.02)


async def _accepts(port: int) -> bool:
    try:
        stream = await trio.open_tcp_stream("127.0.0.1", port)
    except OSError:
        return False
    await stream.aclose()
    return True
