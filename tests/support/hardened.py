"""`trio_sse.hypercorn.serve` on loopback, plain and with TLS."""

from __future__ import annotations

import atexit
import shutil
import ssl
import tempfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from functools import cache, partial
from typing import Final, cast, final

import attrs
import hypercorn
import trio
import trustme

from trio_sse.hypercorn import serve

from .asgi import App
from .clients import Client, Http1Client, Http2Client
from .hostile import REQUEST, WIDE, http2_request
from .server import Server, ServerLog, port_of
from .waiting import PATIENCE

#: A receive buffer so small that a client which does not read stalls its server at once.
SMALL: Final = 4096


@cache
def certificate() -> tuple[str, str]:
    """Make a certificate and its key, for as long as the tests run; return where they are."""
    directory = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, directory)
    certfile, keyfile = f"{directory}/certificate.pem", f"{directory}/key.pem"
    issued = trustme.CA().issue_cert("testserver")
    issued.private_key_pem.write_to_path(keyfile)
    for part in issued.cert_chain_pems:
        part.write_to_path(certfile, append=True)
    return certfile, keyfile


@cache
def tls_context(protocol: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # Whose certificate it is has no part in these tests.
    context.set_alpn_protocols([protocol])
    return context


@final
@attrs.define(eq=False)
class Served:
    """One call of `serve`, by its two addresses; every connection to it is closed in the end."""

    plain: Server = attrs.field(factory=Server)
    secure: Server = attrs.field(factory=Server)
    shutdown: trio.Event = attrs.field(factory=trio.Event)
    scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    returned: trio.Event = attrs.field(factory=trio.Event)
    log: ServerLog = attrs.field(factory=ServerLog)  # What is left in the end fails the test.

    async def connect(
        self, protocol: str = "http/1.1", *, tls: bool = False, receive_buffer: int = 0
    ) -> trio.SocketStream:
        stream = await (self.secure if tls else self.plain).connect(receive_buffer)
        if not tls:
            return stream
        secure = trio.SSLStream(stream, tls_context(protocol), https_compatible=True)
        await secure.do_handshake()
        return cast("trio.SocketStream", secure)  # It has all that the clients use.

    async def http1(self, *, tls: bool = False) -> Client:
        return Http1Client(await self.connect(tls=tls))

    async def http2(self, *, tls: bool = False, **window: int) -> Client:
        return Http2Client(await self.connect("h2", tls=tls), **window)

    async def clients(self, protocol: str) -> list[Client]:
        """Connect by a protocol, plain and with TLS."""
        connect = self.http2 if protocol == "h2" else self.http1
        return [await connect(tls=tls) for tls in (False, True)]

    async def every_client(self) -> list[Client]:
        return await self.clients("http/1.1") + await self.clients("h2")

    async def stalled(self) -> dict[str, trio.SocketStream]:
        """Request the stream in every way in which a client can do so, and read nothing of it."""
        kinds = {
            "HTTP/1.1": ("http/1.1", REQUEST),
            "HTTP/2, window 0": ("h2", http2_request(window=0)),
            "HTTP/2": ("h2", http2_request()),
            "HTTP/2, wide window": ("h2", http2_request(window=WIDE)),
        }
        stalled: dict[str, trio.SocketStream] = {}
        for kind, (protocol, request) in kinds.items():
            for tls in (False, True):
                stream = await self.connect(protocol, tls=tls, receive_buffer=SMALL)
                await stream.send_all(request)
                stalled[f"{kind}{', TLS' * tls}"] = stream
        return stalled


@asynccontextmanager
async def hardened(
    app: App, *, write_timeout: float = 30.0, graceful_timeout: float = 0.05, **settings: object
) -> AsyncGenerator[Served]:
    """Serve an application for the length of a block; what it leaves in the log fails it."""
    served = Served()
    config = hypercorn.Config()
    config.bind, config.insecure_bind = ["127.0.0.1:0"], ["127.0.0.1:0"]
    config.certfile, config.keyfile = certificate()
    config.errorlog, config.graceful_timeout = served.log.logger, graceful_timeout
    for name, value in settings.items():
        setattr(config, name, value)

    async def run(*, task_status: trio.TaskStatus[list[str]]) -> None:
        with served.scope:
            trigger = served.shutdown.wait
            limits = partial(serve, write_timeout=write_timeout, shutdown_trigger=trigger)
            async with trio.open_nursery() as nursery:
                task_status.started(await nursery.start(limits, app, config))
        served.returned.set()

    with trio.fail_after(PATIENCE):
        async with trio.open_nursery() as nursery:
            secure, plain = await nursery.start(run)
            assert secure.startswith("https://")
            served.secure.port, served.plain.port = port_of(secure), port_of(plain)
            try:
                yield served
            finally:
                served.plain.close_connections()
                served.secure.close_connections()
                served.shutdown.set()
    log = served.log.take()
    assert log == [], "\n".join(log)


async def was_reset(stream: trio.SocketStream) -> bool:
    """Read a connection to its end, below TLS; tell whether that is a reset."""
    below: trio.SocketStream = getattr(stream, "transport_stream", stream)
    try:
        while await below.receive_some():
            pass
    except trio.BrokenResourceError:
        return True
    return False
