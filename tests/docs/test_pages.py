"""Every code block of README and docs is a file, and every file runs."""

import re
import runpy
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from trio_sse import sse_app
from trio_sse.testing import open_event_stream

from ..support.examples import EXAMPLES
from ..support.server import serving
from ..support.tcp import free_port, read_until

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def _blocks() -> Iterator[tuple[str, str, str]]:
    for page in PAGES:
        text = page.read_text("utf-8")
        for match in re.finditer(
            r"(?:<!-- (\S+) -->\n)?```(?:python|nginx|ini)\n(.*?)```", text, re.DOTALL
        ):
            yield page.name, match[1] or "", match[2]


@pytest.mark.parametrize(("page", "path", "code"), list(_blocks()))
def test_a_code_block_is_a_file(page: str, path: str, code: str) -> None:
    assert path, f"{page}: a code block has no <!-- path --> before it: {code[:60]!r}"
    assert code == (ROOT / path).read_text("utf-8")


def test_every_example_is_run_by_a_test() -> None:
    tests = "".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("*.py"))
    examples = {path.name for path in EXAMPLES.iterdir() if path.is_file()}
    tests_themselves = {path.name for path in EXAMPLES.glob("test_*.py")}
    assert not {name for name in examples - tests_themselves if name not in tests}


async def test_the_quickstart_streams_and_ends_cleanly_on_ctrl_c(tmp_path: Path) -> None:
    port = free_port()
    code = (EXAMPLES / "quickstart.py").read_text("utf-8")
    program = tmp_path / "quickstart.py"
    program.write_text(code.replace("Config()", f"Config.from_mapping(bind='127.0.0.1:{port}')"))
    with trio.fail_after(30):
        async with trio.open_nursery() as nursery:
            process: trio.Process = await nursery.start(
                trio.run_process, [sys.executable, str(program)]
            )
            received = await get_until(port, b'data: {"')
            process.send_signal(signal.SIGINT)
    assert b"event: tick" in received


async def test_the_quart_route_streams_what_is_posted(nursery: trio.Nursery) -> None:
    app = runpy.run_path(str(EXAMPLES / "quart_route.py"))["app"]
    stream = await open_event_stream(nursery, app)
    await app.test_client().post("/price/42")
    event = await stream.receive()
    assert (event.event, event.json()) == ("price", {"bid": 42})
    stream.disconnect()


async def test_the_starlette_route_checks_before_it_streams(nursery: trio.Nursery) -> None:
    app = runpy.run_path(str(EXAMPLES / "starlette_route.py"))["app"]
    refused = await open_event_stream(nursery, app)
    stream = await open_event_stream(nursery, app, headers=[("cookie", "session=1")])
    assert (refused.status, stream.status) == (401, 200)
    stream.disconnect()


async def test_the_shutdown_trigger_ends_streams_before_stock_hypercorn_cancels_them() -> None:
    example = runpy.run_path(str(EXAMPLES / "stock_hypercorn.py"))
    trigger, stop = example["end_streams_first"], example["stop"]
    app = sse_app(example["broadcaster"])
    async with serving(app, before_shutdown=trigger, graceful_timeout=3600) as server:
        response = await (await server.http1()).request()
        server.shutdown.set()
        stop.set()
        assert await response.rest() == []


async def get_until(port: int, expected: bytes) -> bytes:
    async with await connect(port) as stream:
        await stream.send_all(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
        return await read_until(stream, expected)


async def connect(port: int) -> trio.SocketStream:
    """Connect to a program that is still starting."""
    while True:
        try:
            return await trio.open_tcp_stream("127.0.0.1", port)
        except OSError:
            await trio.sleep(0.02)
