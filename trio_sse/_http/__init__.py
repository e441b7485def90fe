"""A request, and its answer.

It knows HTTP (RFC 9110), ASGI's messages and what a browser's EventSource makes of a status; it
does not know how events travel.
"""
