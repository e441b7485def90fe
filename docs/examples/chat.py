"""A chat in Starlette: a room is a topic, a user is a key and a topic.

python chat.py
curl -N -b session=1815 'http://127.0.0.1:8000/events?room=7'
curl -b session=1906 -d 'hello' http://127.0.0.1:8000/rooms/7
curl -b session=1906 -d 'for you alone' http://127.0.0.1:8000/users/ada
"""

import signal
from dataclasses import dataclass

import trio
from hypercorn.config import Config
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from trio_sse import Broadcaster, sse_app
from trio_sse.hypercorn import serve

SESSIONS = {"1815": "ada", "1906": "grace"}  # who has logged in, by session cookie


@dataclass
class Message:
    user: str
    text: str


broadcaster = Broadcaster()
said = broadcaster.register_event("said", Message)


def user_of(request: Request) -> str:
    user = SESSIONS.get(request.cookies.get("session", ""))
    if user is None:
        raise HTTPException(401, "log in first")
    return user


async def events(request: Request) -> ASGIApp:
    user, room = user_of(request), request.query_params.get("room", "lobby")
    topics = [f"room:{room}", f"user:{user}"]
    return sse_app(broadcaster, topics=topics, key=user, key_limit=3)


async def say(request: Request) -> Response:
    message = Message(user_of(request), (await request.body()).decode(errors="replace"))
    [(kind, name)] = request.path_params.items()  # ("room", "7") or ("user", "ada")
    said.broadcast(message, topic=f"{kind}:{name}")
    return Response(status_code=204)


app = Starlette(
    routes=[
        Route("/events", events),
        Route("/rooms/{room:path}", say, methods=["POST"]),
        Route("/users/{user}", say, methods=["POST"]),
    ]
)


async def main() -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        await serve(app, Config(), shutdown_trigger=signals.__anext__)


trio.run(main)
