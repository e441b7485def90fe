"""Trio-native Server-Sent Events: one broadcast reaches every browser."""

# The layering. Imports run downwards only, and a test holds the files to it:
#
#   __main__ → _cli → hypercorn, _asgi → _delivery → _direct → _writer → _audience → _subscription
#         _producer → _asgi, _route → _broadcaster → _clients, _history, _event_types
#                             _asgi → _negotiation, _head
#                                                          _subscription, _history → _event
#
# quart, hypercorn and testing need an extra each. They never import each other, and nothing above
# imports them, but for Broadcaster.stream and sse_route, when they are called.

from ._asgi import sse_app as sse_app
from ._broadcaster import Broadcaster as Broadcaster
from ._broadcaster import BroadcasterStatistics as BroadcasterStatistics
from ._event import ServerSentEvent as ServerSentEvent
from ._event_types import RESET_EVENT as RESET_EVENT
from ._event_types import RegisteredEvent as RegisteredEvent
from ._producer import producer_app as producer_app
from ._route import sse_route as sse_route
from ._subscription import Subscription as Subscription

# Tracebacks and help() name the public place.
for _public in (
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
