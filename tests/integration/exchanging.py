"""An exchange with a real server, without the worker around it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tm_worker.exchange import Exchange

if TYPE_CHECKING:
    from pathlib import Path

    from tm.store.store import Store
    from tm_worker.supervisor import Supervisor


class RqWorker:
    """The little an exchange wants of its RQ worker."""

    name = "w"

    def noted(self, state: str) -> None: ...

    def set_state(self, state: str) -> None: ...


def exchange_of(store: Store, supervisor: Supervisor, home: Path) -> Exchange:
    """One of worker `w`, which offers the graph `g` and works on the default queue."""
    worker: Any = RqWorker()
    return Exchange(
        store,
        worker,
        supervisor,
        queues=["default"],
        versions={},
        lease=30.0,
        home=home,
        where="here",
        register=lambda: announce(store),
    )


def announce(store: Store) -> None:
    """Let the server know of the worker."""
    store.announce(RqWorker.name, ["g"], {}, 60_000)
