"""Whether this run of the tests takes its time."""

from __future__ import annotations

import os
from typing import Final

#: CI has the time for more: more doors and frameworks, more examples, more of everything.
THOROUGH: Final = "THOROUGH" in os.environ
