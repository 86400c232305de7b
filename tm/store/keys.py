"""The names of all keys, for Python; `lua/_lib.lua` has them for the functions."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Keys:
    """Keys of one namespace."""

    namespace: str

    @property
    def prefix(self) -> str:
        """What all keys of our own begin with."""
        return f"tm:{self.namespace}:"

    @property
    def meta(self) -> str:
        """Hash: schema, instance."""
        return f"{self.prefix}meta"

    @property
    def graphs(self) -> str:
        """Hash: graph name to msgpack map."""
        return f"{self.prefix}graphs"

    @property
    def events(self) -> str:
        """Stream: what history is made of."""
        return f"{self.prefix}events"

    @property
    def cursor(self) -> str:
        """Hash: graph name to the last tick handled, in ms."""
        return f"{self.prefix}cursor"

    @property
    def held(self) -> str:
        """Hash: graph name to the tick that overlap="queue" keeps waiting, in ms."""
        return f"{self.prefix}held"

    @property
    def queues(self) -> str:
        """Set: queues that ever held work."""
        return f"{self.prefix}queues"

    def plan(self, version: str) -> str:
        """Hash: a version of a graph."""
        return f"{self.prefix}plan:{version}"

    def run(self, run: str) -> str:
        """Hash: a run and its task runs."""
        return f"{self.prefix}run:{run}"

    def out(self, run: str) -> str:
        """Hash: node to message."""
        return f"{self.prefix}out:{run}"

    def open(self, graph: str) -> str:
        """Zset: open runs by creation."""
        return f"{self.prefix}open:{graph}"

    def worker(self, name: str) -> str:
        """Hash with a TTL: what a worker says of itself."""
        return f"{self.prefix}worker:{name}"

    def offers(self, name: str) -> str:
        """Set with a TTL: graphs a worker has loaded."""
        return f"{self.prefix}offers:{name}"

    def ended(self, run: str) -> str:
        """Channel: the final state is published here."""
        return f"{self.prefix}ended:{run}"

    def bell(self, queue: str) -> str:
        """List: RQ's queue, whose entries are doorbells."""
        return f"rq:queue:{self.rq_queue(queue)}"

    def rq_queue(self, queue: str) -> str:
        """RQ's name of one of our queues; RQ knows no namespaces."""
        return queue if self.namespace == "default" else f"{self.namespace}.{queue}"
