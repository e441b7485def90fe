import trio

from trio_sse import Broadcaster

broadcaster = Broadcaster()
stop = trio.Event()


async def end_streams_first() -> None:
    """Wait as the `shutdown_trigger` of `hypercorn.trio.serve`."""
    await stop.wait()
    with trio.move_on_after(5):  # a client that does not read makes it last
        await broadcaster.aclose()
