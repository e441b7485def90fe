"""Jobs in plain ASGI: one runs while its client looks on, and its owner hears which are done.

python progress.py
curl -N -H 'authorization: Bearer 1815' http://127.0.0.1:8000/jobs
curl -N -H 'authorization: Bearer 1815' http://127.0.0.1:8000/jobs/7
"""

import signal
from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
from typing import Any

import trio
from hypercorn.config import Config

from trio_sse import Broadcaster, ServerSentEvent, producer_app, sse_app
from trio_sse.hypercorn import serve

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

USERS = {b"Bearer 1815": "ada", b"Bearer 1906": "grace"}
OWNERS = {"/jobs/7": "ada", "/jobs/8": "grace"}

broadcaster = Broadcaster()
broadcaster.register_event("done", str)


@trio.as_safe_channel
async def run(job: str) -> AsyncGenerator[ServerSentEvent]:
    percent = 0
    try:
        for percent in range(0, 101, 10):
            yield ServerSentEvent("progress", f"{percent} %")
            await trio.sleep(0.05)  # the work
        broadcaster.broadcast("done", job, topic=f"user:{OWNERS[job]}")
        yield ServerSentEvent("done", "42", id="end")  # with this id no browser comes back
    finally:  # a client that leaves cancels its job
        print(f"{job} ended at {percent} %", flush=True)


async def app(scope: Message, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        await sse_app(broadcaster)(scope, receive, send)  # it knows what to say to the server
        return
    headers: dict[bytes, bytes] = dict(scope["headers"])
    user, path = USERS.get(headers.get(b"authorization", b"")), scope["path"]
    if user is None:
        await refuse(send, 401)
    elif path == "/jobs":
        events = sse_app(broadcaster, topics=[f"user:{user}"], key=user, key_limit=3)
        await events(scope, receive, send)
    elif OWNERS.get(path) != user:
        await refuse(send, 403)
    else:
        await producer_app(run(path))(scope, receive, send)


async def refuse(send: Send, status: int) -> None:
    await send({"type": "http.response.start", "status": status, "headers": []})
    await send({"type": "http.response.body"})


async def main() -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        await serve(app, Config(), shutdown_trigger=signals.__anext__)


trio.run(main)
