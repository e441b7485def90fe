"""A price board: whoever comes gets all prices as they are, then each one as it moves.

python prices.py
curl -N http://127.0.0.1:8000
"""

import random
import signal
from dataclasses import dataclass
from itertools import cycle

import trio
from hypercorn.config import Config

from trio_sse import Broadcaster, sse_app
from trio_sse.hypercorn import serve


@dataclass
class Price:
    symbol: str
    bid: float


board = {symbol: Price(symbol, 100.0) for symbol in ("ABC", "KLM", "XYZ")}
broadcaster = Broadcaster()
moved = broadcaster.register_event("price", Price)  # of Price alone, for type checkers, too


def snapshot() -> list[tuple[str, Price]]:
    return [(moved.name, price) for price in board.values()]


async def trade() -> None:
    for symbol in cycle(list(board)):
        price = Price(symbol, round(board[symbol].bid * random.gauss(1, 0.001), 2))
        board[symbol] = price  # no await between the two: a snapshot has both or neither
        moved.broadcast(price)
        await trio.sleep(0.1)


async def main() -> None:
    app = sse_app(broadcaster, snapshot=snapshot)
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trade)
            await serve(app, Config(), shutdown_trigger=signals.__anext__)
            nursery.cancel_scope.cancel()


trio.run(main)
