"""Each setting of hypercorn's has its line in the docs, and what is refused there is refused."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Final

import hypercorn
import pytest
import trio

from trio_sse import Broadcaster, sse_app
from trio_sse.hypercorn import serve

_DOCS: Final = Path(__file__).parents[2] / "docs" / "servers.md"

#: What the docs say of each setting.
TABLE: Final = {
    name: what
    for names, what in re.findall(
        r"^\| (`.*?`) \| (.*) \|$", _DOCS.read_text("utf-8").split("## Settings")[1], re.MULTILINE
    )
    for name in re.findall(r"`(\w+)`", names)
}

#: A value of each setting that is refused.
REFUSED: Final[dict[str, object]] = {
    "debug": True,
    "pid_path": "/run/a.pid",
    "quic_bind": ["127.0.0.1:0"],
    "statsd_host": "localhost:8125",
    "use_reloader": True,
    "worker_class": "uvloop",
    "workers": 2,
}


def test_the_table_has_every_setting_of_hypercorn() -> None:
    """A new one is noticed here: honour it, or refuse it, and say so."""
    settings = {
        name
        for name, value in vars(hypercorn.Config).items()
        if not name.startswith("_") and not inspect.isroutine(value)
        if not (isinstance(value, property) and value.fset is None)
    }
    assert set(TABLE) == settings


def test_the_table_says_what_is_refused() -> None:
    assert {name for name, what in TABLE.items() if "refused" in what} == set(REFUSED)


@pytest.mark.parametrize("name", REFUSED)
async def test_a_setting_that_would_be_passed_over_is_refused_by_its_name(name: str) -> None:
    config = hypercorn.Config()
    setattr(config, name, REFUSED[name])
    value = re.escape(repr(REFUSED[name]))
    with pytest.raises(ValueError, match=rf"^{name}={value}: \w+"), trio.fail_after(5):
        await serve(sse_app(Broadcaster()), config)


@pytest.mark.parametrize("worker_class", ["asyncio", "trio"])
async def test_a_configuration_made_for_hypercorns_command_will_do(
    nursery: trio.Nursery, worker_class: str
) -> None:
    config = hypercorn.Config()
    config.errorlog, config.bind, config.worker_class = None, ["127.0.0.1:0"], worker_class
    assert await nursery.start(serve, sse_app(Broadcaster()), config)
    nursery.cancel_scope.cancel()
