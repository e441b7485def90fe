"""What `trio-sse` does: serve one page and one event stream until a signal, or the source's end.

A program is a broadcaster, a page and a source, an asynchronous function that broadcasts. This room
knows how they are served and ended; where the events come from is the business of `_demo` and
`_lines`.
"""

from __future__ import annotations

import argparse
import html
import signal
import socket
import sys
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Final

import trio
from hypercorn.config import Config

from ._asgi import sse_app
from ._broadcaster import Broadcaster
from ._delivery import Message, Receive, Scope, Send
from .hypercorn import serve

_PAGES: Final = Path(__file__).with_name("pages")

#: Seconds: everything is over within one second of a signal, what is forced included.
_GRACEFUL_TIMEOUT: Final = 0.25

#: Seconds after which a client that takes no byte is dropped, and holds up the others no longer.
_WRITE_TIMEOUT: Final = 10.0

Source = Callable[[Broadcaster], Awaitable[None]]


def run(options: argparse.Namespace) -> None:
    """Run the command that was asked for, until its end.

    Raises:
        OSError: If the address cannot be listened at, or standard input cannot be read.
        ValueError: If the event type is one that cannot be sent.
        ModuleNotFoundError: If the command needs an extra that is not installed.
    """
    if options.command == "demo":
        from . import _demo

        broadcaster, source = Broadcaster(), _demo.broadcast_samples
        broadcaster.register_event("sample")
        page = _read_page("demo.html")
    else:
        from . import _lines

        if sys.stdin is None:
            raise OSError("standard input is closed, so there is nothing to broadcast")
        broadcaster = Broadcaster(options.buffer, heartbeat_interval=options.heartbeat)
        broadcaster.register_event(options.event)
        source = partial(_lines.broadcast_lines, options=options)
        page = _read_page("lines.html", event=options.event)
    listener = _listen(options.host, options.port)
    trio.run(_serve, broadcaster, page, source, listener)


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


async def _serve(
    broadcaster: Broadcaster, page: bytes, source: Source, listener: socket.socket
) -> None:
    config = Config()
    config.bind = [f"fd://{listener.detach()}"]
    config.graceful_timeout = _GRACEFUL_TIMEOUT
    ended = trio.Event()
    start = partial(serve, write_timeout=_WRITE_TIMEOUT, shutdown_trigger=ended.wait)
    async with trio.open_nursery() as nursery:
        until_signal: trio.CancelScope = await nursery.start(_cancel_on_signal)
        async with trio.open_nursery() as serving:
            urls: list[str] = await serving.start(start, _site(broadcaster, page), config)
            print(f"trio-sse: serving at {urls[0]}", flush=True)
            with until_signal:
                await source(broadcaster)
                await broadcaster.aclose()
            broadcaster.close()
            ended.set()
        nursery.cancel_scope.cancel("all is served")


async def _cancel_on_signal(task_status: trio.TaskStatus[trio.CancelScope]) -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        task_status.started(scope := trio.CancelScope())
        async for number in signals:  # A second one would kill the program, were it left unread.
            scope.cancel(signal.Signals(number).name)


def _site(
    broadcaster: Broadcaster, page: bytes
) -> Callable[[Scope, Receive, Send], Awaitable[None]]:
    """Return an ASGI application: the page at ``/``, the stream at ``/events``."""
    events = sse_app(broadcaster)

    async def site(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["path"] == "/events":
            await events(scope, receive, send)
        elif scope["path"] == "/":
            await _respond(send, 200, "text/html; charset=utf-8", page)
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
