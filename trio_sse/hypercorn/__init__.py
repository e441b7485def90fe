"""`serve`: any ASGI application on hypercorn's trio worker, hardened for streams that never end.

Needs the extra ``hypercorn``. `_server` accepts and shuts down, `_connection` owns the bytes of one
connection, `_http2` is what hypercorn's HTTP/2 lacks.
"""

from .._core import missing_extra

try:
    from ._server import serve as serve
except ModuleNotFoundError as error:
    raise missing_extra(__name__, "hypercorn", error) from error

serve.__module__ = __name__
