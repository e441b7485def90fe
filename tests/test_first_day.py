"""What people meet who start a program in the wrong way: one sentence, with the fix."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from typing import Any

import pytest

from trio_sse import Broadcaster, ServerSentEvent, producer_app, sse_app
from trio_sse.quart import producer_response

from .support.asgi import Message

SENTENCE = r"trio-sse runs on Trio.*hypercorn -k trio app:app"


@pytest.fixture(params=["sse_app", "producer_app"])
def app(request: pytest.FixtureRequest) -> Any:
    source: Any = _Source()
    return sse_app(Broadcaster()) if request.param == "sse_app" else producer_app(source)


class _Source:
    async def __aenter__(self) -> object: ...

    async def __aexit__(self, *_: object) -> None: ...


def test_a_server_without_trio_is_told_when_it_starts(app: Any) -> None:
    sent: list[Message] = []

    async def receive() -> Message:  # noqa: ASYNC124 (this is not Trio)
        return {"type": "lifespan.startup"}

    async def send(message: Message) -> None:  # noqa: ASYNC124 (this is not Trio)
        sent.append(message)

    with pytest.raises(RuntimeError, match=SENTENCE) as raised:
        asyncio.run(app({"type": "lifespan"}, receive, send))
    assert sent == [{"type": "lifespan.startup.failed", "message": str(raised.value)}]


def test_a_server_without_trio_is_told_at_the_first_request(
    app: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """In its log, too: not every framework tells what an application raises."""
    with pytest.raises(RuntimeError, match=SENTENCE):
        asyncio.run(app({"type": "http", "method": "GET", "headers": []}, None, None))
    (record,) = caplog.records
    assert re.search(SENTENCE, record.getMessage())


def test_so_is_a_quart_app_that_runs_on_asyncio() -> None:
    request: Any = None
    with pytest.raises(RuntimeError, match=SENTENCE):
        asyncio.run(Broadcaster().stream(request))
    with pytest.raises(RuntimeError, match=SENTENCE):
        producer_response(request, request)


@pytest.mark.parametrize(
    ("module", "extra", "library"),
    [
        ("trio_sse.hypercorn", "hypercorn", "hypercorn"),
        ("trio_sse.quart", "quart", "quart"),
        ("trio_sse.redis", "redis", "coredis"),
    ],
)
def test_a_missing_extra_is_named(module: str, extra: str, library: str) -> None:
    code = f"import sys; sys.modules[{library!r}] = None; import {module}"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f"{module} needs the extra '{extra}': pip install 'trio-sse[{extra}]'" in ran.stderr


async def test_a_producer_serves_one_request() -> None:
    source: Any = _Once()
    app = producer_app(source)
    scope: Message = {"type": "http", "method": "GET", "headers": []}
    with pytest.raises(ZeroDivisionError):
        await app(scope, _never, _never)
    with pytest.raises(RuntimeError, match=r"call producer_app\(source\(\)\) for each request"):
        await app(scope, _never, _never)


class _Once:
    async def __aenter__(self) -> ServerSentEvent:
        raise ZeroDivisionError

    async def __aexit__(self, *_: object) -> None: ...


def _never(*_: object) -> Any:
    raise AssertionError
