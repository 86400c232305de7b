"""The duties of the leader's housekeeping, put together from the settings."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from tm_scheduler.housekeeping import Duty
from tm_scheduler.leftovers import OTHERS_EVERY, SPILLED_EVERY, Spilled, lost_graphs, old_libraries
from tm_scheduler.stranded import Stranded, pause

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tm.config import Settings

_DAY = 86_400.0


@contextmanager
def duties(settings: Settings) -> Iterator[list[Duty]]:
    """The duties, on a connection of their own."""
    from tm.store.functions import default_library
    from tm.store.housework import Housework
    from tm.wiring import connect, open_spill, open_store

    client = connect(settings)
    try:
        store = open_store(settings, client)
        house = Housework(store)
        found = []
        if settings.no_worker_after > 0:
            stranded = Stranded(house, settings.no_worker_after)

            def look() -> None:
                scene = store.scene()
                stranded.one_pass(
                    scene.now_ms,
                    scene.workers,
                    [each.name for each in scene.queues if each.depth and each.pause is None],
                )

            found.append(Duty("tasks that no worker offers", pause(settings.no_worker_after), look))
        if (spill := open_spill(settings)) is not None:
            keep = max(settings.result_ttl, settings.failed_ttl) + _DAY
            spilled = Spilled(house, spill, store.instance(), keep=keep)
            found.append(Duty("large messages of forgotten runs", SPILLED_EVERY, spilled.one_pass))

        def tidy_up() -> None:
            scene = store.scene()
            alive = [worker for worker in scene.workers if worker.alive]
            libraries = {default_library().name, *(worker.about.get("library", "") for worker in alive)}
            old_libraries(house, libraries, scene.now_ms)
            lost_graphs(house, {graph for worker in alive for graph in worker.graphs}, scene.now_ms)

        found.append(Duty("old functions and graphs", OTHERS_EVERY, tidy_up))
        yield found
    finally:
        client.close()
