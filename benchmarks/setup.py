"""Install what the benchmarks need: trio-sse and its peers, each pinned, into one folder.

    python -m benchmarks.setup [--cache FOLDER]

Python's peers go into an environment of their own, together with this checkout; better-sse comes
by npm; nginx and nchan are Debian's packages, unpacked there and not installed; the floor is
compiled by gcc. Running it again brings everything up to date.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import venv
from pathlib import Path
from typing import Final

from .servers.subjects import BENCHMARKS, CACHE, python

_NGINX_PACKAGES: Final = ("nginx", "libnginx-mod-nchan")

#: Debian's nchan insists on a folder in here, whatever the configuration says; making it needs
#: root, unless nginx is installed.
_NCHAN_FOLDER: Final = Path("/var/lib/nginx")


def _run(*command: str | Path, cwd: Path | None = None) -> None:
    subprocess.run(command, cwd=cwd, check=True)  # noqa: S603 (the commands of this file)


def install_python(cache: Path) -> None:
    """Make an environment with this checkout and the peers written in Python."""
    venv.create(cache / "python", with_pip=True)
    pip = (python(cache), "-m", "pip", "install", "--quiet")
    requirements = BENCHMARKS / "requirements.txt"
    _run(*pip, "-e", f"{BENCHMARKS.parent}[hypercorn,quart,redis]", "-r", requirements)


def install_node(cache: Path) -> None:
    """Install better-sse beside a copy of its server, where Node looks for it."""
    folder = cache / "node"
    folder.mkdir(exist_ok=True)
    for name in ("package.json", "package-lock.json", "better_sse.mjs"):
        shutil.copy(BENCHMARKS / "servers" / name, folder)
    _run("npm", "ci", "--silent", cwd=folder)


def install_nginx(cache: Path) -> None:
    """Unpack Debian's nginx and nchan."""
    packages = cache / "packages"
    packages.mkdir(exist_ok=True)
    _run("apt-get", "download", "-qq", *_NGINX_PACKAGES, cwd=packages)
    for package in packages.glob("*.deb"):
        _run("dpkg-deb", "--extract", package, cache / "nginx")
    _NCHAN_FOLDER.mkdir(exist_ok=True)


def compile_floor(cache: Path) -> None:
    """Compile the floor."""
    _run("gcc", "-O2", "-o", cache / "floor", BENCHMARKS / "servers" / "floor.c")


def main() -> None:
    """Install everything."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cache", type=Path, default=CACHE)
    cache: Path = parser.parse_args().cache.absolute()
    cache.mkdir(exist_ok=True)
    for install in (install_python, install_node, install_nginx, compile_floor):
        install(cache)


if __name__ == "__main__":
    main()
