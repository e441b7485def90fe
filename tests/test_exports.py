"""What the package shows to the outside, and which of its rooms knows which."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Final

import pytest

import trio_sse

ROOT: Final = Path(str(files(trio_sse)))
ROOMS: Final = {path.stem: ast.parse(path.read_text("utf-8")) for path in ROOT.glob("*.py")}

#: Each room may import only rooms named before it.
ORDER: Final = (
    *(
        "_event",
        "_ring",
        "_history",
        "_stream_history",
        "_relay",
        "_home",
        "_groups",
        "_options",
        "_negotiation",
        "_heartbeat",
        "_head",
    ),
    *("_conversion", "_event_types", "_subscription", "_client", "_clients"),
    *("_beginning", "_broadcaster", "_route", "_chunks", "_audience", "_writer", "_direct"),
    *("_carried", "_delivery", "_asgi", "_producer", "__init__"),
    *("quart", "_http2", "_outlet", "_door", "_connection", "hypercorn", "testing"),
    *("_redis_session", "_redis_outbox", "_redis_stream", "_redis_tail", "_redis_recall", "redis"),
    *("_demo", "_lines", "_program", "_cli", "__main__"),
)

#: The packages that only these rooms may import, each of which needs an extra.
EXTRAS: Final = {
    "quart": {"quart"},
    "quart_trio": set[str](),
    "hypercorn": {"hypercorn", "_connection", "_http2", "_program"},
    "coredis": {"_redis_session"},
    "httpx_sse": {"testing"},
    "psutil": {"_demo"},
}

Node = ast.AST


def inside(node: Node, kinds: tuple[type[Node], ...]) -> Iterator[Node]:
    """Walk through a node, but not into children of these kinds."""
    for child in ast.iter_child_nodes(node):
        yield child
        if not isinstance(child, kinds):
            yield from inside(child, kinds)


def is_type_checking(node: Node) -> bool:
    return isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"


def imported(nodes: Iterator[Node]) -> Iterator[str]:
    """Name what these nodes import: this package's rooms with a leading dot, others in full."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            if node.module:
                yield "." * node.level + node.module
            else:
                yield from (f".{alias.name}" for alias in node.names)


def imports(room: str, *, when_called: bool = True) -> set[str]:
    """Return what a room imports at run time, with or without what its functions import."""
    tree = ast.Module(
        [node for node in ROOMS[room].body if not is_type_checking(node)], type_ignores=[]
    )
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return set(imported(ast.walk(tree) if when_called else inside(tree, functions)))


def packages(room: str) -> set[str]:
    return {name.partition(".")[0] for name in imports(room) if not name.startswith(".")}


def neighbours(room: str, *, when_called: bool = True) -> set[str]:
    names = imports(room, when_called=when_called)
    return {name.removeprefix(".") for name in names if name.startswith(".")}


# The outside


def test_the_public_names_are_these() -> None:
    assert {name for name in vars(trio_sse) if not name.startswith("_")} - set(ROOMS) == {
        "Broadcaster",
        "BroadcasterStatistics",
        "RESET_EVENT",
        "RegisteredEvent",
        "ServerSentEvent",
        "Subscription",
        "producer_app",
        "sse_app",
        "sse_route",
    }


@pytest.mark.parametrize(
    "name", [name for name in vars(trio_sse) if callable(getattr(trio_sse, name))]
)
def test_a_public_name_says_where_it_is_imported_from(name: str) -> None:
    public = getattr(trio_sse, name)
    assert f"{public.__module__}.{public.__qualname__}" == f"trio_sse.{name}"
    assert public.__doc__


def test_the_types_ship_with_the_package() -> None:
    assert (ROOT / "py.typed").is_file()


def test_importing_the_package_imports_no_extra() -> None:
    code = "import sys, trio_sse; print(*sys.modules)"
    modules = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert "trio_sse._asgi" in modules.stdout.split()
    assert not {"starlette", "asyncio", *EXTRAS} & set(modules.stdout.split())


# The rooms


def test_every_room_has_its_place_in_the_order() -> None:
    assert set(ROOMS) <= set(ORDER)
    assert {"_event", "_broadcaster", "_delivery", "_asgi", "quart", "testing"} <= set(ROOMS)


@pytest.mark.parametrize("room", ROOMS)
def test_imports_run_downwards_only(room: str) -> None:
    """But for what `Broadcaster.stream` and `sse_route` import when they are called."""
    assert neighbours(room, when_called=False) <= set(ORDER[: ORDER.index(room)])
    upwards = neighbours(room) - set(ORDER[: ORDER.index(room)])
    assert upwards == ({"quart"} if room in {"_broadcaster", "_route"} else set())


@pytest.mark.parametrize("room", ["_event", "_ring", "_history", "_stream_history", "_negotiation"])
def test_what_does_no_io_knows_no_trio(room: str) -> None:
    assert packages(room) - sys.stdlib_module_names <= {"__future__", "attrs"}
    assert neighbours(room) <= {"_event", "_ring"}


@pytest.mark.parametrize("room", ROOMS)
def test_only_those_rooms_know_an_extra_that_it_is_for(room: str) -> None:
    assert {name for name in EXTRAS if name in packages(room)} == {
        name for name, rooms in EXTRAS.items() if room in rooms
    }


@pytest.mark.parametrize("room", ["quart", "hypercorn", "redis", "testing"])
def test_the_rooms_of_the_extras_do_not_know_each_other(room: str) -> None:
    assert not neighbours(room) & {"quart", "hypercorn", "redis", "testing"}


def test_what_tests_or_serves_any_app_knows_no_broadcaster() -> None:
    assert neighbours("testing") == set()
    assert neighbours("hypercorn") == {"_connection"}
    assert neighbours("_connection") <= {
        "_carried",
        "_direct",
        "_door",
        "_http2",
        "_outlet",
        "_writer",
    }


def functions_that_yield(tree: Node) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    functions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and any(
            isinstance(child, ast.Yield | ast.YieldFrom) for child in inside(node, functions)
        ):
            yield node


@pytest.mark.parametrize("room", ROOMS)
def test_only_context_managers_yield(room: str) -> None:
    for function in functions_that_yield(ROOMS[room]):
        decorators = {ast.unparse(decorator) for decorator in function.decorator_list}
        assert decorators & {"contextmanager", "asynccontextmanager"}, function.name


@pytest.mark.parametrize("room", ROOMS)
def test_no_text_is_split_with_splitlines(room: str) -> None:
    """It also splits at U+2028, U+0085, VT and FF, which end no line of an event stream."""
    calls = [node.attr for node in ast.walk(ROOMS[room]) if isinstance(node, ast.Attribute)]
    assert "splitlines" not in calls


@pytest.mark.parametrize("room", ROOMS)
def test_every_room_says_what_it_is_for(room: str) -> None:
    assert ast.get_docstring(ROOMS[room])
