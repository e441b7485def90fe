"""What this run of the tests must do: whether it takes its time, and what it may leave out."""

from __future__ import annotations

import os
from typing import Final, NoReturn

import pytest

#: CI has the time for more: more ways to serve, more frameworks, more examples, more of everything.
THOROUGH: Final = "THOROUGH" in os.environ


def miss(hint: str) -> NoReturn:
    """Skip a test that needs what is not here; but where all tests must run, it fails."""
    if {"CI", "TRIO_SSE_REQUIRE_REDIS"} & os.environ.keys():
        pytest.fail(hint)
    pytest.skip(hint)
