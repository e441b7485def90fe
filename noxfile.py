"""The checks of this project, each in an environment of its own; CI runs them all."""

from pathlib import Path

import nox

nox.options.sessions = ["lint", "types", "tests", "coverage", "interop", "browser"]
nox.options.error_on_missing_interpreters = True

PYTHONS = ["3.11", "3.12", "3.13"]
SSECLIENT = "sseclient-py==1.9.0"  # A client of the tests, as those in tests/interop/package.json.
CODE = ["trio_sse", "tests", "docs", "noxfile.py"]


@nox.session
def lint(session: nox.Session) -> None:
    """Run ruff, and flake8-async with all of its rules, which ruff knows only a few of."""
    session.install("ruff==0.17.*", "flake8-async==26.*")
    session.run("ruff", "format", "--check", *CODE)
    session.run("ruff", "check", *CODE)
    # Functions that `nursery.start` runs, which rule ASYNC113 wants to know.
    startable = "--startable-in-context-manager=run,serve,_cancel_on_signal"
    # Trio's decorator closes an asynchronous generator in time; rule ASYNC119 does not know it.
    safe = "--transform-async-generator-decorators=as_safe_channel"
    check = ("python", "-m", "flake8_async", "--enable=ASYNC", startable, safe)
    session.run(*check, *_python_files("trio_sse"), *_python_files("tests"))
    # A view must be asynchronous even if it awaits nothing: frameworks run others in a thread.
    session.run(*check, "--disable=ASYNC124,ASYNC910,ASYNC911", *_python_files("docs"))


@nox.session
def types(session: nox.Session) -> None:
    """Check the types with mypy and pyright, both strict."""
    checkers = ("mypy==2.*", "pyright==1.1.414")
    session.install("-e", ".[test]", *checkers, "nox", "types-psutil", SSECLIENT)
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
    config = f"{root}/pyproject.toml"
    env = {"COVERAGE_FILE": str(root / ".coverage")}
    with session.chdir(session.create_tmp()):
        command = ("coverage", "run", f"--rcfile={config}", "-m", "pytest", "-c", config)
        folders = (str(root / "tests"), str(root / "docs" / "examples"))
        session.run(*command, f"--rootdir={root}", *session.posargs, *folders, env=env)
        # Left out of a hurried run, but nothing else sees what they do.
        redis = root / "tests" / "redis"
        what = ("access", "failures", "sentinel", "slow_link", "wrong_settings")
        thorough = [str(redis / f"test_{each}.py") for each in what]
        env["THOROUGH"] = "1"
        session.run(*command, f"--rootdir={root}", *session.posargs, *thorough, env=env)


@nox.session
def coverage(session: nox.Session) -> None:
    """Tell which lines and branches no Python's tests have seen; there must be none."""
    session.install("coverage>=7.10")
    session.run("coverage", "combine")
    session.run("coverage", "report")


@nox.session
def interop(session: nox.Session) -> None:
    """Let the libraries of Node and Python that read event streams be our clients."""
    session.install("-e", ".[test]", SSECLIENT)
    with session.chdir("tests/interop"):
        session.run("npm", "ci", external=True)
    session.run("pytest", "tests/interop")


@nox.session
def browser(session: nox.Session) -> None:
    """Let the EventSource of browsers lose its connection, its server, its place and its stream."""
    session.install("-e", ".[test]")
    session.run("pytest", "tests/browser")


def _python_files(folder: str) -> list[str]:
    return [
        str(path) for path in sorted(Path(folder).rglob("*.py")) if "node_modules" not in path.parts
    ]
