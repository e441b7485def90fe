"""Where it was measured, and with what: a figure without its machine says nothing."""

from __future__ import annotations

import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Final

from ..servers.subjects import python

_PYTHON_PACKAGES: Final = (
    "trio-sse",
    "trio",
    "hypercorn",
    "h11",
    "msgspec",
    "quart",
    "quart-trio",
    "sse-starlette",
    "starlette",
    "uvicorn",
    "uvloop",
    "httptools",
    "aiohttp",
    "aiohttp-sse",
)


def describe_machine() -> dict[str, str]:
    """Return the processor, its cores, the memory and the kernel."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": _processor(),
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{memory:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
    }


def list_versions(cache: Path) -> dict[str, str]:
    """Return the version of everything that took part."""
    node_lock = json.loads((cache / "node" / "package-lock.json").read_text())
    installed = json.loads(_output(python(cache), "-m", "pip", "list", "--format=json"))
    versions = {package["name"].lower(): package["version"] for package in installed}
    return {
        "Python": _output(python(cache), "-V").removeprefix("Python "),
        **{name: versions[name] for name in _PYTHON_PACKAGES},
        "Node": _output("node", "--version").removeprefix("v"),
        "better-sse": node_lock["packages"]["node_modules/better-sse"]["version"],
        **_debian_versions(cache / "packages"),
        "gcc": _output("gcc", "-dumpfullversion"),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def _debian_versions(packages: Path) -> dict[str, str]:
    versions: dict[str, str] = {}
    for package in sorted(packages.glob("*.deb")):
        name, version, _ = package.name.split("_")
        versions[name] = version.replace("%3a", ":")
    return versions


def _output(*command: str | Path) -> str:
    run = subprocess.run(  # noqa: S603 (the commands of this file)
        command, capture_output=True, text=True, check=True
    )
    return run.stdout.strip()
