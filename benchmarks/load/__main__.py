"""The load generator: thousands of clients of one server, in a process of its own.

    python -m benchmarks.load PORT (--pipe DESCRIPTOR | --post PORT) [--keep-bodies] [--tls]
                            [--http2 STREAMS]

Each line on standard input is an order, and each order is answered with one line of JSON:

    admit COUNT                  connect clients that read
    stall COUNT                  connect clients that never read
    dismiss COUNT                let the oldest leave
    publish BATCHES BURST SIZE [PAUSE]
                                 have bursts broadcast, each after the last client has the one
                                 before, and after so many milliseconds more; latencies are in
                                 seconds
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
import time
from typing import Final

from .client import Client
from .crowd import Crowd
from .publishers import PipePublisher, PostPublisher, Publisher

_PATIENCE: Final = 60.0

#: Bytes of a stalled client's receive buffer, so that it is full soon.
_SMALL: Final = 4096


class Load:
    """Carries out the orders."""

    def __init__(self, port: int, publisher: Publisher, crowd: Crowd) -> None:
        self._port = port
        self._publisher = publisher
        self._crowd = crowd
        self._stalled: list[Client] = []

    def obey(self, order: str) -> dict[str, object]:
        """Carry out one order; return the answer."""
        name, *texts = order.split()
        numbers = [int(text) for text in texts]
        if name == "publish":
            return self._publish(*numbers)
        if name == "admit":
            self._crowd.admit(*numbers)
        elif name == "dismiss":
            self._crowd.dismiss(*numbers)
        elif name == "stall":
            self._stall(*numbers)
        return {"clients": len(self._crowd.clients)}

    def _stall(self, count: int) -> None:
        self._stalled += [Client(self._port, receive_buffer=_SMALL) for _ in range(count)]

    def _publish(self, batches: int, burst: int, size: int, pause: int = 0) -> dict[str, object]:
        self._crowd.begin()
        latencies = [self._batch(burst, size, pause) for _ in range(batches)]
        return {
            "latencies": latencies,
            "wrong": self._crowd.wrong(),
            "ended": self._crowd.ended(),
        }

    def _batch(self, burst: int, size: int, pause: int) -> float:
        time.sleep(pause / 1000)
        self._crowd.expect(burst)
        self._publisher.publish(burst, size)
        return self._crowd.wait(_PATIENCE)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    way = parser.add_mutually_exclusive_group(required=True)
    way.add_argument("--pipe", type=int, metavar="DESCRIPTOR")
    way.add_argument("--post", type=int, metavar="PORT")
    parser.add_argument("--tls", action="store_true")
    parser.add_argument("--http2", type=int, default=0, metavar="STREAMS", help="a connection")
    parser.add_argument("--keep-bodies", action="store_true")
    return parser.parse_args()


def main() -> None:
    """Obey until standard input ends."""
    options = _arguments()
    gc.disable()  # A pause here would be measured as a latency of the server.
    publisher = PostPublisher(options.post) if options.post else PipePublisher(options.pipe)
    crowd = Crowd(
        options.port, keep_bodies=options.keep_bodies, tls=options.tls, http2=options.http2
    )
    load = Load(options.port, publisher, crowd)
    for order in sys.stdin:
        print(json.dumps(load.obey(order)), flush=True)


if __name__ == "__main__":
    main()
