"""The wire as Node's eventsource-parser reads it: `npm ci` here, then `pytest tests/interop`."""

from __future__ import annotations

import base64
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, Final, final

import pytest
from hypothesis import HealthCheck, given, settings

from trio_sse import ServerSentEvent

from ..support.wire import comment_lines, cut, normalised, places, streams

HERE: Final = Path(__file__).parent


@final
class Node:
    """A process of Node that reads streams, one after another."""

    def __init__(self, stdin: IO[str], stdout: IO[str]) -> None:
        self._stdin, self._stdout = stdin, stdout

    def read(self, chunks: list[bytes]) -> dict[str, Any]:
        encoded = [base64.b64encode(chunk).decode() for chunk in chunks]
        self._stdin.write(json.dumps({"chunks": encoded}) + "\n")
        self._stdin.flush()
        answer: dict[str, Any] = json.loads(self._stdout.readline())
        return answer


@pytest.fixture(scope="module")
def node() -> Iterator[Node]:
    with subprocess.Popen(
        ["node", "check.mjs"],  # noqa: S607
        cwd=HERE,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    ) as process:
        assert process.stdin
        assert process.stdout
        yield Node(process.stdin, process.stdout)
        process.stdin.close()
        assert process.wait(10) == 0


def test_node_reads_a_stream_of_another_hand(node: Node) -> None:
    """So that the judge is known to judge."""
    wire = b"\xef\xbb\xbf: a\r\n\r\nid: 7\nretry: 5\ndata:x\rdata:  y\n\nevent: b\ndata\n\ndata: z"
    assert node.read([wire[:2], wire[2:30], wire[30:]]) == {
        "events": [["message", "x\n y", "7"], ["b", "", None]],
        "retries": [5],
        "comments": ["a"],
        "errors": [],
    }
    assert node.read([b"forged: 1\n\n"])["errors"] == ["unknown-field"]


@settings(
    deadline=None, max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(streams, places)
def test_node_reads_back_what_was_sent_wherever_the_bytes_are_cut(
    node: Node, events: list[ServerSentEvent], at: list[int]
) -> None:
    """Of an id, eventsource-parser tells only what the block of an event has itself."""
    assert node.read(cut(b"".join(event.encode() for event in events), at)) == {
        "events": [
            [event.event, normalised(event.data), event.id]
            for event in events
            if event.data is not None
        ],
        "retries": [event.retry for event in events if event.retry is not None],
        "comments": comment_lines(events),
        "errors": [],
    }
