"""Graphs run side by side: the slow one does not hold the quick one up."""

from datetime import UTC, datetime
from time import sleep

from tm import Executor, Graph, task

# due at midnight in Kolkata; a tick is skipped while a run is still open; a run may take a minute
slow = Graph(name="slow", schedule="0 0 * * *", timezone="Asia/Kolkata", overlap="skip", timeout=60)

# after a night without power, all the hours that were missed are made up for, not only the latest
quick = Graph(name="quick", schedule="@hourly", misfire="all", misfire_window=12 * 3600)


@task(timeout=30)
def think():
    """Workers end an attempt that takes longer than its time-out."""
    sleep(1)
    return "thought"


@task()
def look():
    """Instants travel as they are; so do dates, decimals, UUIDs, bytes, sets and tuples."""
    return datetime.now(UTC)


@task()
def show(look):
    print(f"looked at {look:%H:%M:%S}")
    return look.tzinfo is not None


slow.add_edges([think])
quick.add_edges([look], [show])

Executor(graphs=[slow, quick]).start()
