"""What a job of Celery, or of whatever else is not on Trio, does to reach every browser."""

import json
import sys

import valkey  # Or redis, whose client is used in the same way.


def say(host: str, port: str, text: str) -> None:
    with valkey.Valkey(host, int(port)) as client:
        data = json.dumps({"text": text})
        client.xadd("chat", {"event": "said", "data": data}, maxlen=10_000)


if __name__ == "__main__":
    say(*sys.argv[1:])
