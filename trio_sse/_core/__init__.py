"""One event, into the queue of every client.

No HTTP, no sockets, no Redis: it can be imported without any extra, and it knows no package above
it. `hub` is the engine; the adapters of this package reach it by `hub.hub_of`.
"""
