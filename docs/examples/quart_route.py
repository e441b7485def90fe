from quart_trio import QuartTrio

from trio_sse import Broadcaster, sse_route

app = QuartTrio(__name__)
broadcaster = Broadcaster()
broadcaster.register_event("price")
app.add_url_rule("/events", view_func=sse_route(broadcaster))


@app.post("/price/<int:bid>")
async def publish(bid: int) -> tuple[str, int]:
    broadcaster.broadcast("price", {"bid": bid})
    return "", 204
