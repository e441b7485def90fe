"""HTTP/2, the way browsers come: every stream has a defined end, and none harms another."""

from __future__ import annotations

from typing import Final

import pytest
import trio
from h2.errors import ErrorCodes
from trio.testing import wait_all_tasks_blocked

from trio_sse import Broadcaster, sse_app

from ..support.asgi import App, Message, Receive, Send
from ..support.clients import Http2Client, Response
from ..support.hardened import Served, hardened
from ..support.hostile import STREAM_CRASHES
from ..support.remains import living
from ..support.waiting import until

HEAD: Final[Message] = {"type": "http.response.start", "status": 200, "headers": []}
CHUNK: Final = 64 * 1024


def chunk(data: bytes, *, more: bool = True) -> Message:
    return {"type": "http.response.body", "body": data, "more_body": more}


async def answer(scope: Message, receive: Receive, send: Send) -> None:
    await send(HEAD)
    await send(chunk(b"answer", more=False))


async def download(scope: Message, receive: Receive, send: Send) -> None:
    """Send more than anybody buffers."""
    await send(HEAD)
    for _ in range(200):
        await send(chunk(b"x" * CHUNK))
    await send(chunk(b"", more=False))


async def refuse(scope: Message, receive: Receive, send: Send) -> None:
    """Answer before the request has come."""
    await send({**HEAD, "status": 413})
    await send(chunk(b"too much", more=False))


async def read_nothing(scope: Message, receive: Receive, send: Send) -> None:
    await trio.sleep_forever()


async def give_up(scope: Message, receive: Receive, send: Send) -> None:
    """End amid a response, which is not whole then."""
    await send(HEAD)
    await send(chunk(b"the first half"))


async def tell_more(scope: Message, receive: Receive, send: Send) -> None:
    """Use what HTTP/2 has besides: a push, which nobody takes, early hints and trailers."""
    await send({"type": "http.response.push", "path": "/answer", "headers": []})
    await send({"type": "http.response.early_hint", "links": [b"</style.css>; rel=preload"]})
    await send({**HEAD, "trailers": True})
    await send(chunk(b"answer", more=False))
    await send({"type": "http.response.trailers", "headers": [(b"grade", b"A")]})


async def echo(scope: Message, receive: Receive, send: Send) -> None:
    """Send what comes, and read on only then."""
    await send(HEAD)
    while (message := await receive())["type"] == "http.request":
        await send(chunk(message["body"], more=message["more_body"]))
        if not message["more_body"]:
            return


PAGES: Final[dict[str, App]] = {
    f"/{app.__name__}": app
    for app in (answer, download, refuse, read_nothing, give_up, tell_more, echo)
}


def site(broadcaster: Broadcaster) -> App:
    stream = sse_app(broadcaster)

    async def app(scope: Message, receive: Receive, send: Send) -> None:
        await PAGES.get(scope.get("path", ""), stream)(scope, receive, send)

    return app


async def connect(served: Served, *, tls: bool = False) -> tuple[Http2Client, Response]:
    """Connect, as a page with an EventSource does."""
    client = await served.http2(tls=tls)
    assert isinstance(client, Http2Client)
    return client, await client.request()


async def check_lives(broadcaster: Broadcaster, stream: Response, data: str) -> None:
    broadcaster.broadcast("x", data)
    assert (await stream.receive()).data == data


async def until_reset(client: Http2Client, response: Response) -> int:
    while response.reset is None:
        await client.read_for(response)
    return response.reset


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
async def test_at_the_last_request_of_a_connection_its_streams_go_on(
    broadcaster: Broadcaster, tls: bool
) -> None:
    """The client is told to go elsewhere, and what it sends all the same it may send again."""
    async with hardened(site(broadcaster), keep_alive_max_requests=10) as served:
        client, stream = await connect(served, tls=tls)
        early = await client.ask("GET", "/read_nothing")
        for _ in range(9):
            assert (await client.request(path="/answer")).status == 200
        await until(lambda: broadcaster.client_count == 1)
        await check_lives(broadcaster, stream, "1")
        assert client.sent_away
        late = await client.ask("GET", "/answer")
        assert await until_reset(client, late) == ErrorCodes.REFUSED_STREAM
        await check_lives(broadcaster, stream, "2")
        await early.aclose()
        other, _ = await connect(served, tls=tls)
        assert (await other.request(path="/answer")).status == 200
        broadcaster.close()
        assert await stream.rest() == []
        # With its last stream the connection ends.
        while not late.cut or await client.stream.receive_some():
            pass


async def test_a_connection_that_was_sent_away_ends_with_its_last_stream(
    broadcaster: Broadcaster,
) -> None:
    async with hardened(site(broadcaster), keep_alive_max_requests=1) as served:
        client, stream = await connect(served)
        assert (await client.request(path="/answer")).status == 200
        await stream.aclose()
        with trio.fail_after(30):
            while await client.stream.receive_some():
                pass


async def test_an_answer_before_the_request_has_come_ends_that_stream_only(
    broadcaster: Broadcaster,
) -> None:
    """As of a view that answers 413; the page sees it, and what it still sends harms nobody."""
    async with hardened(site(broadcaster)) as served:
        client, stream = await connect(served)
        upload = await client.ask("POST", "/refuse", has_body=True)
        await client.upload(upload, b"x" * 20_000)
        await upload.read_head()
        assert (upload.status, await until_reset(client, upload)) == (413, ErrorCodes.NO_ERROR)
        assert upload.complete
        assert upload.body == b"too much"
        await check_lives(broadcaster, stream, "after it")


async def test_late_frames_of_a_stream_that_is_gone_are_dropped(broadcaster: Broadcaster) -> None:
    """Its client did not know yet; and their bytes are given back to the others."""
    async with hardened(site(broadcaster)) as served:
        client, stream = await connect(served)
        for _ in range(10):
            upload = await client.ask("POST", "/refuse", has_body=True)
            await client.upload(upload, b"x" * 30_000)  # All together more than a connection's.
            await upload.read_head()
        await check_lives(broadcaster, stream, "after them")


async def test_a_response_that_is_not_read_is_reset_and_no_other_stream_is(
    broadcaster: Broadcaster,
) -> None:
    """As of a paused video, beside an EventSource."""
    async with hardened(site(broadcaster), write_timeout=0.3) as served:
        client, stream = await connect(served)
        paused = await client.ask("GET", "/download")
        paused.paused = True
        assert await until_reset(client, paused) == ErrorCodes.CANCEL
        assert not paused.complete
        await check_lives(broadcaster, stream, "meanwhile")
        assert (await client.request(path="/answer")).status == 200


async def test_who_uses_up_the_window_of_the_connection_is_reset_and_not_who_waits_for_it(
    broadcaster: Broadcaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Though its application waits for nothing: what it has said fits into its buffer."""

    async def say_something(scope: Message, receive: Receive, send: Send) -> None:
        await send(HEAD)
        await send(chunk(b"x" * 70_000))
        await trio.sleep_forever()

    monkeypatch.setitem(PAGES, "/say_something", say_something)
    async with hardened(site(broadcaster), write_timeout=0.3) as served:
        client = await served.http2(window=0)
        assert isinstance(client, Http2Client)
        streams = [await client.request() for _ in range(3)]
        paused = await client.ask("GET", "/say_something")
        paused.paused = True
        while len(paused.body) < 65_000:
            await client.read_for(paused)
        for number in range(40):
            broadcaster.broadcast("x", f"{number}" + "y" * 10_000)
        assert await until_reset(client, paused) == ErrorCodes.CANCEL
        for stream in streams:
            for number in range(40):
                assert (await stream.receive()).data.startswith(f"{number}y")


async def test_what_an_application_does_not_read_keeps_nobody_from_being_read(
    broadcaster: Broadcaster,
) -> None:
    async with hardened(site(broadcaster)) as served:
        client, stream = await connect(served)
        for _ in range(3):
            stuck = await client.ask("POST", "/read_nothing", has_body=True)
            for _ in range(3):
                await client.upload(stuck, b"x" * 20_000)
        echoed = await client.ask("POST", "/echo", has_body=True)
        await client.upload(echoed, b"y" * 20_000, ends=True)
        while not echoed.complete:
            await client.read_for(echoed)
        assert echoed.body == b"y" * 20_000
        await check_lives(broadcaster, stream, "beside them")


async def test_an_application_that_ends_too_early_resets_its_stream(
    broadcaster: Broadcaster,
) -> None:
    async with hardened(site(broadcaster)) as served:
        client, stream = await connect(served)
        half = await client.request(path="/give_up")
        assert await until_reset(client, half) == ErrorCodes.INTERNAL_ERROR
        assert not half.complete
        await check_lives(broadcaster, stream, "after it")


async def test_early_hints_and_trailers_arrive_and_a_push_is_left_out(
    broadcaster: Broadcaster,
) -> None:
    async with hardened(site(broadcaster)) as served:
        client, stream = await connect(served)
        response = await client.ask("GET", "/tell_more", headers={"te": "trailers"})
        while not response.complete:
            await client.read_for(response)
        assert response.body == b"answer"
        assert response.headers["grade"] == "A"
        await check_lives(broadcaster, stream, "after it")


async def test_a_stream_with_little_to_say_has_its_turn_beside_those_with_much(
    broadcaster: Broadcaster,
) -> None:
    async with hardened(site(broadcaster)) as served:
        client, stream = await connect(served)
        downloads = [await client.ask("GET", "/download") for _ in range(8)]
        for number in range(20):
            await check_lives(broadcaster, stream, str(number))
            assert not any(download.complete for download in downloads)


async def test_what_is_no_http2_ends_its_connection_and_no_other(broadcaster: Broadcaster) -> None:
    """Amid a download, too; and nothing is logged."""
    async with hardened(site(broadcaster)) as served:
        _, stream = await connect(served)
        client, cut = await connect(served)
        await client.ask("GET", "/download")
        await client.stream.send_all(b"\x00\x00\x05\x07\x00\x00\x00\x00\x01hello")
        while not cut.cut:
            await client.read_for(cut)
        await until(lambda: broadcaster.client_count == 1)
        await check_lives(broadcaster, stream, "after it")


async def test_a_client_that_goes_away_is_gone(broadcaster: Broadcaster) -> None:
    async with hardened(site(broadcaster)) as served:
        client, stream = await connect(served)
        await client.stream.send_all(b"\x00\x00\x08\x07" + bytes(13))  # GOAWAY
        while not stream.cut:
            await client.read_for(stream)
        await until(lambda: broadcaster.client_count == 0)


async def test_at_a_shutdown_a_response_comes_to_its_end_and_no_request_is_taken(
    broadcaster: Broadcaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on = trio.Event()

    async def slow(scope: Message, receive: Receive, send: Send) -> None:
        await send(HEAD)
        await go_on.wait()
        await send(chunk(b"the rest", more=False))

    monkeypatch.setitem(PAGES, "/slow", slow)
    async with hardened(site(broadcaster), graceful_timeout=20) as served:
        client, stream = await connect(served)
        first, second = [await client.request(path="/slow") for _ in range(2)]
        served.shutdown.set()
        assert await stream.rest() == []
        await wait_all_tasks_blocked(0.3)
        late = await client.ask("GET", "/answer")
        assert await until_reset(client, late) == ErrorCodes.REFUSED_STREAM
        assert client.sent_away
        go_on.set()
        for response in (first, second):
            while not response.complete:
                await client.read_for(response)
            assert response.body == b"the rest"


@pytest.mark.parametrize("crash", STREAM_CRASHES)
async def test_a_request_that_cannot_be_meant_ends_its_stream_only(
    broadcaster: Broadcaster, crash: str
) -> None:
    async with hardened(site(broadcaster)) as served:
        stream = await served.connect()
        await STREAM_CRASHES[crash](stream)
        received = b""
        while b"\x00\x00\x04\x03\x00" not in received:  # RST_STREAM
            received += await stream.receive_some()


@pytest.mark.parametrize("path", ["/echo", "/read_nothing"])
async def test_who_uploads_reads_nothing_and_leaves_leaves_nothing(
    broadcaster: Broadcaster, path: str
) -> None:
    async with hardened(site(broadcaster)) as served:
        await wait_all_tasks_blocked(0.05)
        before = living()
        for _ in range(5):
            client = await served.http2()
            assert isinstance(client, Http2Client)
            upload = await client.ask("POST", path, has_body=True)
            for _ in range(30):
                await client.upload(upload, b"z" * 2_000)
            await wait_all_tasks_blocked(0.01)
            await client.stream.aclose()
        if path == "/echo":
            await until(lambda: living() == before)


async def test_old_priorities_cost_nothing(broadcaster: Broadcaster) -> None:
    """Thousands of streams of which only a priority is known are no streams."""
    async with hardened(site(broadcaster)) as served:
        client, stream = await connect(served)
        for stream_id in range(101, 6_001, 2):
            frame = b"\x00\x00\x05\x02\x00" + stream_id.to_bytes(4, "big") + b"\x00\x00\x00\x00\x10"
            await client.stream.send_all(frame)
        await check_lives(broadcaster, stream, "after them")
        assert (await client.request(path="/answer")).status == 200


async def test_all_streams_together_hold_little(
    broadcaster: Broadcaster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many they are, and however much their applications have to say at once."""
    sent = 0

    async def flood(scope: Message, receive: Receive, send: Send) -> None:
        nonlocal sent
        await send(HEAD)
        while True:  # Though nobody is there any more: others have their turns.
            await send(chunk(b"x" * CHUNK))
            sent += CHUNK

    monkeypatch.setitem(PAGES, "/flood", flood)
    async with hardened(site(broadcaster)) as served:
        client, stream = await connect(served)
        for _ in range(99):
            (await client.ask("GET", "/flood")).paused = True
        await wait_all_tasks_blocked(0.1)
        assert sent <= 1024 * 1024 + 99 * 65_535
        await check_lives(broadcaster, stream, "beside them")
