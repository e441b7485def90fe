"""A client of an event stream: ``python clients.py NAME URL``.

Out, one a line: ``[type, data]`` of each event that it gets, with no more than the beginning of
data. It ends when it is told not to come back, by a status of 204.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator

import httpx  # noqa: ASYNC127 (httpx-sse reads its responses)

TYPES = ("tick", "stream-reset")

#: What an event says: its type, its data, its id, and when to come back in milliseconds.
Event = tuple[str, str, str, int | None]


def read_by_httpx_sse(response: httpx.Response) -> Iterator[Event]:
    from httpx_sse import EventSource

    for event in EventSource(response).iter_sse():
        yield event.event, event.data, event.id, event.retry


def read_by_sseclient(response: httpx.Response) -> Iterator[Event]:
    from sseclient import SSEClient

    for event in SSEClient(response.iter_bytes()).events():
        yield event.event, event.data, event.id or "", event.retry and int(event.retry)


READERS: dict[str, Callable[[httpx.Response], Iterator[Event]]] = {
    "httpx-sse": read_by_httpx_sse,
    "sseclient-py": read_by_sseclient,
}


class Visitor:
    """Comes back as their users must make them do themselves."""

    def __init__(self, name: str, url: str) -> None:
        self._read = READERS[name]
        self._url = url
        self._last_event_id = ""
        self._retry = 1.0

    def run(self) -> None:
        with httpx.Client(timeout=60) as client:
            while self._visit(client):
                time.sleep(self._retry)

    def _visit(self, client: httpx.Client) -> bool:
        """Read one stream to its end; tell whether to come back."""
        headers = {"accept": "text/event-stream"}
        if self._last_event_id:
            headers["last-event-id"] = self._last_event_id
        try:
            with client.stream("GET", self._url, headers=headers) as response:
                if response.status_code == 204:
                    return False
                for event in self._read(response):
                    self._take(*event)
        except httpx.TransportError:
            pass
        return True

    def _take(self, event: str, data: str, event_id: str, retry: int | None) -> None:
        self._last_event_id = event_id or self._last_event_id
        self._retry = self._retry if retry is None else retry / 1000
        if event in TYPES:
            print(json.dumps([event, data[:80]]), flush=True)


if __name__ == "__main__":
    Visitor(*sys.argv[1:]).run()
