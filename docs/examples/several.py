"""One of several processes that share their events by Redis; behind nginx they look like one.

REDIS_URL=redis://127.0.0.1 python several.py 8001
curl -N http://127.0.0.1:8001/events
curl -d 'hello' http://127.0.0.1:8002/say
"""

import os
import signal
import sys

import trio
from hypercorn.config import Config
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from trio_sse import Broadcaster, sse_app
from trio_sse.hypercorn import serve
from trio_sse.redis import RedisRelay

relay = RedisRelay(os.environ["REDIS_URL"], stream="chat")
broadcaster = Broadcaster(relay=relay, reconnection_time=(0.5, 5))
broadcaster.register_event("said", str)


async def say(request: Request) -> Response:
    text = (await request.body()).decode(errors="replace")
    with trio.move_on_after(5):
        event_id = await relay.publish("said", text)  # broadcast() would not wait for Redis
        return PlainTextResponse(event_id)
    return PlainTextResponse("Redis is away; it may be said yet.\n", status_code=503)


async def health(_: Request) -> Response:
    return Response(status_code=204 if relay.statistics().ready else 503)


app = Starlette(
    routes=[
        Route("/events", sse_app(broadcaster)),
        Route("/say", say, methods=["POST"]),
        Route("/health", health),
    ]
)


async def main(port: str) -> None:
    config = Config.from_mapping(bind=f"127.0.0.1:{port}")
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            await nursery.start(relay.run)  # first: nginx asks the others until Redis is here
            await serve(app, config, shutdown_trigger=signals.__anext__)
            nursery.cancel_scope.cancel()  # last: what streams and requests still do needs it


trio.run(main, sys.argv[1])
