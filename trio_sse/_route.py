"""`sse_route`: an event stream as a view of a Quart-Trio application.

It only opens the way to `quart`, the room that needs the extra: this one is imported always.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from ._broadcaster import Broadcaster

if TYPE_CHECKING:
    import quart


def sse_route(broadcaster: Broadcaster) -> Callable[[], Awaitable[quart.Response]]:
    """Return a Quart-Trio view that streams all that is broadcast to whoever requests it.

    Needs the extra ``quart``. Use it as ``app.add_url_rule("/events",
    view_func=sse_route(broadcaster))``; each view has an endpoint name of its own, so that an app
    may have several.
    """
    from .quart import view

    return view(broadcaster)
