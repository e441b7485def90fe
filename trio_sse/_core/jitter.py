"""Times that are spread, so that many clients do not all do the same at once.

It knows ranges and chance, and neither clients nor what they do then.
"""

from __future__ import annotations

import random
from typing import Final

#: Seconds within which those who were turned away come back, if nothing else is said.
_RETRY_DELAY: Final = (1.0, 5.0)


#: From so many seconds to so many.
TimeRange = tuple[float, float]


def retry_delay(reconnection_time: TimeRange | None = None) -> float:
    """Return the seconds after which one client may come back, drawn from the range."""
    low, high = reconnection_time or _RETRY_DELAY
    return random.uniform(low, high)  # noqa: S311 (keeps no secret)


def expiry(max_age: float) -> float:
    """Return after how many seconds one stream has lasted for long enough.

    Between 80 and 100 % of the age, so that those who came together do not leave together.
    """
    return max_age * random.uniform(0.8, 1)  # noqa: S311 (keeps no secret)
