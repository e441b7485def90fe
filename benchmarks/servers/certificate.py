"""The certificate of a server over TLS, made by openssl for one machine and one run."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

_COMMAND: Final = (
    "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost"
)


def make_certificate(folder: Path) -> list[str]:
    """Make a certificate and its key in a folder, unless they are there; return their names."""
    files = [str(folder / name) for name in ("certificate.pem", "key.pem")]
    if not all(map(Path.exists, map(Path, files))):
        words = [*_COMMAND.split(), "-out", files[0], "-keyout", files[1]]
        subprocess.run(words, check=True, capture_output=True)  # noqa: S603
    return files
