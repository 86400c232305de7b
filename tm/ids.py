"""Names and ids: which names are allowed, and how a run and an attempt are called in Redis.

A run of a tick is named after graph and tick alone, so that no second scheduler, restart or repeat can double it. An
attempt is called `<run>_<node>_<attempt>`, which satisfies RQ's rule for job ids (letters, digits, `_`, `-`).
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import secrets
from datetime import UTC, datetime

GRAPH_NAME = re.compile(r"[^\x00-\x1f\x7f/:@]{1,100}")
QUEUE_NAME = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_UNSAFE = re.compile(r"[^A-Za-z0-9-]+")
_ALPHABET = "0123456789abcdefghjkmnpqrstvwxyz"  # no i, l, o, u: ids are read aloud at night
_LETTERS = bytes(_ALPHABET.encode()[value % len(_ALPHABET)] for value in range(256))  # eight bytes for each letter
_LENGTH = 10  # letters, of 5 bits each


@functools.lru_cache(maxsize=1024)
def slug(graph: str) -> str:
    """A graph's name in the letters an id may have; names that had to change carry a digest, so none collide."""
    safe = _UNSAFE.sub("-", graph).strip("-")[:40]
    if safe == graph:
        return safe
    digest = hashlib.blake2s(graph.encode(), digest_size=3).hexdigest()
    return f"{safe}-{digest}" if safe else digest


def tick_run_id(graph: str, tick: datetime) -> str:
    """The one id of the run of `graph` due at `tick` (an aware datetime)."""
    return f"{slug(graph)}-{tick.astimezone(UTC):%Y%m%dT%H%M%S}Z"


def manual_run_id(graph: str) -> str:
    """A new id for a run started by hand: 50 random bits."""
    return manual_run_ids(graph, 1)[0]


def manual_run_ids(graph: str, count: int) -> list[str]:
    """So many of them, for one call to the operating system."""
    letters = os.urandom(_LENGTH * count).translate(_LETTERS).decode("ascii")
    name = slug(graph)
    return [f"{name}-{letters[first : first + _LENGTH]}" for first in range(0, len(letters), _LENGTH)]


def job_id(run: str, node: int, attempt: int) -> str:
    """The RQ job id of one attempt."""
    return f"{run}_{node}_{attempt}"


def split_job_id(job: str) -> tuple[str, int, int]:
    """The run, node and attempt that `job_id` put together; ValueError for anything else."""
    run, node, attempt = job.rsplit("_", 2)
    return run, int(node), int(attempt)


def is_retry_id(run: str, of: str) -> bool:
    """Whether `run` is what a retry of `of` is called: `etl-1-2` of `etl-1`."""
    return run.startswith(f"{of}-") and run[len(of) + 1 :].isdecimal()


def new_token() -> str:
    """A claim token: 96 random bits, compared by equality in the server functions."""
    return secrets.token_urlsafe(12)
