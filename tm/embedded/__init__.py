"""The private server of one directory: started with its owner, ended with it, never two of them.

Files in the home directory: `redis.sock` (the only way in: no TCP, mode 0700), `lock` (held by the owner, says who
it is), `server.lock` (held by the server process itself, so that a server which outlives a killed owner still keeps
others off the data), `appendonlydir/` (the data), `valkey.log`.

Where the owner is killed, the kernel ends the server (Linux). On macOS nothing does: the server stays until the next
start in the same directory, which ends it in good order and takes its place.
"""

from __future__ import annotations

from tm.embedded.owner import Owner, alive
from tm.embedded.places import socket_path, socket_url
from tm.embedded.program import find_binary
from tm.embedded.server import EmbeddedServer

__all__ = ["EmbeddedServer", "Owner", "alive", "find_binary", "socket_path", "socket_url"]
