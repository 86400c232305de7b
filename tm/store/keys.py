"""The names of all keys, for Python; `lua/_base.lua` has them for the functions."""

from __future__ import annotations

import re
from dataclasses import dataclass

_NOT_IN_IDS = re.compile(r"[^A-Za-z0-9-]")


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
    def logs(self) -> str:
        """Stream: what attempts print, until history has it."""
        return f"{self.prefix}logs"

    @property
    def cursor(self) -> str:
        """Hash: graph name to the last tick handled, in ms."""
        return f"{self.prefix}cursor"

    @property
    def held(self) -> str:
        """Hash: graph name to the tick that overlap="queue" keeps waiting, in ms."""
        return f"{self.prefix}held"

    @property
    def paused(self) -> str:
        """Hash: graph name ("" for all) to the pause, a msgpack map."""
        return f"{self.prefix}paused"

    @property
    def paused_queues(self) -> str:
        """Hash: queue to its pause, a msgpack map."""
        return f"{self.prefix}paused_queues"

    @property
    def queues(self) -> str:
        """Set: queues that plans name."""
        return f"{self.prefix}queues"

    @property
    def names(self) -> str:
        """Set: graphs that ever had a plan here."""
        return f"{self.prefix}names"

    @property
    def workers(self) -> str:
        """Zset: workers by when they were last heard of; for a day."""
        return f"{self.prefix}workers"

    @property
    def attended(self) -> str:
        """Hash: queue to when a worker of it was last heard of, in ms."""
        return f"{self.prefix}attended"

    @property
    def leader(self) -> str:
        """Hash: who leads, with which token, and until when."""
        return f"{self.prefix}leader"

    @property
    def leases(self) -> str:
        """Zset: running attempts by the end of their lease."""
        return f"{self.prefix}leases"

    @property
    def retry(self) -> str:
        """Zset: attempts to come, by when they are due."""
        return f"{self.prefix}retry"

    @property
    def deadlines(self) -> str:
        """Zset: open runs that may not take for ever, by when they must have ended."""
        return f"{self.prefix}deadlines"

    @property
    def late(self) -> str:
        """Zset: open runs whose graph has a deadline, by when somebody is to be told."""
        return f"{self.prefix}late"

    @property
    def webhook(self) -> str:
        """Hash: how far events were read for the webhook, and how its first message has fared."""
        return f"{self.prefix}webhook"

    @property
    def outbox(self) -> str:
        """List: what is still to be sent to the webhook."""
        return f"{self.prefix}outbox"

    @property
    def backlog(self) -> str:
        """List: what calls left for later ones, for it would have taken them too long."""
        return f"{self.prefix}backlog"

    @property
    def unused(self) -> str:
        """Hash: libraries of functions that nobody uses, and since when, in ms."""
        return f"{self.prefix}unused"

    @property
    def seen(self) -> str:
        """Hash: graph name to when somebody was last known to have it loaded, in ms."""
        return f"{self.prefix}seen"

    def queued(self, queue: str) -> str:
        """Zset: attempts that wait for a worker, by when they were queued."""
        return f"{self.prefix}queued:{queue}"

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

    def hand(self, ear: str) -> str:
        """Channel: a worker that listens here is handed work, as `Ask.ear` says."""
        return f"{self.prefix}hand:{ear}"

    def bell(self, queue: str) -> str:
        """List: RQ's queue, whose entries are doorbells."""
        return f"rq:queue:{self.rq_queue(queue)}"

    def rq_queue(self, queue: str) -> str:
        """RQ's name of one of our queues; RQ knows no namespaces."""
        return queue if self.namespace == "default" else f"{self.namespace}.{queue}"

    def rq_id(self, job: str) -> str:
        """RQ's id of an attempt, and the entry of its doorbell; letters, digits, `_` and `-` only."""
        return job if self.namespace == "default" else f"{_NOT_IN_IDS.sub('_', self.namespace)}__{job}"

    def rq_job(self, job: str) -> str:
        """Hash: a queued attempt, as RQ sees it."""
        return f"rq:job:{self.rq_id(job)}"
