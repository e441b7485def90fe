"""The stream in Redis: how events are written into it and read out of it.

It knows Redis's commands and scripts; it knows neither clients nor how a connection is kept, nor
what a reply looks like.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence
from contextlib import suppress
from itertools import chain
from typing import Any, Final, final

from ._history import ORIGIN
from ._outbox import MAX_BYTES, PendingEvent
from ._refusals import MissingKeyError, RefusedError, SessionLostError
from ._replies import Extent, Page, read_entries, read_extent, read_id, read_ids, read_page
from ._session import Session

#: The first Redis that tells how many entries a stream ever had.
_OLDEST: Final = 7

#: Seconds that Redis waits for a next event before it says that there is none.
_BLOCKS: Final = 1.0

#: Bytes of one page, unless one event alone has more.
PAGE_BYTES: Final = 256 * 1024

#: Bytes in a second that the slowest link carries, at first; half of it after each failure.
_SLOWEST: Final = 64 * 1024
_MAX_HALVINGS: Final = 3

#: Seconds that a batch can be told from its repetition.
_MARKER_LIFETIME: Final = 24 * 3600

#: Bits of the random part of an id.
_ID_BITS: Final = 32

#: Seconds that what is written to see whether that is possible stays.
_TOUCH_LIFETIME: Final = 60

#: Appends a batch, unless it was done already: one whose acknowledgement was lost is sent again,
#: and a request that was held up on its way may arrive after its repetition. The marker and the
#: entries are one transaction, so they are kept, replicated and lost together; unless the marker
#: may not be written, which is tried first, since nothing is undone. An id's second part begins at
#: random: amid a failover two servers may write in the same millisecond, and one id must not be of
#: two histories. An id that does not follow the last one is left to Redis, which then counts on; so
#: are all for a user who may not ask for the time.
_APPEND: Final = """
local done = redis.call('GET', KEYS[2])
if done and tonumber(string.match(done, '^%d+')) >= tonumber(ARGV[1]) then return done end
redis.call('SET', KEYS[2], done or '0', 'EX', ARGV[3])
local now = redis.pcall('TIME')
local id = '*'
if not now.err then
  id = now[1] .. string.format('%03d', math.floor(now[2] / 1000)) .. '-' .. ARGV[4]
end
local ids = {ARGV[1]}
for i = 5, #ARGV, 3 do
  local fields = {'event', ARGV[i], 'data', ARGV[i + 1]}
  if ARGV[i + 2] ~= '' then
    fields[5], fields[6] = 'topic', string.sub(ARGV[i + 2], 2)
  end
  local added = redis.pcall('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], id, unpack(fields))
  if type(added) == 'table' then
    added = redis.call('XADD', KEYS[1], 'MAXLEN', '~', ARGV[2], '*', unpack(fields))
  end
  ids[#ids + 1] = added
  id = string.match(added, '^%d+') .. '-*'
end
done = table.concat(ids, ' ')
redis.call('SET', KEYS[2], done, 'EX', ARGV[3])
return done
"""

#: Reads a page in one step with the entry before it: 1 if that is there, else 0; then what follows
#: it, if it is there or none can be. What is too large for an event comes without its fields.
_PAGE: Final = """
local last, count, left = ARGV[1], tonumber(ARGV[2]), tonumber(ARGV[3])
local reply = {0}
while true do
  local found = redis.call('XRANGE', KEYS[1], last, '+', 'COUNT', 11)
  local is_there = found[1] and found[1][1] == last
  if is_there and last == ARGV[1] then reply[1] = 1 end
  if reply[1] == 0 and last ~= '0-0' then return reply end
  for i = is_there and 2 or 1, #found do
    local size = 0
    for _, text in ipairs(found[i][2]) do size = size + #text end
    left = left - size
    if #reply > count or left < 0 and #reply > 1 then return reply end
    if size > tonumber(ARGV[4]) then found[i][2] = {} end
    reply[#reply + 1] = found[i]
    last = found[i][1]
  end
  if #found < 11 then return reply end
end
"""

#: Returns the last of some ids whose entries are there.
_NEWEST: Final = """
for i = #ARGV, 1, -1 do
  if #redis.call('XRANGE', KEYS[1], ARGV[i], ARGV[i]) == 1 then return ARGV[i] end
end
return false
"""

#: Returns the id of the first of the last entries, so many; nothing if that is not permitted.
_LAST: Final = """
local found = redis.pcall('XREVRANGE', KEYS[1], '+', '-', 'COUNT', ARGV[1])
return found[#found] and found[#found][1]
"""


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
        # In a Cluster both keys must be in one slot: that of the stream's hash tag, if it has one.
        tagged = self._key if re.search("{[^}]+}", self._key) else f"{{{self._key}}}"
        self._marker = f"{tagged}:producer:{secrets.token_hex(8)}"

    async def append(
        self, session: Session, number: int, events: Sequence[PendingEvent], attempts: int
    ) -> list[str]:
        """Write a batch, once however often this is called with its number; return the ids.

        Each attempt may take longer than the one before, if there is much to carry.
        """
        fields = chain.from_iterable(map(_fields, events))
        size = sum(event.size for event in events)
        reply: bytes = await session.command(
            b"EVAL",
            *(_APPEND, 2, self._key, self._marker, number, self.maxlen + 1, _MARKER_LIFETIME),
            1 + secrets.randbits(_ID_BITS),
            *fields,
            grace=size / _SLOWEST * 2 ** min(attempts - 1, _MAX_HALVINGS),
        )
        return read_ids(reply, number, len(events))

    async def touch(self, session: Session) -> None:
        """Write what nobody reads, and what goes by itself, to see whether that is possible."""
        await session.command(b"SET", f"{self._marker}:touch", "", b"EX", _TOUCH_LIFETIME)

    async def read(self, session: Session, after: str, count: int, *, is_light: bool) -> Page:
        """Return what follows an id, at most so much; wait a while if there is nothing.

        Whether it is all is asked in the same write. If the entry with that id `is_light`, that is
        done by the command that returns it, which costs Redis the least.
        """
        milliseconds = int(_BLOCKS * 1000)
        read = (b"XREAD", b"COUNT", count, b"BLOCK", milliseconds, b"STREAMS", self._key, after)
        light, heavy = (b"XRANGE", self._key, after, after), (b"EVAL", _NEWEST, 1, self._key, after)
        reply, anchor = await session.exchange(read, light if is_light else heavy, grace=_BLOCKS)
        page = Page(bool(anchor), read_entries(reply))
        return await self._from_the_origin(session, page) if after == ORIGIN else page

    async def page(self, session: Session, after: str, count: int) -> Page:
        """Return what follows an id, at most so much, and whether it is sure to be all."""
        options = (after, count, PAGE_BYTES, MAX_BYTES)
        page = read_page(await session.command(b"EVAL", _PAGE, 1, self._key, *options))
        return await self._from_the_origin(session, page) if after == ORIGIN else page

    async def newest(self, session: Session, ids: Sequence[str]) -> str | None:
        """Return the last of some ids, in their order, after which nothing is missing."""
        found = read_id(await session.command(b"EVAL", _NEWEST, 1, self._key, *ids))
        if found is None and ids[0] == ORIGIN and (await self.extent(session)).is_whole:
            return ORIGIN
        return found

    async def start_of_last(self, session: Session, count: int) -> str | None:
        """Return an id that the last entries follow, so many; `None` if there are none."""
        extent = await self.extent(session)
        if extent.is_whole and extent.length <= count:
            return ORIGIN
        return read_id(await session.command(b"EVAL", _LAST, 1, self._key, count + 1))

    async def check(self, session: Session) -> None:
        """Read and write in each of the ways in which it will be.

        Raises:
            RefusedError: If one of them is refused, and so will always be.
            SessionLostError: If it cannot be read now; what cannot be written can wait.
        """
        version = session.server_version
        if (major := re.match("[0-9]+", version)) and int(major[0]) < _OLDEST:
            raise RefusedError(
                f"this server is of version {version}: the relay needs Redis {_OLDEST} or later, "
                "or Valkey"
            )
        await session.command(b"XRANGE", self._key, b"-", b"+", b"COUNT", 1)
        await session.command(b"XREAD", b"COUNT", 1, b"STREAMS", self._key, b"$")
        await self.newest(session, [ORIGIN])
        with suppress(SessionLostError):
            await self.append(session, 0, (), attempts=1)
        with suppress(SessionLostError):  # No entry may have that id.
            await session.command(b"XADD", self._key, ORIGIN, b"event", b"")

    async def extent(self, session: Session) -> Extent:
        """Return how far the stream goes."""
        try:
            reply: dict[bytes, Any] = await session.command(b"XINFO", b"STREAM", self._key)
        except MissingKeyError:
            return Extent(ORIGIN)
        return read_extent(reply)

    async def _from_the_origin(self, session: Session, page: Page) -> Page:
        """No entry has that id: what follows it is all if nothing ever was lost."""
        return Page((await self.extent(session)).is_whole, page.entries)


def _fields(pending: PendingEvent) -> tuple[str, str, str]:
    topic = "" if pending.topic is None else f"+{pending.topic}"
    return pending.event.event, pending.event.data or "", topic
