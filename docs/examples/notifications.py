"""Each user's own notifications in Quart-Trio: the session says whose they are.

python notifications.py
curl -c ada --json '{"user": "ada"}' http://127.0.0.1:8000/login
curl -N -b ada http://127.0.0.1:8000/notifications
curl -c admin --json '{"user": "admin"}' http://127.0.0.1:8000/login
curl -b admin --json '{"text": "tea is ready"}' http://127.0.0.1:8000/notify/ada
curl -b ada -X POST http://127.0.0.1:8000/logout
"""

import secrets
import signal
from dataclasses import dataclass

import trio
from hypercorn.config import Config
from quart import Response, abort, request, session
from quart_trio import QuartTrio

from trio_sse import Broadcaster
from trio_sse.hypercorn import serve


@dataclass
class Notification:
    text: str


app = QuartTrio(__name__)
app.secret_key = secrets.token_hex()
broadcaster = Broadcaster()
notification = broadcaster.register_event("notification", Notification)


def logged_in() -> str:
    """Return whose session it is; refuse the request if it is nobody's."""
    user: str = session.get("user") or abort(401)
    return user


@app.post("/login")
async def login() -> tuple[str, int]:
    session["user"] = (await request.get_json())["user"]  # a real one asks for a password
    return "", 204


@app.get("/notifications")
async def notifications() -> Response:
    user = logged_in()  # code before the stream is the hook
    return await broadcaster.stream(request, topics=[f"user:{user}"], key=user, key_limit=3)


@app.post("/notify/<user>")
async def notify(user: str) -> tuple[str, int]:
    if logged_in() != "admin":
        abort(403)
    text: str = (await request.get_json())["text"]
    notification.broadcast(Notification(text), topic=f"user:{user}")
    return "", 204


@app.post("/logout")
async def logout() -> tuple[str, int]:
    broadcaster.disconnect(logged_in(), final=True)  # in all tabs, and none of them comes back
    session.clear()
    return "", 204


async def main() -> None:
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        stop = signals.__anext__
        await serve(app, Config(), shutdown_trigger=stop)  # ends every stream, then itself


trio.run(main)
