"""`trio-sse serve --redis`, where it takes time: thousands of lines, slow readers, no Redis."""

from __future__ import annotations

import signal
import subprocess
import sys
from functools import partial

import trio

from ..support.program import PROGRAM, Running, events_in, running, whole_body_of
from ..support.redis_server import redis_server
from ..support.tcp import read_until


def test_redis_is_imported_only_when_asked_for() -> None:
    code = "import sys, trio_sse._program.program, trio_sse._program.lines; print(*sys.modules)"
    modules = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert b"coredis" not in modules.stdout


async def test_the_end_of_input_is_when_redis_and_the_clients_here_have_every_line(
    shared: tuple[str, ...],
) -> None:
    count, long = 3000, b"x" * (1024 * 1024)
    lines = [b"%d" % number for number in range(count)]
    responses: dict[Running, bytes] = {}

    async def read_on(program: Running, stream: trio.SocketStream, head: bytes) -> None:
        async with stream:
            responses[program] = head + b"".join([chunk async for chunk in stream])

    async with (
        # One pauses within a chunk of lines; the other's outbox is smaller than its buffer.
        running(*shared, "--exit-on-eof") as one,
        running(*shared, "--event", "other", "--buffer", "5000", "--exit-on-eof") as two,
        trio.open_nursery() as clients,
    ):
        for program in (one, two):
            stream = await program.get("/events")
            head = await read_until(stream, b"\r\n\r\n")
            clients.start_soon(read_on, program, stream, head)
        await one.write(b"\n".join([*lines[:2000], long, *lines[2000:]]))
        await one.close_input()
        status, errors = await one.finish()
        assert (status, errors.count("\n")) == (0, 1)
        assert errors.startswith("trio-sse: a line is left out: an event of 1048")
        await two.write(b"\n".join(lines))
        await two.close_input()
        assert await two.finish() == (0, "")
    of_one, of_two = (events_in(whole_body_of(response)) for response in responses.values())
    assert [data for _, _, data in of_one] == lines
    assert [(event, data) for _, event, data in of_two] == [
        *((b"", line) for line in lines),
        *((b"other", line) for line in lines),
    ]
    assert of_two[:count] == of_one
    assert len({event_id for event_id, _, _ in of_two}) == 2 * count


async def test_a_client_that_reads_slowly_sets_the_pace_of_the_lines_of_its_program(
    shared: tuple[str, ...],
) -> None:
    count, line = 3000, b"x" * 4000 + b"\n"

    async def write(program: Running) -> None:
        await program.write(line * count)
        await program.close_input()

    async with running(*shared, "--exit-on-eof") as program, trio.open_nursery() as nursery:
        async with await program.get("/events") as stream:
            received = bytearray(await read_until(stream, b"\r\n\r\n"))
            nursery.start_soon(write, program)
            while chunk := await stream.receive_some(4096):
                received += chunk
        assert await program.finish() == (0, "")
    assert len(events_in(whole_body_of(bytes(received)))) == count


async def test_without_redis_the_program_says_so_and_waits_for_it() -> None:
    pipe = subprocess.PIPE
    run = partial(trio.run_process, stdout=pipe, stderr=pipe, check=False)
    with redis_server() as server, trio.fail_after(60):
        server.kill()
        command = [*PROGRAM, "serve", "--port", "0", "--redis", server.url]
        async with trio.open_nursery() as nursery:
            waiting, leaving = [await nursery.start(run, command) for _ in range(2)]
            for process in (waiting, leaving):
                said = await process.stderr.receive_some()
                assert said.startswith(b"trio-sse: no connection to Redis, trying again: ")
                assert said.count(b"\n") == 1
            leaving.send_signal(signal.SIGINT)
            leaving.send_signal(signal.SIGINT)
            assert await leaving.wait() == 0
            server.start()
            assert (await waiting.stdout.receive_some()).startswith(b"trio-sse: serving at ")
            waiting.send_signal(signal.SIGTERM)
            waiting.send_signal(signal.SIGTERM)
            assert await waiting.wait() == 0
