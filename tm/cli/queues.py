"""`tm queues`: what waits in each queue, what runs, and who works on it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tm.cli.face import Face, pass_face
from tm.clock import from_ms
from tm.words import Words, rough

if TYPE_CHECKING:
    from tm.insight import Crew
    from tm.store.looking import QueueView


@click.command(
    epilog="""\b
Examples:
  tm queues                     # is anybody there for what waits?
  tm queues --json | jq '.items[] | select(.live_workers == 0 and .waiting > 0).name'

\b
Exit codes: 0, 5 unreachable.
"""
)
@pass_face
def queues(face: Face) -> None:
    """List the queues that graphs or workers name: what waits and since when, what runs, how many workers live.

    A worker counts as alive as long as it beats. `rq suspend` stops all of them at once, and that is said too.
    """
    from tm.insight import Insight

    client, zone = face.client(), face.settings().timezone
    crew = Insight(client.lookup, zone).crew()
    scene, render = crew.known.scene, face.render()
    assert scene is not None  # noqa: S101 - for the type checker: there is a server
    if face.as_json:
        render.document("tm.queues/1", [_document(queue, crew) for queue in scene.queues])
        return
    if not scene.queues:
        render.line("no queues yet; run a graph, or start a worker")
        return
    render.table(
        ("QUEUE", ">WAITING", "OLDEST", ">RUNNING", ">WORKERS", ""),
        [_row(queue, crew) for queue in scene.queues],
    )
    if scene.suspended:
        left = f" for another {rough(scene.suspended_for_ms / 1000)}" if scene.suspended_for_ms is not None else ""
        render.styled(f"all workers are suspended{left}; `rq resume` ends that", "bold yellow")


def _row(queue: QueueView, crew: Crew) -> list[str]:
    words = crew.known.words
    oldest = words.since(from_ms(queue.oldest_ms)).removeprefix("since ") if queue.oldest_ms is not None else ""
    live = crew.live_on(queue.name)
    return [
        queue.name,
        str(queue.depth),
        oldest,
        str(crew.running_on(queue.name)),
        str(live),
        _note(queue, live, words),
    ]


def _note(queue: QueueView, live: int, words: Words) -> str:
    if live:
        return ""
    if queue.attended_ms is None:
        return "never had a worker"
    return f"no live worker {words.since(from_ms(queue.attended_ms))}"


def _document(queue: QueueView, crew: Crew) -> dict[str, Any]:
    from tm.cli.documents import instant

    scene = crew.known.scene
    return {
        "name": queue.name,
        "waiting": queue.depth,
        "doorbells": queue.bells,
        "oldest_since": None if queue.oldest_ms is None else instant(from_ms(queue.oldest_ms)),
        "running": crew.running_on(queue.name),
        "live_workers": crew.live_on(queue.name),
        "last_heard_of": None if queue.attended_ms is None else instant(from_ms(queue.attended_ms)),
        "suspended": scene.suspended if scene else False,
    }
