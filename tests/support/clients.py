"""Clients over HTTP/1.1 and HTTP/2, which read only when they are asked.

A client that is not asked reads nothing, so that its kernel buffers fill as those of a browser that
hangs. Both clients tell a clean end (HTTP/1.1's last chunk, HTTP/2's END_STREAM) from a cut.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import Final, Self, final

import h2.config
import h2.connection
import h2.errors
import h2.events
import h11
import trio
from h2.settings import SettingCodes

from trio_sse._core.decoder import EventStreamDecoder, ReceivedEvent

from .events import is_users

Headers = Mapping[str, str]

NO_HEADERS: Final[Headers] = {}

#: Bytes that an HTTP/2 connection may have on their way beyond those of one stream, as a browser's.
_WINDOW: Final = 12 * 1024 * 1024


@final
class Response(trio.abc.ReceiveChannel[ReceivedEvent]):
    """The answer to one request, read as far as it is asked for."""

    def __init__(self, client: Client, stream_id: int = 0) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.body = bytearray()
        self.complete = False  # Whether it came to its clean end.
        self.cut = False
        #: The code with which an HTTP/2 stream was reset.
        self.reset: int | None = None
        #: Whether its bytes are left unread, as of a video that is paused.
        self.paused = False
        self.unread = 0
        self.stream_id = stream_id
        self._client = client
        self._events: deque[ReceivedEvent] = deque()
        self._decoder = EventStreamDecoder()
        self._dropping = EventStreamDecoder(keeps_bare_ids=False)

    async def read_head(self) -> Self:
        while not self.status:
            assert not self.cut, "the connection was cut before the response"
            await self._client.read_for(self)
        return self

    async def receive(self) -> ReceivedEvent:
        """Return the next event; at the end raise what `trio_sse.testing` raises there."""
        await trio.lowlevel.checkpoint()
        while not self._events:
            if self.complete:
                raise trio.EndOfChannel
            if self.cut:
                raise trio.BrokenResourceError("the response was cut off before its end")
            await self._client.read_for(self)
        return self._events.popleft()

    @property
    def last_event_id(self) -> str:
        return self._decoder.last_event_id

    async def rest(self) -> list[ReceivedEvent]:
        """Return all further events; the end must be clean."""
        return [event async for event in self]

    async def aclose(self) -> None:
        """Leave as a browser does: with FIN, or with RST_STREAM."""
        await self._client.leave(self.stream_id)

    def take_head(self, status: int, headers: Iterable[tuple[bytes, bytes]]) -> None:
        self.status = status
        self.headers = {name.decode(): value.decode() for name, value in headers}

    def take_body(self, data: bytes) -> None:
        self.body += data
        self._events += filter(is_users, self._decoder.feed(data))
        self._dropping.feed(data)  # Some clients drop an id without data: it makes no difference.
        assert self._decoder.last_event_id == self._dropping.last_event_id


class Http1Client:
    """A keep-alive connection: one request after another."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._h11 = h11.Connection(h11.CLIENT)

    async def request(
        self,
        method: str = "GET",
        path: str = "/events",
        headers: Headers = NO_HEADERS,
        body: bytes = b"",
        *,
        sent: bool = False,
    ) -> Response:
        """Send a request (unless it was sent ahead of its turn), read the head of its answer."""
        if self._h11.our_state is h11.DONE:
            self._h11.start_next_cycle()
        fields = {"host": "testserver", "accept": "text/event-stream", **headers}
        fields |= {"content-length": str(len(body))} if body else {}
        request = h11.Request(method=method, target=path, headers=[*fields.items()])
        parts = (request, h11.Data(data=body), h11.EndOfMessage())
        data = b"".join(self._h11.send(part) or b"" for part in parts)
        if not sent:
            await self.stream.send_all(data)
        return await Response(self).read_head()

    async def read_for(self, response: Response) -> None:
        try:
            while (event := self._h11.next_event()) is h11.NEED_DATA:
                self._h11.receive_data(await self.stream.receive_some())
        except (h11.RemoteProtocolError, trio.BrokenResourceError):
            response.cut = True
            return
        if isinstance(event, h11.Response):
            response.take_head(event.status_code, event.headers)
        elif isinstance(event, h11.Data):
            response.take_body(event.data)
        else:
            response.complete = True

    async def leave(self, _: int = 0) -> None:
        await self.stream.aclose()


class Http2Client:
    """A connection by prior knowledge: many requests at once."""

    def __init__(
        self, stream: trio.SocketStream, window: int = _WINDOW, stream_window: int = 0
    ) -> None:
        self.stream = stream
        self._h2 = h2.connection.H2Connection(h2.config.H2Configuration(client_side=True))
        self._h2.initiate_connection()
        if window:
            self._h2.increment_flow_control_window(window)
        if stream_window:
            self._h2.update_settings({SettingCodes.INITIAL_WINDOW_SIZE: stream_window})
        self._read: trio.Event | None = None
        self._writing = trio.Lock()
        self._responses: dict[int, Response] = {}
        self._received = b""
        #: Whether the server wants the next requests elsewhere.
        self.sent_away = False

    async def request(self, method: str = "GET", path: str = "/events") -> Response:
        return await (await self.ask(method, path)).read_head()

    async def ask(
        self,
        method: str,
        path: str,
        *,
        has_body: bool = False,
        body: bytes = b"",
        headers: Headers = NO_HEADERS,
    ) -> Response:
        """Send the head of a request, and with it the body, if that is said here."""
        stream_id = self._h2.get_next_available_stream_id()
        head = {":method": method, ":scheme": "http", ":authority": "testserver", ":path": path}
        self._h2.send_headers(stream_id, [*(head | dict(headers)).items()], end_stream=not has_body)
        if body:
            self._h2.send_data(stream_id, body, end_stream=True)
        response = self._responses[stream_id] = Response(self, stream_id)
        await self._flush()
        return response

    async def upload(self, response: Response, data: bytes, *, ends: bool = False) -> None:
        """Send some of a request's body, as far as the window goes."""
        for start in range(0, len(data), 16_384):
            self._h2.send_data(response.stream_id, data[start : start + 16_384])
        if ends:
            self._h2.end_stream(response.stream_id)
        await self._flush()

    async def resume(self, response: Response) -> None:
        """Read on what was paused."""
        response.paused = False
        self._h2.acknowledge_received_data(response.unread, response.stream_id)
        response.unread = 0
        await self._flush()

    async def exchange(self, response: Response) -> Response:
        """Read on, ask for another one, and leave the one, all in one segment."""
        self._h2.increment_flow_control_window(1000, response.stream_id)
        head = {":method": "GET", ":scheme": "http", ":authority": "testserver", ":path": "/"}
        stream_id = self._h2.get_next_available_stream_id()
        self._h2.send_headers(stream_id, [*head.items()], end_stream=True)
        self._h2.reset_stream(response.stream_id, h2.errors.ErrorCodes.CANCEL)
        other = self._responses[stream_id] = Response(self, stream_id)
        await self._flush()
        return other

    async def read_for(self, response: Response) -> None:
        def progress() -> tuple[int, int, bool, bool]:
            return response.status, len(response.body), response.complete, response.cut

        seen = progress()
        while progress() == seen:
            # One reads, for all who wait; then each looks whether it has what it waits for.
            if self._read is not None:
                await self._read.wait()
                continue
            read = self._read = trio.Event()
            try:
                await self._read_once()
            finally:
                self._read = None
                read.set()

    async def leave(self, stream_id: int) -> None:
        self._h2.reset_stream(stream_id, h2.errors.ErrorCodes.CANCEL)
        await self._flush()

    async def _read_once(self) -> None:
        try:
            data = await self.stream.receive_some()
        except trio.BrokenResourceError:
            data = b""
        for response in () if data else self._responses.values():
            response.cut = not response.complete
        for event in self._h2.receive_data(self._without_goaway(data)):
            if isinstance(event, h2.events.ResponseReceived):
                (_, status), *headers = event.headers
                self._responses[event.stream_id].take_head(int(status), headers)
            elif isinstance(event, h2.events.TrailersReceived):
                response = self._responses[event.stream_id]
                response.take_head(response.status, event.headers)
            elif isinstance(event, h2.events.DataReceived):
                response, size = self._responses[event.stream_id], event.flow_controlled_length
                if response.paused:
                    response.unread += size
                else:
                    self._h2.acknowledge_received_data(size, event.stream_id)
                response.take_body(event.data)
            elif isinstance(event, h2.events.StreamReset):
                response = self._responses[event.stream_id]
                response.reset, response.cut = event.error_code, True
                if response.unread:  # Which other streams may use.
                    self._h2.acknowledge_received_data(response.unread, event.stream_id)
            elif isinstance(event, h2.events.StreamEnded):
                self._responses[event.stream_id].complete = True
        with suppress(trio.BrokenResourceError):  # The next read tells.
            await self._flush()

    def _without_goaway(self, data: bytes) -> bytes:
        """Take word to go elsewhere, after which h2 would read nothing of the other streams."""
        self._received += data
        passed = b""
        while len(self._received) >= 9:
            length = 9 + int.from_bytes(self._received[:3], "big")
            if len(self._received) < length:
                break
            frame, self._received = self._received[:length], self._received[length:]
            if frame[3] == 7:
                self.sent_away = True
            else:
                passed += frame
        return passed

    async def _flush(self) -> None:
        async with self._writing:
            await self.stream.send_all(self._h2.data_to_send())


Client = Http1Client | Http2Client
