import signal

import trio
from hypercorn.config import Config

from trio_sse import Broadcaster, sse_app
from trio_sse.hypercorn import serve

broadcaster = Broadcaster()
broadcaster.register_event("tick")


async def publish() -> None:
    while True:
        broadcaster.broadcast("tick", {"time": trio.current_time()})  # never waits
        await trio.sleep(1)


async def main() -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(publish)
            stop = signals.__anext__  # Ctrl-C: every stream ends well, then the program
            await serve(sse_app(broadcaster), Config(), shutdown_trigger=stop)
            nursery.cancel_scope.cancel()


trio.run(main)
