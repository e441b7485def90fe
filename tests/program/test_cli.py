"""The program, run as its users run it: a process, its standard streams, signals and a socket."""

from __future__ import annotations

import argparse
import json
import re
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import trio
import trio.testing

from trio_sse import Broadcaster
from trio_sse._program.cli import main
from trio_sse._program.relayed_lines import ToRelay
from trio_sse.redis import RedisRelay

from ..support.program import (
    PROGRAM,
    body_of,
    close_standard_input,
    events_in,
    running,
    whole_body_of,
)
from ..support.redis_server import RedisServer
from ..support.tcp import read_until


async def test_demo_streams_this_machines_load_each_second() -> None:
    async with running("demo") as program, await program.get("/events") as stream:
        received = await read_until(stream, b'"time"')
        sample = json.loads(received[received.index(b'{"') : received.rindex(b"}") + 1])
        assert len(sample["cpu"]) == psutil.cpu_count()
        assert sample["memory"]["total"] == psutil.virtual_memory().total
        assert sample["network"].keys() == {"received", "sent"}


async def test_demo_serves_its_page_and_nothing_else() -> None:
    async with running("demo") as program:
        async with await program.get("/") as page:
            assert b"text/html" in await read_until(page, b"</html>")
        async with await program.get("/other") as missing:
            assert b"404" in await read_until(missing, b"/events")


async def test_serve_broadcasts_every_line_in_order_and_exits_at_the_end_of_its_input() -> None:
    count = 3000
    responses: list[bytes] = []

    async def read_on(stream: trio.SocketStream, head: bytes) -> None:
        async with stream:
            responses.append(head + b"".join([chunk async for chunk in stream]))

    async with running("serve", "--exit-on-eof") as program:
        async with trio.open_nursery() as clients:
            for _ in range(4):
                stream = await program.get("/events")
                clients.start_soon(read_on, stream, await read_until(stream, b"\r\n\r\n"))
            await program.write(b"".join(b"%d\n" % n for n in range(count)))
            await program.close_input()
        assert await program.finish() == (0, "")
    expected = b"".join(b"data: %d\n\n" % n for n in range(count))
    assert [body_of(response) for response in responses] == [expected] * 4


async def test_serve_names_the_event_type_in_stream_and_page() -> None:
    async with running("serve", "--event", "a&b") as program:
        async with await program.get("/") as page:
            assert b'data-event="a&amp;b"' in await read_until(page, b"</html>")
        async with await program.get("/events") as stream:
            await read_until(stream, b"\r\n\r\n")
            await program.write(b"x\n")
            assert b"event: a&b\ndata: x\n\n" in await read_until(stream, b"x\n\n")


async def test_serve_replaces_counts_and_reports_bytes_that_are_not_utf8() -> None:
    async with running("serve", "--exit-on-eof") as program, await program.get("/events") as stream:
        received = await read_until(stream, b"\r\n\r\n")
        await program.write(b"ok\r\n\n\xff\xfe!\n\xe2\x82\nno line end")
        await program.close_input()
        received += b"".join([chunk async for chunk in stream])
        status, errors = await program.finish()
    lines = ["ok", "", "\ufffd\ufffd!", "\ufffd", "no line end"]
    assert body_of(received).decode() == "".join(f"data: {line}\n\n" for line in lines)
    assert (status, errors) == (0, "trio-sse: 4 bytes that are not UTF-8 were replaced by U+FFFD\n")


@pytest.mark.parametrize(
    ("command", "number"), [("demo", signal.SIGINT), ("serve", signal.SIGTERM)]
)
async def test_a_signal_ends_every_stream_cleanly(command: str, number: signal.Signals) -> None:
    async with running(command) as program, await program.get("/events") as stream:
        received = await read_until(stream, b"\r\n\r\n")
        program.process.send_signal(number)
        received += b"".join([chunk async for chunk in stream])
        assert await program.finish() == (0, "")
    assert received.endswith(b"0\r\n\r\n")


async def test_a_signal_ends_the_program_though_a_client_has_stopped_reading() -> None:
    async with running("serve") as program, await program.get("/events") as stream:
        await read_until(stream, b"\r\n\r\n")
        with trio.move_on_after(0.3):  # Until the pipe is full, since nobody reads on.
            while True:
                await program.write(b"x" * 100_000 + b"\n")
        program.process.send_signal(signal.SIGTERM)
        assert (await program.finish())[0] == 0


async def test_a_second_signal_changes_nothing() -> None:
    async with running("serve") as program, await program.get("/events") as stream:
        received = await read_until(stream, b"\r\n\r\n")
        program.process.send_signal(signal.SIGINT)
        program.process.send_signal(signal.SIGTERM)
        received += b"".join([chunk async for chunk in stream])
        assert await program.finish() == (0, "")
    assert received.endswith(b"0\r\n\r\n")


async def test_a_port_in_use_is_one_line_on_standard_error() -> None:
    async with running("demo") as program:
        second = await trio.run_process(
            [*PROGRAM, "demo", "--port", str(program.port)], capture_stderr=True, check=False
        )
    assert second.returncode == 1
    assert second.stderr is not None
    assert second.stderr.decode() == (
        f"trio-sse: cannot listen at 127.0.0.1, port {program.port}: Address already in use\n"
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "COMMAND"),
        (["fly"], "'fly'"),
        (["demo", "--port", "x"], "'x'"),
        (["demo", "--port", "65536"], "'65536'"),
        (["serve", "--buffer", "0"], "at least 1, got '0'"),
        (["serve", "--buffer", "1.5"], "at least 1, got '1.5'"),
        (["serve", "--heartbeat", "0"], "greater than 0, got '0'"),
        (["serve", "--heartbeat", "nan"], "greater than 0, got 'nan'"),
    ],
)
def test_a_bad_option_is_one_line_that_names_it(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    errors = capsys.readouterr().err
    assert said in errors
    assert errors.count("\n") == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["serve", "--event", "error"], "'error'"),
        (["serve", "--event", ""], "must not be empty"),
        (["serve", "--redis", "http://localhost"], "must begin with redis://"),
        (["serve", "--redis", "redis://localhost:x"], "percent-encode"),
        (["serve", "--redis", "redis://localhost", "--stream", ""], "stream must not be empty"),
        (["demo", "--host", "256.0.0.1"], "cannot listen at 256.0.0.1"),
    ],
)
def test_what_cannot_be_served_is_one_line(arguments: list[str], said: str) -> None:
    with pytest.raises(SystemExit, match=said) as ended:
        main(arguments)
    assert "\n" not in str(ended.value)


@pytest.mark.parametrize("by", ["file", "environment", "environment that names a file"])
def test_the_url_of_redis_need_not_stand_in_the_list_of_processes(
    by: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "url"
    file.write_text("redis://nobody:s3cret@localhost:x\n")
    url = f"@{file}" if "file" in by else file.read_text()
    if "environment" in by:
        monkeypatch.setenv("TRIO_SSE_REDIS", url)
    arguments = ["serve"] if "environment" in by else ["serve", "--redis", url]
    with pytest.raises(SystemExit, match="percent-encode") as ended:  # So that is what it read.
        main(arguments)
    assert "s3cret" not in str(ended.value)


def test_a_file_that_has_no_url_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["serve", "--redis", f"@{tmp_path}/none"])
    said = capsys.readouterr().err
    assert f"cannot read {tmp_path}/none" in said
    assert said.count("\n") == 1


def forget(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    """Let a package be imported anew, and be as it is now after the test."""
    for name in [name for name in sys.modules if f"{name}.".startswith(f"{package}.")]:
        monkeypatch.delitem(sys.modules, name)
    parent, _, child = package.rpartition(".")
    monkeypatch.delattr(import_module(parent), child, raising=False)


def test_a_missing_extra_is_one_line_with_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psutil", None)
    forget(monkeypatch, "trio_sse._program.demo")
    with pytest.raises(SystemExit, match=r"psutil.*pip install 'trio-sse\[demo\]'"):
        main(["demo"])


def test_a_missing_server_is_one_line_with_the_fix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hypercorn.config", None)
    forget(monkeypatch, "trio_sse._program.program")
    with pytest.raises(SystemExit, match=r"hypercorn.*pip install 'trio-sse\[demo\]'"):
        main(["demo"])


def test_a_missing_client_of_redis_is_one_line_with_the_fix(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "coredis.connection", None)
    forget(monkeypatch, "trio_sse.redis")
    with pytest.raises(SystemExit, match=r"coredis.*pip install 'trio-sse\[redis\]'"):
        main(["serve", "--redis", "redis://localhost"])


def test_standard_input_that_is_closed_is_one_line() -> None:
    closed = subprocess.run(
        [*PROGRAM, "serve", "--port", "0"],
        stdin=None,
        preexec_fn=close_standard_input,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert (closed.returncode, closed.stderr.count(b"\n")) == (1, 1)
    assert b"standard input is closed" in closed.stderr


def test_a_file_as_input_is_read_to_its_end(tmp_path: Path) -> None:
    lines = tmp_path / "lines"
    lines.write_text("one\ntwo\n")
    with lines.open() as stdin:
        finished = subprocess.run(
            [*PROGRAM, "serve", "--port", "0", "--exit-on-eof"],
            stdin=stdin,
            capture_output=True,
            check=False,
            timeout=60,
        )
    assert (finished.returncode, finished.stderr) == (0, b"")


async def test_serve_serves_on_after_the_end_of_its_input() -> None:
    async with running("serve") as program:
        await program.write(b"\xff\n")
        await program.close_input()
        assert program.process.stderr is not None
        assert b"replaced" in await program.process.stderr.receive_some()  # As it does at the end.
        async with await program.get("/events") as stream:
            await read_until(stream, b"\r\n\r\n")
            program.process.send_signal(signal.SIGTERM)
            assert (await program.finish())[0] == 0


def test_ctrl_c_before_the_program_waits_for_it_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("trio_sse._program.program.run", interrupted)
    with pytest.raises(SystemExit, match="0"):
        main(["demo"])


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out.startswith("trio-sse 0.")


# With Redis


async def test_programs_that_share_a_stream_serve_the_lines_of_all_in_one_order(
    shared: tuple[str, ...],
) -> None:
    async with (
        running(*shared) as one,
        running(*shared, "--event", "warning", preexec_fn=close_standard_input) as two,
        await one.get("/events") as early,
        await two.get("/events") as other,
    ):
        head = await read_until(other, b"\n\n")
        await read_until(early, b"\n\n")
        await one.write(b"a\nb\n")
        # A reader of one program leaves in the middle, and goes on at the other.
        left = await read_until(early, b"data: a\n\n")
        last_id = re.findall(rb"id: (.*)\n", left)[0].decode()
        await one.write(b"c\n")
        received = head + await read_until(other, b"data: c\n\n")
        for program in (one, two):
            async with await program.get("/events", last_event_id=last_id) as late:
                missed = await read_until(late, b"data: c\n\n")
                program.process.send_signal(signal.SIGTERM)
                missed += b"".join([chunk async for chunk in late])
                assert events_in(whole_body_of(missed)) == events_in(received)[1:]
            assert await program.finish() == (0, "")
    assert [data for _, _, data in events_in(received)] == [b"a", b"b", b"c"]


@pytest.mark.parametrize(
    ("account", "said"),
    [
        ("nobody:wrong@", "Redis refuses: .*invalid username-password pair"),
        ("idle:secret@", "Redis refuses: .*no permissions to run"),
        ("", "Redis refuses: .*wrong kind of value"),
    ],
)
def test_what_redis_refuses_is_one_line(redis: RedisServer, account: str, said: str) -> None:
    redis.ask("ACL", "SETUSER", "idle", "on", ">secret", "~*", "-@all")
    redis.ask("SET", "text", "which is no stream")
    url = redis.url.replace("//", f"//{account}")
    with pytest.raises(SystemExit, match=f"^trio-sse: {said}") as ended:
        main(["serve", "--port", "0", "--redis", url, "--stream", "text"])
    assert "\n" not in str(ended.value)


async def test_a_line_that_is_too_long_is_left_out_and_the_others_are_sent(
    redis: RedisServer, capsys: pytest.CaptureFixture[str]
) -> None:
    relay = RedisRelay(redis.url, stream="long lines", outbox_size=2)
    broadcaster = Broadcaster(relay=relay)
    broadcaster.register_event("line")
    to_relay = ToRelay(broadcaster, argparse.Namespace(event="line", buffer=4), relay)

    async def send() -> None:
        for lines in (["x" * 2**20, "1"], ["2"], [], ["x" * 2**20], [*"34567"]):
            await to_relay.send(lines)
        await to_relay.finish()

    async with trio.open_nursery() as nursery:
        await nursery.start(relay.run)
        with broadcaster.subscribe() as events:
            nursery.start_soon(send)
            assert [(await events.receive()).data for _ in range(7)] == [*"1234567"]
        nursery.cancel_scope.cancel()
    assert capsys.readouterr().err.count("trio-sse: a line is left out: an event of 1048") == 2


class SlowRelay:
    """Takes a line, which comes back later, or never if Redis has lost its history."""

    def __init__(self, *, loses: bool) -> None:
        self._loses = loses
        self.now = SimpleNamespace(head="1-0", gaps=0)

    def statistics(self) -> Any:
        return SimpleNamespace(**vars(self.now))

    async def publish(self, *_: str) -> str:
        await trio.lowlevel.checkpoint()
        self.now.gaps += self._loses
        return "2-0"


async def test_a_line_that_redis_has_lost_is_not_waited_for_for_ever(
    autojump_clock: object,
) -> None:
    options = argparse.Namespace(event="message", buffer=1)
    relay: Any = SlowRelay(loses=True)
    with trio.fail_after(10):
        await ToRelay(Broadcaster(), options, relay).send(["a line"])


async def test_a_line_is_waited_for_until_it_has_come_back(
    nursery: trio.Nursery, autojump_clock: object
) -> None:
    broadcaster = Broadcaster(strict=False)
    relay: Any = SlowRelay(loses=False)
    to_relay = ToRelay(broadcaster, argparse.Namespace(event="message", buffer=1), relay)
    nursery.start_soon(to_relay.send, ["a line"])
    await trio.sleep(3600)
    assert broadcaster.client_count == 1
    relay.now.head = "2-0"
    broadcaster.broadcast("message", "a line")
    await trio.testing.wait_all_tasks_blocked()
    assert broadcaster.client_count == 0
