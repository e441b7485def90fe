"""The stream in Redis: how events are written into it and read out of it.

Whoever may write to the stream speaks to every browser, so nothing of what comes out is trusted:
each event is made anew, under the same rules as one that is broadcast here, or refused. It knows
Redis's commands and replies; it knows neither clients nor how a connection is kept.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import Any, Final, final

import attrs

from .._core.event import RESERVED_EVENTS, ServerSentEvent
from ._history import ORIGIN
from ._outbox import MAX_BYTES, PendingEvent
from ._session import MissingKeyError, Session

#: Seconds that Redis waits for a next event before it says that there is none.
_BLOCKS: Final = 1.0

#: Seconds that a batch can be told from its repetition.
_MARKER_LIFETIME: Final = 24 * 3600

#: Appends a batch, unless it was done already: one whose acknowledgement was lost is sent again,
#: and a request that was held up on its way may arrive after its repetition. The marker and the
#: entries are one transaction, so they are kept, replicated and lost together; unless the marker
#: may not be written, which is tried first, since nothing is undone.
_APPEND: Final = """
local done = redis.call('GET', KEYS[2])
if done and tonumber(string.match(done, '^%d+')) >= tonumber(ARGV[1]) then return done end
redis.call('SET', KEYS[2], done or '0', 'EX', ARGV[3])
local ids = {ARGV[1]}
for i = 4, #ARGV, 3 do
  local fields = {'event', ARGV[i], 'data', ARGV[i + 1]}
  if ARGV[i + 2] ~= '' then
    fields[5], fields[6] = 'topic', string.sub(ARGV[i + 2], 2)
  end
  ids[#ids + 1] = redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*', unpack(fields))
end
done = table.concat(ids, ' ')
redis.call('SET', KEYS[2], done, 'EX', ARGV[3])
return done
"""


@final
@attrs.frozen
class Entry:
    """What has an id in the stream."""

    id: str
    event: ServerSentEvent | None
    """`None` if it is none that could be sent."""

    topic: str | None


@final
@attrs.frozen
class Page:
    """What follows an id."""

    anchored: bool
    """Whether the entry with that id is still there: else what follows may not be all."""

    entries: Sequence[Entry]


@final
@attrs.frozen
class Extent:
    """What there is of a stream."""

    last_id: str
    """The id that all future ones follow."""

    is_whole: bool
    """Whether everything that was ever written into it is there."""


@final
class RedisStream:
    """A stream in Redis.

    Args:
        name: Its key.
        maxlen: How many events it keeps at least.
    """

    def __init__(self, name: str, maxlen: int) -> None:
        self._key = name
        self.maxlen = maxlen
        self._marker: str

    def new_producer(self) -> None:
        """Number batches anew: never as before a fork, or as one that is still on its way."""
        self._marker = f"{{{self._key}}}:producer:{secrets.token_hex(8)}"

    async def append(
        self, session: Session, number: int, events: Sequence[PendingEvent]
    ) -> list[str]:
        """Write a batch, once however often this is called with its number; return the ids."""
        fields = chain.from_iterable(map(_fields, events))
        reply: bytes = await session.command(
            b"EVAL",
            *(_APPEND, 2, self._key, self._marker, number, self.maxlen, _MARKER_LIFETIME),
            *fields,
        )
        return reply.decode().split()[1:]

    async def read(self, session: Session, after: str, count: int) -> Sequence[Entry]:
        """Return what follows an id, at most so much; wait a while if there is nothing."""
        milliseconds = int(_BLOCKS * 1000)
        reply: dict[bytes, Any] | None = await session.command(
            b"XREAD",
            *(b"COUNT", count, b"BLOCK", milliseconds, b"STREAMS", self._key, after),
            blocks=_BLOCKS,
        )
        return _entries(chain.from_iterable((reply or {}).values()))

    async def page(self, session: Session, after: str, count: int) -> Page:
        """Return what follows an id, at most so much, and whether it is sure to be all."""
        reply = await session.command(b"XRANGE", self._key, after, b"+", b"COUNT", count + 1)
        if after == ORIGIN:
            return Page((await self.extent(session)).is_whole, _entries(reply))
        anchored = bool(reply) and reply[0][0].decode() == after
        return Page(anchored, _entries(reply[1:] if anchored else reply))

    async def check(self, session: Session) -> None:
        """Read in each of the ways in which it will be, so that what is refused is so at once."""
        await session.command(b"XRANGE", self._key, b"-", b"+", b"COUNT", 1)
        await session.command(b"XREAD", b"COUNT", 1, b"STREAMS", self._key, b"$")

    async def extent(self, session: Session) -> Extent:
        """Return how far the stream goes."""
        try:
            reply: dict[bytes, Any] = await session.command(b"XINFO", b"STREAM", self._key)
        except MissingKeyError:
            return Extent(ORIGIN, is_whole=True)
        is_whole = reply[b"length"] == reply.get(b"entries-added")
        return Extent(reply[b"last-generated-id"].decode(), is_whole)


def _fields(pending: PendingEvent) -> tuple[str, str, str]:
    topic = "" if pending.topic is None else f"+{pending.topic}"
    return pending.event.event, pending.event.data or "", topic


def _entries(reply: Iterable[tuple[bytes, list[bytes]]]) -> list[Entry]:
    return [_entry(entry_id.decode(), fields or []) for entry_id, fields in reply]


def _entry(entry_id: str, raw: list[bytes]) -> Entry:
    try:
        fields = {name: value.decode() for name, value in zip(raw[::2], raw[1::2], strict=True)}
        event = ServerSentEvent(fields[b"event"], fields[b"data"], id=entry_id)
    except (KeyError, ValueError):  # UnicodeDecodeError is one, too.
        return Entry(entry_id, None, None)
    if event.event in RESERVED_EVENTS or sum(map(len, raw[1::2])) > MAX_BYTES:
        return Entry(entry_id, None, None)
    return Entry(entry_id, event, fields.get(b"topic"))
