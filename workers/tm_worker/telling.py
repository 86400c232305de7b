"""What a worker's log says of attempts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tm import codec
from tm.logs import get_logger
from tm.states import Outcome
from tm.store.records import UNBEGUN, Verdict, VerdictKind

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tm.store.records import Claim
    from tm_worker.executors import Ended

log = get_logger("worker")

_WORDS = {
    Outcome.FAILED: "attempt failed",
    Outcome.TIMED_OUT: "attempt timed out",
    Outcome.KILLED: "attempt killed",
    Outcome.LOST: "attempt given back",
}


class Versions:
    """Warns, once for each, of runs that were planned by another version of a graph than the one loaded here."""

    def __init__(self, loaded: Mapping[str, str]) -> None:
        self._loaded, self._warned = loaded, set[tuple[str, str]]()

    def look_at(self, claims: Iterable[Claim]) -> None:
        """The server has given these."""
        for claim in claims:
            if claim.version != self._loaded.get(claim.graph) and (claim.graph, claim.version) not in self._warned:
                self._warned.add((claim.graph, claim.version))
                log.warning(
                    "a run was planned by another version of its file; the tasks as loaded here are used",
                    graph=claim.graph,
                    run=claim.run,
                    planned=claim.version,
                    loaded=self._loaded.get(claim.graph, "none"),
                )


def log_end(ended: Ended, verdict: Verdict, server_ms: float) -> None:
    """Tell of one, and what the server made of it; `server_ms` is the server's time."""
    report, claim = ended.report, ended.claim
    about = {"job": report.job} if claim is None else {"run": claim.run, "task": claim.task, "attempt": claim.attempt}
    if verdict.kind is VerdictKind.REJECTED:
        log.warning("result came too late, the attempt was no longer ours", **about)
    elif report.outcome is Outcome.SUCCESS:
        log.debug("attempt succeeded", **about, ms=report.ms)
    elif report.outcome is Outcome.SKIPPED:
        log.info("attempt skipped", **about, **_in_short(report.error))
    elif report.ms == UNBEGUN:
        log.debug("attempt given back before it began", **about)
    else:
        more = {} if verdict.due_ms is None else {"retry_in": f"{max(0.0, verdict.due_ms - server_ms) / 1000:.3g}s"}
        log.warning(_WORDS[report.outcome], **about, **_in_short(report.error), ms=report.ms, **more)


def _in_short(error: bytes) -> dict[str, str]:
    """Type, message and place of an error, for the log; the whole of it is in the history."""
    try:
        fields = codec.decode(error)
        places = re.findall(r'^  File "(.+)", line (\d+)', fields["traceback"], re.MULTILINE)
        place = {"at": f"{places[-1][0]}:{places[-1][1]}"} if places else {}
        return {"error": f"{fields['type']}: {fields['message'][:500]}", **place}
    except Exception:  # noqa: BLE001 - a log line is not worth dying for
        return {}
