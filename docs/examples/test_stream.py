import trio
from trio.testing import MockClock

from trio_sse import Broadcaster, sse_app
from trio_sse.testing import open_event_stream


async def test_a_silent_stream(nursery: trio.Nursery, autojump_clock: MockClock) -> None:
    stream = await open_event_stream(nursery, sse_app(Broadcaster()))
    await trio.sleep(50)  # takes no time: the clock jumps
    assert stream.comments == ["heartbeat"] * 3
    stream.disconnect()
