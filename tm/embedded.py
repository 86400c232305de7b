"""The private server of one directory."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from urllib.parse import quote

#: bytes of a socket's path that every system takes (Linux 107, macOS 103)
_LONGEST_SOCKET_PATH = 100


def socket_path(home: Path) -> Path:
    """Where the server of `home` listens: in it, or in a private directory when that path is too long."""
    path = home / "redis.sock"
    if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH:
        return path
    digest = hashlib.blake2s(os.fsencode(home), digest_size=8).hexdigest()
    return Path(f"/tmp/tm-{os.geteuid()}/{digest}.sock")  # noqa: S108 - the directory is made 0700 and checked


def socket_url(home: Path) -> str:
    """The URL of the server of `home`, as clients take it."""
    return f"unix://{quote(str(socket_path(home)))}"
