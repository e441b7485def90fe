"""The programs of docs/examples, each in a process of its own, over real sockets."""

from __future__ import annotations

import re
from pathlib import Path

from ..support.clients import Response
from ..support.examples import Program, running


async def texts(stream: Response, count: int) -> list[str]:
    return [(await stream.receive()).json()["text"] for _ in range(count)]


async def test_a_chat_keeps_rooms_apart_and_lets_each_user_into_three_of_them(
    tmp_path: Path,
) -> None:
    ada, grace = {"cookie": "session=1815"}, {"cookie": "session=1906"}
    odd = "caf%C3%A9%20%26/1:2"
    async with running("chat.py", tmp_path) as chat:
        assert await chat.status("GET", "/events") == 401
        assert await chat.status("POST", "/rooms/7", {"cookie": "session=2"}) == 401
        in_7 = await chat.stream("/events?room=7", ada)
        in_8 = await chat.stream("/events?room=8", ada)
        in_odd = await chat.stream(f"/events?room={odd}", ada)
        assert await chat.is_turned_away("/events?room=9", ada)
        of_grace = await chat.stream("/events?room=7", grace)
        for path in ("rooms/8", "rooms/7", f"rooms/{odd}", "users/ada", "rooms/7"):
            answer = await chat.ask("POST", f"/{path}", grace, f"in {path}".encode())
            assert answer.status == 204
        assert (await in_7.receive()).json() == {"user": "grace", "text": "in rooms/7"}
        assert await texts(in_7, 2) == ["in users/ada", "in rooms/7"]
        assert await texts(in_8, 2) == ["in rooms/8", "in users/ada"]
        assert await texts(in_odd, 2) == [f"in rooms/{odd}", "in users/ada"]
        assert await texts(of_grace, 2) == ["in rooms/7", "in rooms/7"]
        chat.interrupt()
        for stream in (in_7, in_8, in_odd, of_grace):
            assert await stream.rest() == []


async def test_a_price_board_begins_with_all_prices_and_goes_on_without_a_gap(
    tmp_path: Path,
) -> None:
    async with running("prices.py", tmp_path) as prices:
        early = await prices.stream("/")
        board = await _board(early)
        assert board.keys() == {"ABC", "KLM", "XYZ"}
        moves = [await early.receive() for _ in range(4)]
        late = await prices.stream("/")
        board_then = await _board(late)
        moves_then = [await late.receive() for _ in range(2)]
        while moves[-1].id != moves_then[-1].id:
            moves.append(await early.receive())
        prices.interrupt()
        await late.rest()
    numbers = [int(move.id.rpartition("-")[2]) for move in moves]
    assert numbers == [*range(numbers[0], numbers[0] + len(moves))]
    assert [(move.id, move.data) for move in moves[-2:]] == [
        (move.id, move.data) for move in moves_then
    ]
    assert board_then == board | {move.json()["symbol"]: move.json()["bid"] for move in moves[:-2]}


async def _board(stream: Response) -> dict[str, float]:
    """Return the prices that a stream begins with."""
    prices = [await stream.receive() for _ in range(3)]
    assert {(price.event, price.id) for price in prices} == {("price", "")}
    return {price.json()["symbol"]: price.json()["bid"] for price in prices}


async def test_notifications_are_for_their_user_and_from_the_admin(tmp_path: Path) -> None:
    async with running("notifications.py", tmp_path) as program:
        ada, grace, admin = [await _log_in(program, name) for name in ("ada", "grace", "admin")]
        assert await program.status("GET", "/notifications") == 401
        assert await program.status("GET", "/notifications", {"cookie": "session=forged"}) == 401
        streams = [await program.stream("/notifications", ada) for _ in range(3)]
        assert await program.is_turned_away("/notifications", ada)
        of_grace = await program.stream("/notifications", grace)

        tea = {"text": "tea is ready"}
        answers = [await program.post("/notify/ada", tea, who) for who in ({}, ada, grace, admin)]
        assert [answer.status for answer in answers] == [401, 403, 403, 204]
        await program.post("/notify/grace", {"text": "coffee"}, admin)
        assert [await texts(stream, 1) for stream in streams] == [["tea is ready"]] * 3
        assert await texts(of_grace, 1) == ["coffee"]
        program.interrupt()
        for stream in (*streams, of_grace):
            assert await stream.rest() == []


async def test_who_logs_out_has_no_stream_any_more_and_none_comes_back(tmp_path: Path) -> None:
    async with running("notifications.py", tmp_path) as program:
        here, there = await _log_in(program, "ada"), await _log_in(program, "ada")
        streams = [await program.stream("/notifications", session) for session in (here, there)]
        of_grace = await program.stream("/notifications", await _log_in(program, "grace"))
        gone = await program.post("/logout", None, here)
        for stream in streams:
            assert await stream.rest() == []
            assert stream.body.endswith(b"\nid: end\nevent: stream-end\ndata: {}\n\n")
        # A browser comes back once, and hears that it shall not, whether it has a session or none.
        back = {"last-event-id": "end"}
        assert await program.status("GET", "/notifications", back | there) == 204
        assert await program.status("GET", "/notifications", back | _session(gone)) == 401
        program.interrupt()
        assert await of_grace.rest() == []
        assert b"end" not in of_grace.body


async def _log_in(program: Program, user: str) -> dict[str, str]:
    answer = await program.post("/login", {"user": user})
    assert answer.status == 204
    return _session(answer)


def _session(answer: Response) -> dict[str, str]:
    """Return the header that brings back the cookie of an answer."""
    return {"cookie": answer.headers["set-cookie"].partition(";")[0]}


async def test_a_job_tells_its_progress_and_ends_and_its_owner_hears_of_it(tmp_path: Path) -> None:
    ada, grace = {"authorization": "Bearer 1815"}, {"authorization": "Bearer 1906"}
    async with running("progress.py", tmp_path) as program:
        assert await program.status("GET", "/jobs") == 401
        assert await program.status("GET", "/jobs/7", {"authorization": "Bearer 2"}) == 401
        assert await program.status("GET", "/jobs/7", grace) == 403
        jobs = [await program.stream("/jobs", ada) for _ in range(3)]
        assert await program.is_turned_away("/jobs", ada)
        of_grace = await program.stream("/jobs", grace)

        events = await (await program.stream("/jobs/7", ada)).rest()
        assert [(event.event, event.data, event.id) for event in events] == [
            *(("progress", f"{percent} %", "") for percent in range(0, 101, 10)),
            ("done", "42", "end"),
        ]
        assert await program.line() == "/jobs/7 ended at 100 %\n"
        # It is not run again by a browser that comes back.
        assert await program.status("GET", "/jobs/7", {"last-event-id": "end", **ada}) == 204
        assert [(await stream.receive()).data for stream in jobs] == ["/jobs/7"] * 3
        program.interrupt()
        for stream in (*jobs, of_grace):
            assert await stream.rest() == []


async def test_a_job_is_cancelled_when_its_client_leaves_and_at_ctrl_c(
    tmp_path: Path,
) -> None:
    ended_early = re.compile(r"/jobs/8 ended at \d{1,2} %\n")
    grace = {"authorization": "Bearer 1906"}
    async with running("progress.py", tmp_path) as program:
        left, ended = [await program.stream("/jobs/8", grace) for _ in range(2)]
        assert (await left.receive()).data == "0 %"
        await left.aclose()
        assert ended_early.fullmatch(await program.line())
        program.interrupt()
        await ended.rest()
        assert ended_early.fullmatch(await program.line())


async def test_a_filtered_stream_resumes_where_it_was_cut(tmp_path: Path) -> None:
    """Also if that was before its first event."""
    async with running("filtered.py", tmp_path) as program:
        stream = await program.stream("/?every=50")
        while not (last_id := stream.last_event_id):
            await program.clients[-1].read_for(stream)
        numbers: list[int] = []
        for _ in range(2):
            stream = await program.stream("/?every=50", {"last-event-id": last_id})
            numbers += [int((await stream.receive()).data) for _ in range(2)]
            last_id = stream.last_event_id
        assert numbers == [*range(numbers[0], numbers[0] + 200, 50)]
        unknown = await program.stream("/", {"last-event-id": "?"})
        assert (await unknown.receive()).event == "stream-reset"
        program.interrupt()
