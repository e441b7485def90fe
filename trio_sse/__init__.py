"""Trio-native Server-Sent Events: one broadcast reaches every browser."""

# The packages. Each knows only those to its right, and a test holds them to it:
#
#   _program → _apps → _broadcaster → quart → _http → _delivery → _core
#                         hypercorn → _http, _delivery      redis → _core      testing → _core
#
# quart, hypercorn and redis need an extra each. They never import each other, and `import trio_sse`
# imports none of them, nor testing.

from ._apps import producer_app as producer_app
from ._apps import sse_app as sse_app
from ._apps import sse_route as sse_route
from ._broadcaster import Broadcaster as Broadcaster
from ._core.event import END_EVENT as END_EVENT
from ._core.event import END_ID as END_ID
from ._core.event import POSITION_EVENT as POSITION_EVENT
from ._core.event import RESET_EVENT as RESET_EVENT
from ._core.event import ServerSentEvent as ServerSentEvent
from ._core.event_types import RegisteredEvent as RegisteredEvent
from ._core.registry import BroadcasterStatistics as BroadcasterStatistics
from ._core.subscription import Subscription as Subscription
from ._http.asgi import last_event_id as last_event_id

# Tracebacks and help() name the public place.
for _public in (
    last_event_id,
    producer_app,
    sse_app,
    sse_route,
    Broadcaster,
    BroadcasterStatistics,
    RegisteredEvent,
    ServerSentEvent,
    Subscription,
):
    _public.__module__ = __name__
del _public
