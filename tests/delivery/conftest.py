"""What most tests of the delivery begin with."""

from __future__ import annotations

import pytest

from trio_sse import Broadcaster


@pytest.fixture
def broadcaster() -> Broadcaster:
    """A broadcaster of any events, without ids: what is on the wire is what was broadcast."""
    return Broadcaster(strict=False, history_size=0)
