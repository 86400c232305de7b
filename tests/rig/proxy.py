"""A bad network between a process and the server: late, slow, one-way, cut, refusing or silent, as a test says.

Runs in a thread of the test process. What it does to traffic is read from `rules`, which may be replaced at any time;
what it has done is counted, so that a fault that never struck does not pass for one that was survived. A trap ends a
process at an exact place of its conversation: before its k-th message has arrived, after it, or after the reply.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import socket
import struct
import threading
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from pathlib import Path

#: closes with RST: what is on its way is lost
_ABRUPT = struct.pack("ii", 1, 0)
_CHUNK = 1 << 16


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What happens to traffic; by default nothing. `up` is towards the server."""

    delay: tuple[float, float] = (0.0, 0.0)  #: seconds, at random between the two, each way
    rate: float = 0.0  #: bytes a second, each way; 0 for no limit
    drop: frozenset[str] = frozenset()  #: directions in which bytes vanish: up, down
    cut: float = 0.0  #: chance that a reply is cut in the middle, with RST
    refuse: bool = False  #: new connections are reset, those there are as well


BLACK_HOLE = Rules(drop=frozenset({"up", "down"}))


@dataclass(slots=True)
class Trap:
    """Ends a process at the k-th message it sends from now on."""

    pid: int
    k: int
    when: str  #: before | sent | replied
    fired: bool = False
    seen: int = 0


class Proxy:
    """Listens on a TCP port, forwards to the server's unix socket."""

    def __init__(self, target: Path, *, seed: int = 0) -> None:
        self.rules = Rules()
        self.counts: Counter[str] = Counter()  #: up, down, cut, refused, dropped, trapped
        self.trap: Trap | None = None
        self.port = 0
        self._target, self._random = target, random.Random(seed)
        self._loop = asyncio.new_event_loop()
        self._connections: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._run, name="proxy", daemon=True)
        self._up = threading.Event()

    @property
    def url(self) -> str:
        """What TM_URL of its victim says."""
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> Self:
        """Begin to listen."""
        self._thread.start()
        assert self._up.wait(5), "the proxy does not come up"
        return self

    def close(self) -> None:
        """End all connections and the thread."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)

    def reset_all(self) -> None:
        """RST every connection there is now."""
        self._loop.call_soon_threadsafe(self._abort_all)

    def catch(self, pid: int, k: int, when: str) -> Trap:
        """Lay a trap for the process whose connections come through here."""
        self.trap = trap = Trap(pid, k, when)
        return trap

    # In the thread of the loop ----------------------------------------------------------------------------------------

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._accept, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        self._up.set()
        self._loop.run_forever()
        server.close()
        self._abort_all()
        for each in self._tasks:
            each.cancel()
        self._loop.run_until_complete(asyncio.gather(*self._tasks, return_exceptions=True))
        self._loop.run_until_complete(self._loop.shutdown_asyncgens())
        self._loop.close()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.rules.refuse:
            self.counts["refused"] += 1
            _abort(writer)
            return
        try:
            server_reader, server_writer = await asyncio.open_unix_connection(str(self._target))
        except OSError:
            _abort(writer)
            return
        pair = (writer, server_writer)
        self._connections.add(pair)
        owed: list[Trap] = []  # traps that spring with the next reply on this connection
        pumps = [
            self._loop.create_task(self._pump(reader, server_writer, "up", owed, pair)),
            self._loop.create_task(self._pump(server_reader, writer, "down", owed, pair)),
        ]
        self._tasks.update(pumps)
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for each in pumps:
            each.cancel()
        self._tasks.difference_update(pumps)
        self._connections.discard(pair)
        for each_writer in pair:
            each_writer.close()

    async def _pump(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        way: str,
        owed: list[Trap],
        pair: tuple[asyncio.StreamWriter, asyncio.StreamWriter],
    ) -> None:
        with contextlib.suppress(ConnectionError, OSError):
            while data := await reader.read(_CHUNK):
                rules = self.rules
                if rules.refuse:
                    break
                if way in rules.drop:
                    self.counts["dropped"] += 1
                    continue
                if rules.delay[1]:
                    await asyncio.sleep(self._random.uniform(*rules.delay))
                    self.counts["delayed"] += 1
                if rules.rate:
                    await asyncio.sleep(len(data) / rules.rate)
                    self.counts["delayed"] += 1
                if way == "down" and rules.cut and self._random.random() < rules.cut:
                    writer.write(data[: len(data) // 2])
                    with contextlib.suppress(ConnectionError):
                        await writer.drain()
                    self.counts["cut"] += 1
                    for each in pair:
                        _abort(each)
                    return
                if way == "up":
                    await self._send(data, writer, owed)
                else:
                    writer.write(data)
                    await writer.drain()
                    while owed:
                        self._spring(owed.pop())
                self.counts[way] += 1

    async def _send(self, data: bytes, writer: asyncio.StreamWriter, owed: list[Trap]) -> None:
        trap = self.trap
        due = False
        if trap is not None and not trap.fired:
            trap.seen += 1
            due = trap.seen >= trap.k
        if trap is not None and due and trap.when == "before":
            self._spring(trap)
            return
        writer.write(data)
        await writer.drain()
        if trap is not None and due and trap.when == "sent":
            self._spring(trap)
        elif trap is not None and due:
            owed.append(trap)

    def _spring(self, trap: Trap) -> None:
        if trap.fired:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(trap.pid, signal.SIGKILL)
            trap.fired = True
            self.counts["trapped"] += 1

    def _abort_all(self) -> None:
        for pair in self._connections:
            self.counts["reset"] += 1
            for each in pair:
                _abort(each)


def _abort(writer: asyncio.StreamWriter) -> None:
    raw = writer.get_extra_info("socket")
    if raw is not None and raw.family != socket.AF_UNIX:
        with contextlib.suppress(OSError):
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _ABRUPT)
    writer.transport.abort()
