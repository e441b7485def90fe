"""What the tests of several files vary."""

from __future__ import annotations

import pytest


@pytest.fixture(params=[False, True], ids=["plain", "TLS"])
def tls(request: pytest.FixtureRequest) -> bool:
    """Whether the connection is sealed."""
    return bool(request.param)
