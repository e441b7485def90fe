"""One client's queue, as bytes on their way to its browser.

It knows Trio, ASGI's `send` and sockets; it knows neither requests nor hypercorn. `response` is the
portable way, `direct` the way past ASGI.
"""
