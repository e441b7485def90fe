"""Which package may import which, and how large a module may be."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from importlib.resources import files
from pathlib import Path
from typing import Final

import attrs
import pytest

import trio_sse

ROOT: Final = Path(str(files(trio_sse)))

#: What each package may import of the others, at whatever time: a module on top is one, too.
MAY_IMPORT: Final[dict[str, set[str]]] = {
    "_core": set(),
    "_delivery": {"_core"},
    "_http": {"_core", "_delivery"},
    "quart": {"_core", "_delivery", "_http"},
    "_broadcaster": {"_core", "quart"},
    "_apps": {"_core", "_delivery", "_http", "_broadcaster", "quart"},
    "__init__": {"_core", "_http", "_broadcaster", "_apps"},
    "hypercorn": {"_core", "_delivery", "_http"},
    "redis": {"_core"},
    "testing": {"_core"},
    "_program": {"_core", "_delivery", "_http", "_broadcaster", "_apps", "hypercorn", "redis"},
    "__main__": {"_program"},
}

#: The libraries that only these packages may import, each of which needs an extra.
EXTRAS: Final = {
    "quart": {"quart"},
    "quart_trio": set[str](),
    "hypercorn": {"hypercorn", "_program"},
    "h2": {"hypercorn"},
    "wsproto": {"hypercorn"},
    "coredis": {"redis"},
    "httpx_sse": set[str](),  # It judges our decoder, in the tests.
    "psutil": {"_program"},
}

Node = ast.AST


def inside(node: Node, kinds: tuple[type[Node], ...] = ()) -> Iterator[Node]:
    """Walk through a node, but not into children of these kinds, nor what is for types only."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test) == "TYPE_CHECKING":
            continue
        yield child
        if not isinstance(child, kinds):
            yield from inside(child, kinds)


@attrs.frozen(eq=False)
class Module:
    """One file of the package."""

    path: Path
    tree: ast.Module
    lines: int

    @property
    def name(self) -> str:
        """Its dotted name below `trio_sse`."""
        parts = self.path.relative_to(ROOT).with_suffix("").parts
        return ".".join(parts[:-1] if len(parts) > 1 and parts[-1] == "__init__" else parts)

    @property
    def package(self) -> str:
        return self.name.partition(".")[0]

    def imports(self, *kinds: type[Node]) -> set[str]:
        """Name what it imports at run time: modules of ours with a leading dot, others in full."""
        return {name for node in inside(self.tree, kinds) for name in self._imported(node)}

    def _imported(self, node: Node) -> Iterator[str]:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield str(node.module)
        elif isinstance(node, ast.ImportFrom):
            folder = self.path.relative_to(ROOT).parts[: -node.level]
            module = ".".join([*folder, *([node.module] if node.module else [])])
            yield from {f".{self._file(module, alias.name)}" for alias in node.names}

    @staticmethod
    def _file(module: str, name: str) -> str:
        """Return the module that `from module import name` reads."""
        within = f"{module}.{name}".removeprefix(".")
        return within if (ROOT / within.replace(".", "/")).with_suffix(".py").is_file() else module


def read(path: Path) -> Module:
    text = path.read_text("utf-8")
    return Module(path, ast.parse(text), text.count("\n"))


MODULES: Final = {module.name: module for module in map(read, sorted(ROOT.rglob("*.py")))}
PACKAGES: Final = sorted({module.package for module in MODULES.values()})


def of_package(package: str) -> list[Module]:
    return [module for module in MODULES.values() if module.package == package]


def test_every_package_has_its_rule() -> None:
    assert set(PACKAGES) == MAY_IMPORT.keys()


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_knows_only_those_below_it(package: str) -> None:
    known = {name for module in of_package(package) for name in module.imports()}
    packages = {name[1:].partition(".")[0] for name in known if name.startswith(".")}
    assert packages - {package} <= MAY_IMPORT[package]


def test_no_modules_import_each_other() -> None:
    """Imports inside functions counted."""
    graph = {
        name: {of[1:] for of in module.imports() if of.startswith(".")}
        for name, module in MODULES.items()
    }
    order = [*TopologicalSorter(graph).static_order()]
    assert set(order) == set(MODULES)


@pytest.mark.parametrize("package", PACKAGES)
def test_only_those_packages_know_a_library_that_it_is_for(package: str) -> None:
    known = {name for module in of_package(package) for name in module.imports()}
    libraries = {name.partition(".")[0] for name in known if not name.startswith(".")}
    assert {name for name in EXTRAS if name in libraries} <= {
        name for name, packages in EXTRAS.items() if package in packages
    }


@pytest.mark.parametrize(
    "name",
    ["_core.event", "_core.decoder", "_core.history", "redis._history", "_http.negotiation"],
)
def test_what_does_no_io_knows_no_trio(name: str) -> None:
    known = MODULES[name].imports()
    libraries = {of.partition(".")[0] for of in known if not of.startswith(".")}
    assert libraries <= {"__future__", "attrs", *sys.stdlib_module_names}


def test_the_packages_can_be_seen_from_their_file_list() -> None:
    assert len([path for path in ROOT.iterdir() if path.name != "__pycache__"]) <= 16
    assert max(len(of_package(package)) for package in PACKAGES) <= 17


@pytest.mark.parametrize("name", MODULES)
def test_a_module_is_short(name: str) -> None:
    """`_broadcaster` is long for its docstrings, which are the reference."""
    assert MODULES[name].lines <= 300 or name == "_broadcaster"


def functions(tree: Node) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    docstring = ast.get_docstring(function, clean=False)
    lines = (function.end_lineno or 0) - function.lineno + 1
    return lines - (docstring.count("\n") + 1 if docstring else 0)


@pytest.mark.parametrize("name", MODULES)
def test_a_function_is_short(name: str) -> None:
    for function in functions(MODULES[name].tree):
        assert length(function) <= 40, function.name


@pytest.mark.parametrize("name", MODULES)
def test_only_context_managers_yield(name: str) -> None:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
    for function in functions(MODULES[name].tree):
        if any(isinstance(node, ast.Yield | ast.YieldFrom) for node in inside(function, kinds)):
            decorators = {ast.unparse(decorator) for decorator in function.decorator_list}
            assert decorators & {"contextmanager", "asynccontextmanager"}, function.name


@pytest.mark.parametrize("name", MODULES)
def test_no_text_is_split_with_splitlines(name: str) -> None:
    """It also splits at U+2028, U+0085, VT and FF, which end no line of an event stream."""
    tree = MODULES[name].tree
    names = [node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
    assert "splitlines" not in names


@pytest.mark.parametrize("name", MODULES)
def test_every_module_says_what_it_is_for(name: str) -> None:
    assert ast.get_docstring(MODULES[name].tree)
