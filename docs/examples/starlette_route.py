from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from trio_sse import Broadcaster, sse_app

broadcaster = Broadcaster()
broadcaster.register_event("price")


async def events(request: Request) -> ASGIApp:
    if "session" not in request.cookies:  # code before the stream is the hook
        return PlainTextResponse("log in first", status_code=401)
    return sse_app(broadcaster)


app = Starlette(routes=[Route("/events", events)])
