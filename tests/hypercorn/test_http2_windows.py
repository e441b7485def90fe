"""Streams that are written to directly, as far as a client's windows go: h2 judges each byte."""

from __future__ import annotations

import random
from typing import Final

import pytest
import trio
from h2.settings import SettingCodes
from trio.testing import wait_all_tasks_blocked

from trio_sse import Broadcaster, sse_app

from ..support.clients import Http2Client, Response
from ..support.events import data_of, take_data
from ..support.hardened import Served, hardened
from ..support.waiting import until

#: The windows with which streams begin, in bytes.
WINDOWS: Final = (120, 5_000, 65_535, 1_000_000)

#: What no test sends more of.
MUCH: Final = 20_000_000


class Miser(Http2Client):
    """A client whose windows grow only when the test says so."""

    async def grant(self, size: int, stream: Response | None = None) -> None:
        """Let so many bytes more be sent, on a stream or on all together."""
        self._h2.increment_flow_control_window(size, stream.stream_id if stream else None)
        await self._flush()

    async def change(self, **settings: int) -> None:
        self._h2.update_settings({SettingCodes[name.upper()]: n for name, n in settings.items()})
        await self._flush()

    async def streams(self, broadcaster: Broadcaster, count: int) -> list[Response]:
        """Open so many streams; return when they go the direct way."""
        streams = [await self.request() for _ in range(count)]
        for stream in streams:
            stream.paused = True
        await until(lambda: broadcaster.statistics().clients_direct == count)
        return streams

    async def read(self) -> None:
        """Read all that comes, until nothing more can."""
        while True:
            await self._read_once()


async def miser(served: Served, *, tls: bool, stream_window: int = 65_535) -> Miser:
    stream = await served.connect("h2", tls=tls)
    return Miser(stream, window=0, stream_window=stream_window)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("window", WINDOWS)
async def test_all_arrives_once_and_in_order_however_windows_grow_and_shrink(
    tls: bool, window: int, seed: int
) -> None:
    """Events of 1 to 50,000 bytes on three streams, of which one is reset amid them."""
    chance = random.Random(seed)  # noqa: S311 (repeatable)
    broadcaster = Broadcaster(1000, strict=False, history_size=0)
    expected: list[str | None] = []

    def broadcast() -> None:
        for _ in range(chance.choice([1, 1, 2, 10])):
            expected.append(f"{len(expected)} {'y' * int(10 ** chance.uniform(0, 4.7))}")
            broadcaster.broadcast("x", expected[-1])

    async with hardened(sse_app(broadcaster)) as served, trio.open_nursery() as nursery:
        client = await miser(served, tls=tls, stream_window=window)
        left, *others = await client.streams(broadcaster, 3)
        nursery.start_soon(client.read)
        for n in range(60):
            match chance.randrange(8):
                case 0 | 1 | 2:
                    broadcast()
                case 3:
                    await client.grant(chance.randint(1, 100_000))
                case 4:
                    await client.change(initial_window_size=chance.choice(WINDOWS))
                case 5:
                    await wait_all_tasks_blocked()
                case _:
                    await client.grant(chance.randint(1, 30_000), chance.choice(others))
            if n == 30:
                broadcast()
                await left.aclose()
        broadcaster.close()
        for stream in others:
            await client.grant(MUCH, stream)
        await client.grant(3 * MUCH)
        await until(lambda: all(stream.complete for stream in others))
        for stream in others:
            assert data_of(await stream.rest()) == expected
        assert not left.complete
        nursery.cancel_scope.cancel()


async def test_a_window_below_zero_holds_back_all_until_it_is_above(tls: bool) -> None:
    """It is so when a client lowers INITIAL_WINDOW_SIZE amid a stream (RFC 9113, 6.9.2)."""
    broadcaster = Broadcaster(strict=False)
    async with hardened(sse_app(broadcaster)) as served:
        client = await miser(served, tls=tls)
        lowered, other = await client.streams(broadcaster, 2)
        broadcaster.broadcast("x", "y" * 5_000)
        for stream in (lowered, other):
            assert await take_data(stream, 1) == ["y" * 5_000]
        await client.change(initial_window_size=1_000)
        await client.grant(10_000, other)  # Whoever has this has heard of the change before.
        broadcaster.broadcast("x", "a")
        broadcaster.broadcast("x", "b")
        assert await take_data(other, 2) == ["a", "b"]
        seen = len(lowered.body)
        await client.grant(10_000, lowered)
        assert await take_data(lowered, 2) == ["a", "b"]
        assert len(lowered.body) < seen + 1_000


async def test_no_frame_goes_out_before_word_that_its_window_was_heard_of(tls: bool) -> None:
    """A window that the client has raised by a setting counts only behind the acknowledgement."""
    broadcaster = Broadcaster(strict=False)
    async with hardened(sse_app(broadcaster)) as served:
        client = await miser(served, tls=tls)
        (stream,) = await client.streams(broadcaster, 1)
        for n in range(40):  # Each time it is by chance which of two tasks is the first.
            await client.change(initial_window_size=0)
            broadcaster.broadcast("x", "y" * 100)
            await wait_all_tasks_blocked()
            await client.change(initial_window_size=65_535)
            assert await take_data(stream, 1) == ["y" * 100]
            await client.change(initial_window_size=0)
            await wait_all_tasks_blocked()
            await client.change(initial_window_size=65_535)
            broadcaster.broadcast("x", str(n))
            assert await take_data(stream, 1) == [str(n)]


async def test_streams_that_share_a_window_too_small_for_all_get_all_of_it_in_order(
    tls: bool,
) -> None:
    broadcaster = Broadcaster(strict=False)
    async with hardened(sse_app(broadcaster)) as served, trio.open_nursery() as nursery:
        client = await miser(served, tls=tls, stream_window=1_000_000)
        streams = await client.streams(broadcaster, 5)
        nursery.start_soon(client.read)
        for n in range(30):  # All together more than the 64 KiB of the connection.
            broadcaster.broadcast("x", f"{n} {'y' * 1_000}")
            await wait_all_tasks_blocked()
        assert sum(len(stream.body) for stream in streams) <= 65_535
        broadcaster.close()
        await client.grant(MUCH)
        await until(lambda: all(stream.complete for stream in streams))
        for stream in streams:
            events = data_of(await stream.rest())
            assert events == [f"{n} {'y' * 1_000}" for n in range(30)]
        nursery.cancel_scope.cancel()
