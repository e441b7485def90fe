"""Whatever goes wrong in one stream is the end of that stream, and of nothing else."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Any, Final, cast

import pytest
import trio

from trio_sse import Broadcaster, producer_app, sse_app
from trio_sse._delivery.bypass import EXTENSION, Bypass

from ..support.asgi import App, Message, Receive, Send
from ..support.clients import Response
from ..support.hardened import Served, hardened
from ..support.thorough import THOROUGH
from ..support.waiting import until

INNOCENT: Final = 100 if THOROUGH else 20


@trio.as_safe_channel
async def careless(what: Any) -> AsyncGenerator[Any]:
    await trio.lowlevel.checkpoint()
    yield what


def by_path(broadcaster: Broadcaster, other: Callable[[], App]) -> App:
    """The stream for all, and something else at ``/other``."""
    stream = sse_app(broadcaster)

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        chosen = other() if scope.get("path") == "/other" else stream
        await chosen(scope, receive, send)

    return app


async def connect(served: Served, broadcaster: Broadcaster, count: int) -> list[Response]:
    before = broadcaster.client_count
    responses = [await (await served.http1()).request() for _ in range(count)]
    await until(lambda: broadcaster.client_count == before + count)
    return responses


async def check_innocent(broadcaster: Broadcaster, responses: list[Response], data: str) -> None:
    broadcaster.broadcast("x", data)
    for response in responses:
        assert (await response.receive()).data == data


@pytest.mark.parametrize("what", [{"a": 1}, None, b"bytes", "event: forged\n\n"])
async def test_a_producer_that_yields_no_event_is_cut_and_told_and_nobody_else_notices(
    what: Any,
) -> None:
    broadcaster = Broadcaster(strict=False)
    app = by_path(broadcaster, lambda: producer_app(careless(what)))
    async with hardened(app) as served:
        innocent = await connect(served, broadcaster, INNOCENT)
        victim = await (await served.http1()).request(path="/other")
        with pytest.raises(trio.BrokenResourceError):
            await victim.receive()
        assert bytes(victim.body).strip() == b""
        (line,) = served.log.take()
        assert "a producer must yield trio_sse.ServerSentEvent" in line
        await check_innocent(broadcaster, innocent, "still there")
        innocent += await connect(served, broadcaster, 1)
        await check_innocent(broadcaster, innocent, "and new ones come")


@pytest.mark.parametrize("when", ["alone", "among those that keep up"])
async def test_a_fault_in_a_streams_turn_ends_that_stream_only(
    when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broadcaster = Broadcaster(4, strict=False)
    faulty: list[Bypass] = []
    own = cast("property", Bypass.__dict__["sender"]).fget
    sender = cast("Callable[[Bypass], Callable[[bytes], int]]", own)

    def sender_or_fault(bypass: Bypass) -> Callable[[bytes], int]:
        send = sender(bypass)

        def send_or_fail(data: bytes) -> int:
            if b"poison" in data:
                raise ZeroDivisionError("injected")
            return send(data)

        return send_or_fail if bypass in faulty else send

    monkeypatch.setattr(Bypass, "sender", property(sender_or_fault))

    async def marked(scope: Message, receive: Receive, send: Send) -> None:
        faulty.append(scope["extensions"][EXTENSION])
        topics = ["own"] if when == "alone" else []
        await sse_app(broadcaster, topics=topics)(scope, receive, send)

    async with hardened(by_path(broadcaster, lambda: marked)) as served:
        innocent = await connect(served, broadcaster, INNOCENT)
        victim = await (await served.http1()).request(path="/other")
        await until(lambda: broadcaster.statistics().clients_direct == INNOCENT + 1)
        await check_innocent(broadcaster, [*innocent, victim], "before")
        await check_innocent(broadcaster, innocent, "poison")
        with pytest.raises(trio.BrokenResourceError):
            await victim.receive()
        (line,) = served.log.take()
        assert "injected" in line
        await check_innocent(broadcaster, innocent, "after")
        assert broadcaster.client_count == INNOCENT
        await check_innocent(broadcaster, await connect(served, broadcaster, 1), "new ones come")
