"""One request that an application answers, from its call to its line in the access log.

The line has the status, and the bytes of the body. Hypercorn 0.18 logs two where the response ends
its connection, and knows neither the status of a response whose client has left nor how much it
was; so its own lines are left out. It knows ASGI messages and hypercorn's log; it knows neither
protocols nor what is past them.
"""

from __future__ import annotations

import math
import time
from contextlib import suppress
from typing import Any, Final, final

import trio
from hypercorn.logging import Logger
from hypercorn.utils import suppress_body

from .._delivery.socket_writer import SocketWriter

#: In a scope's extensions once the client has left before the end, and once there is a line.
_LEFT: Final = "trio_sse.client_left"
_LOGGED: Final = "trio_sse.logged"


@final
class AccessLog:
    """What hypercorn logs with: all but its lines of applications' responses go on."""

    def __init__(self, log: Logger) -> None:
        self.log = log

    def __getattr__(self, name: str) -> Any:
        return getattr(self.log, name)

    async def access(self, request: Any, response: Any, request_time: float) -> None:
        """Pass on a line of a WebSocket, or of what no application was asked for."""
        if request["type"] != "http":
            await self.line(request, response, request_time)
        elif response is None:
            request["extensions"][_LEFT] = {}
        elif response["status"] == 404 and "type" not in response:  # Of no server that we are.
            await self.line(request, response, request_time)

    async def line(self, scope: Any, response: Any, seconds: float) -> None:
        """Write the line of a request, unless it has one."""
        if _LOGGED not in scope["extensions"]:
            scope["extensions"][_LOGGED] = {}
            query = scope["query_string"].decode(
                errors="backslashreplace"
            )  # Hypercorn takes UTF-8.
            request: Any = {**scope, "query_string": query.encode()}
            await self.log.access(request, response, seconds)


@final
class Exchange:
    """One request that an application answers, by `send`."""

    __slots__ = ("_began_at", "_has_ended", "_scope", "_send", "_size", "_socket_writer", "_start")

    def __init__(self, scope: Any, send: Any, socket_writer: SocketWriter) -> None:
        self._scope = scope
        self._send = send
        self._socket_writer = socket_writer
        self._began_at = time.time()
        self._start: Any = None
        self._size = 0
        self._has_ended = False

    async def send(self, message: Any) -> None:
        """Send a message; let hypercorn finish what it does with the last one, once that fits.

        It tells the application then that the client has left, on which many cancel the task that
        is sending: hypercorn would be stopped before it recycles the connection, or closes it.
        """
        is_in_time = not self._has_ended and _LEFT not in self._scope["extensions"]
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            with suppress(trio.BrokenResourceError):  # The write to come is told the same.
                await self._socket_writer.flush()
            with trio.CancelScope(shield=True):
                await self._send(message)
        else:
            await self._send(message)
        if is_in_time:
            self._note(message)

    def _note(self, message: Any) -> None:
        """Take note of what was sent, as hypercorn has taken it."""
        if message["type"] == "http.response.start":
            self._start = self._start or message
        elif message["type"] == "http.response.body" and self._start is not None:
            if not suppress_body(self._scope["method"], int(self._start["status"])):
                self._size += len(message.get("body", b""))
            self._has_ended = not message.get("more_body", False)

    @property
    def seconds(self) -> float:
        """How long it has taken till now."""
        return time.time() - self._began_at

    def response(self, sent_directly: int) -> Any:
        """Return what was answered, as the log wants it; nothing if nobody was there for it.

        So many bytes of the body were sent past the server.
        """
        if self._start is not None:
            return self._summary(self._size + sent_directly)
        if _LEFT in self._scope["extensions"] or _is_cancelled():
            return None
        return {"status": 500, "headers": []}  # As hypercorn will answer.

    def _summary(self, size: int) -> Any:
        """Return what was sent, as it was sent: hypercorn logs the content-length as the size."""
        headers = [
            (name, value)
            for name, value in self._start.get("headers", ())
            if bytes(name).lower() != b"content-length"
        ]
        length = (b"content-length", b"%d" % size)
        return {"status": self._start["status"], "headers": [*headers, length]}


def _is_cancelled() -> bool:
    return trio.current_effective_deadline() == -math.inf
