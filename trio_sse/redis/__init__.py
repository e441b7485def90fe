"""`RedisRelay`: one stream for several processes, in Redis or Valkey.

Needs the extra ``redis``. `_relay` is the public face: what is on its way into the stream is in
`_outbox`, what comes out in `_reader`, what clients have missed in `_replay`; `_commands` knows how
the stream is written and read, `_session` how a connection is kept, `_address` where Redis is.
"""

from .._core import missing_extra

try:
    from ._refusals import RefusedError as RefusedError
    from ._relay import RedisRelay as RedisRelay
    from ._statistics import RelayStatistics as RelayStatistics
except ModuleNotFoundError as error:
    raise missing_extra(__name__, "redis", error) from error

for _public in (RedisRelay, RelayStatistics, RefusedError):
    _public.__module__ = __name__
del _public
