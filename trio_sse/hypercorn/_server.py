"""`serve`: any ASGI application on hypercorn's trio worker, hardened for streams that never end.

Hypercorn's classes are composed and subclassed; nothing is patched. What stock hypercorn 0.18 does
to a streaming service, and what is done here:

1. The crash of one connection ends the whole worker: here it ends that connection, with one line
   logged.
2. A client that stops reading can never be freed, and makes a shutdown hang: here its connection is
   aborted once the kernel has taken no byte of it for `write_timeout`.
3. A shutdown ends only when the last client allows it: here what is left after it is aborted.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Awaitable, Callable
from typing import Final, final

import trio
from hypercorn.config import Config
from hypercorn.trio.lifespan import Lifespan
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState, LifespanState

# hypercorn's annotation leaves type arguments out.
from hypercorn.utils import wrap_app  # pyright: ignore[reportUnknownVariableType]

from ._connection import Connection, Serving
from ._exchange import AccessLog
from ._internals import copy_with
from ._listeners import Listener, Transport, bound, listen

#: Seconds for the epilogue of what is cancelled (see `_delivery.response`), before connections are
#: aborted.
_EPILOGUE: Final = 0.5

#: Settings that are refused, and why: to pass them over would surprise.
_REFUSED: Final = {
    "debug": "the event loop is yours, and Trio's has no such mode",
    "pid_path": "serve() is a part of your program, which knows its process",
    "quic_bind": "HTTP/3 is not served, where no client's going is noticed",
    "statsd_host": "serve() speaks no statsd; broadcaster.statistics() tells",
    "use_reloader": "serve() cannot start your program again; let another one watch its files",
    "workers": "serve() is one process; start it several times, with a relay between them",
}

_UNSET: Final = Config()


async def serve(
    app: Callable[..., Awaitable[None]],
    config: Config,
    *,
    write_timeout: float = 30.0,
    shutdown_trigger: Callable[[], Awaitable[object]] | None = None,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve an ASGI application until the trigger returns, as `hypercorn.trio.serve` does.

    It installs no signal handlers, and has started (``nursery.start``) when it listens.

    Args:
        app: The ASGI application.
        config: Hypercorn's configuration. `graceful_timeout` bounds a shutdown, whatever clients
            do.
        write_timeout: Seconds after which a connection whose client takes no byte is aborted.
        shutdown_trigger: Awaited beside the serving; when it returns, no more connections are
            accepted.
        task_status: Gets the addresses that are listened at, as URLs.

    Raises:
        ValueError: If `write_timeout` is not greater than 0, or `config` asks for what is not
            served (docs/servers.md has all settings).
        OSError: If an address cannot be bound.
    """
    _check(config, write_timeout)
    state: LifespanState = {}
    lifespan = Lifespan(wrap_app(app, config.wsgi_max_body_size, "asgi"), config, state)
    ssl_context = config.create_ssl_context()
    with bound(config) as sockets:
        async with trio.open_nursery() as lifespan_nursery:
            await lifespan_nursery.start(lifespan.handle_lifespan)
            await lifespan.wait_for_startup()
            # Not before: whoever connects would wait for the application.
            listeners, urls = listen(sockets, config, ssl_context, write_timeout)
            for url in urls:
                await config.log.info("Running on %s", url)
            task_status.started(urls)
            server = Server(app, config, state, write_timeout)
            await server.run(listeners, shutdown_trigger or trio.sleep_forever)
            await lifespan.wait_for_shutdown()
            lifespan_nursery.cancel_scope.cancel("the server has shut down")


@final
class Server:
    """The connections of one `serve` call, from the first accept to the last close."""

    def __init__(
        self,
        app: Callable[..., Awaitable[None]],
        config: Config,
        state: LifespanState,
        write_timeout: float,
    ) -> None:
        self._app = app
        access_log = AccessLog(config.log)
        self._config = copy_with(config, _log=access_log)
        self._context = WorkerContext(_max_requests(config))
        self._state = state
        self._serving = Serving(write_timeout, access_log)
        self._connections: set[Connection] = set()
        self._all_gone = trio.lowlevel.ParkingLot()

    async def run(
        self, listeners: list[Listener], shutdown_trigger: Callable[[], Awaitable[object]]
    ) -> None:
        """Accept until the trigger returns; then give connections their time, and end them."""
        async with trio.open_nursery() as connections:
            connections.start_soon(self._abort_when_cancelled)
            connections.start_soon(self._serving.writer.run)
            async with trio.open_nursery() as accepting:
                for trigger in (shutdown_trigger, self._context.terminate.wait):
                    accepting.start_soon(_cancel_after, trigger, accepting.cancel_scope)
                await trio.serve_listeners(
                    self._serve_connection, listeners, handler_nursery=connections
                )
            await self._shut_down()
            connections.cancel_scope.cancel("the graceful time of the shutdown is over")

    async def _shut_down(self) -> None:
        """End the streams, then give the rest hypercorn's graceful treatment, all in one time."""
        deadline = trio.current_time() + self._config.graceful_timeout
        with trio.move_on_at(deadline):
            await self._serving.streams.aclose()
        await self._context.terminated.set()
        with trio.move_on_at(deadline):
            while self._connections:
                await self._all_gone.park()

    async def _serve_connection(self, stream: Transport) -> None:
        state = ConnectionState(self._state.copy())
        connection = Connection(
            self._app, self._config, self._context, state, stream, serving=self._serving
        )
        self._connections.add(connection)
        try:
            await connection
        except* Exception as crash:
            # One line: a traceback for each request of a port scanner would drown the log.
            await self._config.log.warning("a connection crashed and was closed: %r", crash)
        finally:
            self._connections.discard(connection)
            if not self._connections:
                self._all_gone.unpark_all()

    async def _abort_when_cancelled(self) -> None:
        """Let no write that is shielded from cancellation keep the server from ending."""
        try:
            await trio.sleep_forever()
        finally:
            with trio.move_on_after(_EPILOGUE, shield=True):
                while self._connections:
                    await self._all_gone.park()
            for connection in self._connections:
                connection.abort()


async def _cancel_after(wait: Callable[[], Awaitable[object]], scope: trio.CancelScope) -> None:
    await wait()
    scope.cancel("shutdown")


def _check(config: Config, write_timeout: float) -> None:
    """Refuse what would be ignored otherwise, or do harm."""
    if not write_timeout > 0:
        raise ValueError(f"write_timeout must be greater than 0 seconds, got {write_timeout!r}")
    if config.read_timeout is not None:
        warnings.warn(
            "read_timeout ends every event stream after that time, since its client has nothing "
            "more to say; leave it unset (keep_alive_timeout bounds slow requests)",
            stacklevel=3,
        )
    if config.worker_class not in {Config.worker_class, "trio"}:
        raise ValueError(f"worker_class={config.worker_class!r}: serve() runs on Trio, as you do")
    for name, reason in _REFUSED.items():
        value, unset = getattr(config, name), getattr(_UNSET, name)
        if value != unset:
            raise ValueError(f"{name}={value!r}: {reason}; leave it at {unset!r}")


def _max_requests(config: Config) -> int | None:
    """Return after how many requests to end, so that several processes do not end at once."""
    if config.max_requests is None:
        return None
    return config.max_requests + random.randint(0, config.max_requests_jitter)  # noqa: S311
