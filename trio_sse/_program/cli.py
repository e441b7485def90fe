"""The command line of `trio-sse`: options in, exit status and one clear line on standard error out.

What the program does is in `program`, which needs extras; here nothing is imported but the
standard library until the options are known to be good.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

_DESCRIPTION = "Broadcast to every browser by Server-Sent Events."


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the program and exit: 0 after its end or a signal, 1 if it cannot run, 2 for options."""
    options = _parser().parse_args(arguments)
    status: int | str = 0
    try:
        from . import program

        program.run(options)
    except* ModuleNotFoundError as errors:
        error = str(_leaf(errors))
        fix = "" if "pip install" in error else "; pip install 'trio-sse[demo]'"
        status = f"trio-sse: {error}{fix}"
    except* (OSError, ValueError) as errors:
        status = f"trio-sse: {_leaf(errors)}"
    except* KeyboardInterrupt:
        pass  # Ctrl-C before the program waits for it: nothing was begun that needs an end.
    sys.exit(status)


def _leaf(error: Any) -> Any:
    """Return the first exception itself that a group holds, however deep."""
    while exceptions := getattr(error, "exceptions", ()):
        error = exceptions[0]
    return error


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        """Exit with one line, without the usage that argparse puts before it."""
        self.exit(2, f"trio-sse: {message}; try {self.prog} --help\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="trio-sse", description=_DESCRIPTION)
    parser.add_argument("--version", action="version", version=f"trio-sse {version('trio-sse')}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    _add_demo(commands.add_parser("demo", help="show this machine's load as live plots"))
    _add_serve(commands.add_parser("serve", help="broadcast each line of standard input"))
    return parser


def _add_demo(demo: argparse.ArgumentParser) -> None:
    demo.description = "Serve a page with live plots of CPU, memory and network of this machine."
    _add_address(demo)


def _add_serve(serve: argparse.ArgumentParser) -> None:
    serve.description = (
        "Broadcast each line of standard input as an event, no faster than the clients read."
    )
    _add_address(serve)
    serve.add_argument("--event", default="message", help="the event type (default: %(default)s)")
    serve.add_argument(
        "--heartbeat",
        type=_number("a number of seconds greater than 0", float, 0, exclusive=True),
        default=15.0,
        metavar="SECONDS",
        help="silence after which a comment is sent (default: %(default)s; inf: never)",
    )
    serve.add_argument(
        "--buffer",
        type=_number("a whole number of at least 1", int, 1),
        default=256,
        metavar="EVENTS",
        help="events that may wait for a client (default: %(default)s)",
    )
    serve.add_argument(
        "--exit-on-eof", action="store_true", help="end when every client has taken the last line"
    )
    serve.add_argument(
        "--redis",
        type=_redis_url,
        default=os.environ.get("TRIO_SSE_REDIS"),
        metavar="URL",
        help="share all lines with every `serve --redis` of this server; @FILE reads the URL from "
        "a file, and the default is $TRIO_SSE_REDIS: no list of processes shows a password then",
    )
    serve.add_argument(
        "--stream", default="trio-sse", help="the stream's key in Redis (default: %(default)s)"
    )


def _add_address(command: argparse.ArgumentParser) -> None:
    command.add_argument("--host", default="127.0.0.1", help="default: %(default)s")
    command.add_argument(
        "--port",
        type=_number("a port, 0 to 65535", int, 0, 65535),
        default=8000,
        help="0 takes a free one (default: %(default)s)",
    )


def _redis_url(text: str) -> str:
    """Return the URL, which may be in a file."""
    if not text.startswith("@"):
        return text
    try:
        return Path(text[1:]).read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise argparse.ArgumentTypeError(f"cannot read {text[1:]}: {error}") from error


def _number(
    what: str,
    convert: Callable[[str], float],
    least: float,
    most: float = math.inf,
    *,
    exclusive: bool = False,
) -> Callable[[str], float]:
    def parse(text: str) -> float:
        try:
            value = convert(text)
        except ValueError:
            value = math.nan
        if not (least < value if exclusive else least <= value) or not value <= most:
            raise argparse.ArgumentTypeError(f"must be {what}, got {text!r}")
        return value

    return parse
