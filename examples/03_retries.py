"""A task that fails is tried again as often as it says. Retry n waits retry_delay * (1 + backoff) ** n seconds."""

import tm
from tm import Executor, Graph, task

graph = Graph(name="retries", schedule="*/10 * * * *")

calls = 0


@task(retries=3, retry_delay=0.2, backoff=1, retry_on=ConnectionError)
def fetch():
    """Fails twice. A retry prefers the process that made the attempt before, so this count goes on; real tasks should
    not depend on it, for that process may be gone."""
    global calls  # noqa: PLW0603
    calls += 1
    if calls % 3:
        raise ConnectionError(f"call {calls}: nobody answers")
    return {"customer": 7, "calls": calls}


@task(retries=3)
def charge(fetch):
    """tm.Fail gives up at once: trying again would not help."""
    if fetch["customer"] < 0:
        raise tm.Fail(f"no such customer: {fetch['customer']}")
    print(f"charged customer {fetch['customer']} after {fetch['calls']} calls")
    return fetch["customer"]


graph.add_edges([fetch], [charge])

Executor(graphs=[graph]).start()
