"""What `trio-sse` does: serve one page and one event stream until a signal, or the source's end.

A program is a broadcaster, a page and a source, an asynchronous function that broadcasts; and a
relay, if it was asked for. This module knows how they are served and ended; where the events come
from is the business of `demo` and `lines`.
"""

from __future__ import annotations

import argparse
import html
import logging
import os
import signal
import socket
import sys
from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, final

import attrs
import trio
from hypercorn.config import Config

from .._apps import sse_app
from .._broadcaster import Broadcaster
from .._core import missing_extra
from .._delivery.response import Message, Receive, Scope, Send
from ..hypercorn import serve

if TYPE_CHECKING:
    from ..redis import RedisRelay
    from .lines import Sink

_STDIN: Final = 0

#: What ends the program.
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

_PAGES: Final = Path(__file__).with_name("pages")

#: Seconds: everything is over within one second of a signal, what is forced included.
_GRACEFUL_TIMEOUT: Final = 0.25

#: Seconds after which a client that takes no byte is dropped, and holds up the others no longer.
_WRITE_TIMEOUT: Final = 10.0


@final
@attrs.frozen(eq=False)
class _Program:
    broadcaster: Broadcaster
    page: bytes
    source: Callable[[], Awaitable[None]]
    relay: RedisRelay | None = None


def run(options: argparse.Namespace) -> None:
    """Run the command that was asked for, until its end.

    Raises:
        OSError: If the address cannot be listened at, standard input cannot be read, or Redis
            refuses.
        ValueError: If the event type is one that cannot be sent, or the URL is none of Redis.
        ModuleNotFoundError: If the command needs an extra that is not installed.
    """
    program = _demo_program() if options.command == "demo" else _lines_program(options)
    _say_warnings()
    trio.run(_serve, program, _listen(options.host, options.port))


def _demo_program() -> _Program:
    try:
        from . import demo
    except ModuleNotFoundError as error:
        raise missing_extra("trio-sse demo", "demo", error) from error

    broadcaster = Broadcaster()
    broadcaster.register_event("sample")
    source = partial(demo.broadcast_samples, broadcaster)
    return _Program(broadcaster, _read_page("demo.html"), source)


def _lines_program(options: argparse.Namespace) -> _Program:
    from . import lines

    relay = _relay(options) if options.redis is not None else None
    broadcaster = Broadcaster(options.buffer, heartbeat_interval=options.heartbeat, relay=relay)
    broadcaster.register_event(options.event)
    sink = (
        lines.ToClients(broadcaster, options)
        if relay is None
        else _relayed(broadcaster, options, relay)
    )
    source = partial(
        lines.broadcast_lines, sink, _standard_input(options), exit_on_eof=options.exit_on_eof
    )
    return _Program(broadcaster, _read_page("lines.html", event=options.event), source, relay)


def _relay(options: argparse.Namespace) -> RedisRelay:
    from ..redis import RedisRelay

    return RedisRelay(options.redis, stream=options.stream)


def _relayed(broadcaster: Broadcaster, options: argparse.Namespace, relay: RedisRelay) -> Sink:
    from .relayed_lines import ToRelay

    return ToRelay(broadcaster, options, relay)


def _standard_input(options: argparse.Namespace) -> int:
    if sys.stdin is not None:
        return _STDIN
    if options.redis is None:
        raise OSError("standard input is closed, so there is nothing to broadcast")
    return os.open(os.devnull, os.O_RDONLY)  # It serves what others broadcast.


def _say_warnings() -> None:
    """Let the library's warnings look like what the program says itself."""
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("trio-sse: %(message)s"))
    logging.getLogger("trio_sse").addHandler(handler)


def _read_page(name: str, **values: str) -> bytes:
    text = (_PAGES / name).read_text("utf-8")
    for key, value in values.items():
        text = text.replace("{{" + key + "}}", html.escape(value))
    return text.encode()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        reason, _, _ = str(error.strerror).partition(" (")  # The address again, as a tuple.
        raise OSError(f"cannot listen at {host}, port {port}: {reason}") from error


async def _serve(program: _Program, listener: socket.socket) -> None:
    config = Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.graceful_timeout = _GRACEFUL_TIMEOUT
    config.loglevel = "WARNING"  # The program says itself where it serves.
    ended = trio.Event()
    start = partial(serve, write_timeout=_WRITE_TIMEOUT, shutdown_trigger=ended.wait)
    async with trio.open_nursery() as nursery:
        until_signal: trio.CancelScope = await nursery.start(_cancel_on_signal)
        async with trio.open_nursery() as serving, trio.open_nursery() as relaying:
            with until_signal:
                if program.relay is not None:
                    await _start(program.relay, relaying)
                urls: list[str] = await serving.start(start, _site(program), config)
                print(f"trio-sse: serving at {urls[0]}", flush=True)
                await program.source()
                await program.broadcaster.aclose()
            program.broadcaster.close()
            ended.set()
            relaying.cancel_scope.cancel("the program ends")
        nursery.cancel_scope.cancel("all is served")


async def _start(relay: RedisRelay, nursery: trio.Nursery) -> None:
    try:
        await nursery.start(relay.run)
    except PermissionError as error:
        raise OSError(f"Redis refuses: {error}") from error


async def _cancel_on_signal(task_status: trio.TaskStatus[trio.CancelScope]) -> None:
    with _ignoring_signals_then(), trio.open_signal_receiver(*_SIGNALS) as signals:
        task_status.started(scope := trio.CancelScope())
        try:
            with _ignoring_signals_then():
                async for number in signals:
                    scope.cancel(signal.Signals(number).name)
        finally:  # What is left unread would come to the program again.
            with trio.move_on_after(0, shield=True):
                while True:
                    await anext(signals)


@contextmanager
def _ignoring_signals_then() -> Generator[None]:
    """Let a further signal change nothing, once the program ends."""
    try:
        yield
    finally:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)


def _site(program: _Program) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """Return an ASGI application: the page at ``/``, the stream at ``/events``."""
    events = sse_app(program.broadcaster)

    async def site(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] == "/events":
            await events(scope, receive, send)
        elif scope["path"] == "/":
            await _respond(send, 200, "text/html; charset=utf-8", program.page)
        else:
            await _respond(send, 404, "text/plain", b"Not found: see / and /events.\n")

    return site


async def _respond(send: Send, status: int, content_type: str, body: bytes) -> None:
    head: Message = {
        "type": "http.response.start",
        "status": status,
        "headers": [
            (b"content-type", content_type.encode()),
            (b"content-length", str(len(body)).encode()),
        ],
    }
    await send(head)
    await send({"type": "http.response.body", "body": body})
