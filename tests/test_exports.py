"""What the package shows to the outside."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from importlib.resources import files
from types import ModuleType

import pytest

import trio_sse

#: The public modules, and what each of them is imported for.
PUBLIC = {
    "trio_sse": {
        "Broadcaster",
        "BroadcasterStatistics",
        "END_EVENT",
        "END_ID",
        "POSITION_EVENT",
        "RESET_EVENT",
        "RegisteredEvent",
        "ServerSentEvent",
        "Subscription",
        "last_event_id",
        "producer_app",
        "sse_app",
        "sse_route",
    },
    "trio_sse.hypercorn": {"serve"},
    "trio_sse.quart": {"producer_response"},
    "trio_sse.redis": {"RedisRelay", "RelayStatistics", "RefusedError"},
    "trio_sse.testing": {"EventStream", "ReceivedEvent", "open_event_stream"},
}


@pytest.mark.parametrize("module", PUBLIC)
def test_the_public_names_can_be_imported(module: str) -> None:
    assert PUBLIC[module] <= vars(import_module(module)).keys()


def test_the_package_shows_no_other_name() -> None:
    shown = {name for name, value in vars(trio_sse).items() if not isinstance(value, ModuleType)}
    assert {name for name in shown if not name.startswith("_")} == PUBLIC["trio_sse"]


@pytest.mark.parametrize(
    ("module", "name"),
    [
        (module, name)
        for module, names in PUBLIC.items()
        for name in sorted(names - {"RESET_EVENT"})
    ],
)
def test_a_public_name_says_where_it_is_imported_from(module: str, name: str) -> None:
    public = getattr(import_module(module), name)
    if isinstance(public, str):
        return
    assert f"{public.__module__}.{public.__qualname__}" == f"{module}.{name}"
    assert public.__doc__


def test_the_types_ship_with_the_package() -> None:
    assert files(trio_sse).joinpath("py.typed").is_file()


@pytest.mark.parametrize("module", ["trio_sse", "trio_sse.testing"])
def test_importing_the_package_imports_no_extra(module: str) -> None:
    code = f"import sys, {module}; print(*sys.modules)"
    modules = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.split()
    assert "trio_sse._broadcaster" in modules
    extras = {"quart", "hypercorn", "h2", "coredis", "httpx", "psutil", "starlette", "asyncio"}
    assert not extras & set(modules)
