"""The checks of this project, each in an environment of its own; CI runs them all."""

from pathlib import Path

import nox

nox.options.sessions = ["lint", "types", "tests", "interop"]
nox.options.error_on_missing_interpreters = True

PYTHONS = ["3.11", "3.12", "3.13"]
CODE = ["trio_sse", "tests", "docs", "noxfile.py"]


@nox.session
def lint(session: nox.Session) -> None:
    """Run ruff, and flake8-async with all of its rules, which ruff knows only a few of."""
    session.install("ruff==0.17.*", "flake8-async==26.*")
    session.run("ruff", "format", "--check", *CODE)
    session.run("ruff", "check", *CODE)
    # Functions that `nursery.start` runs, which rule ASYNC113 wants to know.
    startable = "--startable-in-context-manager=run,serve"
    check = ("python", "-m", "flake8_async", "--enable=ASYNC", startable)
    session.run(*check, *_python_files("trio_sse"), *_python_files("tests"))
    # A view must be asynchronous even if it awaits nothing: frameworks run others in a thread.
    session.run(*check, "--disable=ASYNC124,ASYNC910", *_python_files("docs"))


@nox.session
def types(session: nox.Session) -> None:
    """Check the types with mypy and pyright, both strict."""
    session.install("-e", ".[test]", "mypy==2.*", "pyright==1.1.414", "nox", "types-psutil")
    session.run("mypy")
    session.run("pyright")


@nox.session(python=PYTHONS)
def tests(session: nox.Session) -> None:
    """Run the tests against the wheel, from a folder that does not hold the package."""
    dist = Path(session.create_tmp()) / "dist"
    session.install("build")
    session.run("python", "-m", "build", "--wheel", "--outdir", str(dist), silent=True)
    (wheel,) = dist.glob("*.whl")
    session.install(f"{wheel}[test]")
    root = Path.cwd()
    with session.chdir(session.create_tmp()):
        session.run("coverage", "erase", f"--rcfile={root}/pyproject.toml")
        coverage = ("coverage", "run", f"--rcfile={root}/pyproject.toml", "-m")
        session.run(
            *coverage,
            "pytest",
            "-c",
            f"{root}/pyproject.toml",
            f"--rootdir={root}",
            *session.posargs,
            str(root / "tests"),
            str(root / "docs" / "examples"),
        )
        session.run("coverage", "combine", f"--rcfile={root}/pyproject.toml")
        session.run("coverage", "report", f"--rcfile={root}/pyproject.toml")


@nox.session
def interop(session: nox.Session) -> None:
    """Let Node's eventsource-parser read what we write."""
    session.install("-e", ".[test]")
    with session.chdir("tests/interop"):
        session.run("npm", "ci", external=True)
    session.run("pytest", "tests/interop")


def _python_files(folder: str) -> list[str]:
    return [
        str(path) for path in sorted(Path(folder).rglob("*.py")) if "node_modules" not in path.parts
    ]
