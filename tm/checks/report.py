"""All files together: each is looked into by a child process, and what only shows side by side is added."""

from __future__ import annotations

import json
import os
import select
import signal
import time
import traceback
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tm.checks.compose import offered_queues
from tm.checks.findings import Finding, Severity, heeded, made_of
from tm.checks.places import shown, source
from tm.errors import LoadError
from tm.loader import graph_files

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

#: seconds one file may take to be imported
PATIENCE = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """What was found."""

    files: int  #: that were looked into
    graphs: int
    findings: tuple[Finding, ...]  #: by place

    @property
    def errors(self) -> int:
        """How many of them are errors."""
        return sum(each.severity is Severity.ERROR for each in self.findings)


def check(targets: Sequence[str | Path], *, patience: float = PATIENCE) -> Report:
    """Look for what is wrong in graph files, and in all graph files of directories. Nothing of them is run.

    Args:
        targets: files and directories.
        patience: seconds one file may take to be imported.

    Raises:
        LoadError: a target does not exist, or a directory has no file that could define a graph.
    """
    jobs: dict[Path, Path | None] = {}
    for target in targets:
        jobs |= _jobs(Path(target))
    told = _in_children([_Job(path=path, top=top) for path, top in jobs.items()], patience)
    # of a directory only those files count that have graphs, or cannot be loaded: others may be there for them
    told = [(job, answer) for job, answer in told if job.top is None or answer["graphs"] or not answer["loaded"]]
    findings = [made_of(each) for _, answer in told for each in answer["findings"]]
    for job, answer in told:
        if job.top is None and not answer["graphs"] and not answer["findings"]:
            hint = "write graph = Graph(...) at its top level"
            findings.append(
                Finding(file=shown(job.path), code="no-graph", message="the file defines no graph", hint=hint)
            )
    together = [*_doubled(told), *_unused(told), *_queues(told)]
    findings += heeded(together, {each.file: source(Path(each.file).absolute()).lines for each in together})
    unique = {(each.file, each.line, each.column, each.code, each.message): each for each in findings}
    graphs = {(each["file"], each["line"], each["name"]) for _, answer in told for each in answer["graphs"]}
    in_order = sorted(unique.values(), key=lambda each: (each.file, each.line, each.column, each.code))
    return Report(files=len(told), graphs=len(graphs), findings=tuple(in_order))


def _jobs(target: Path) -> dict[Path, Path | None]:
    if target.is_dir():
        found = graph_files(target)
        if not found:
            raise LoadError(f"cannot check {target}: no Python file in it defines a graph")
        return {each.resolve(): target.resolve() for each in found}
    if not target.exists():
        raise LoadError(f"cannot check {target}: no such file or directory")
    return {target.resolve(): None}


# Side by side -------------------------------------------------------------------------------------------------

_Told = list[tuple["_Job", dict[str, Any]]]


def _doubled(told: _Told) -> Iterable[Finding]:
    first: dict[str, dict[str, Any]] = {}
    for _, answer in told:
        for graph in answer["graphs"]:
            known = first.setdefault(graph["name"], graph)
            if known["file"] != graph["file"]:
                name = graph["name"]
                other = made_of({key: value for key, value in known.items() if key != "name"})
                here = made_of({key: value for key, value in graph.items() if key != "name"})
                message = f"two graphs are named {name!r}, the other one is at {other.place}"
                yield replace(here, message=message, hint="rename one, for they cannot run together")


def _unused(told: _Told) -> Iterable[Finding]:
    if not any(answer["graphs"] for _, answer in told):
        return
    used = {place for _, answer in told for place in answer["used"]}
    for _, answer in told:
        for stored in answer["tasks"] if answer["graphs"] else ():
            task = made_of(stored)
            if task.message not in used:
                yield replace(task, message="this task is in no graph")


def _queues(told: _Told) -> Iterable[Finding]:
    for job, answer in told:
        offered = offered_queues(job.path)
        if offered is None:
            continue
        file, queues = offered
        for queue, place in answer["queues"]:
            if queue not in queues:
                message = (
                    f"no worker in {shown(file)} takes from queue {queue!r}, only from {', '.join(sorted(queues))}"
                )
                yield replace(made_of(place), message=message, hint=f"add --queue {queue} to a tm-worker there")


# Children -----------------------------------------------------------------------------------------------------


@dataclass(kw_only=True)
class _Job:
    path: Path
    top: Path | None
    pid: int = 0
    began: float = 0.0
    pipe: int = -1
    answer: bytearray = field(default_factory=bytearray)


def _in_children(jobs: list[_Job], patience: float) -> _Told:
    """Fork a process for each file, some at a time: what an import does to a process ends with it."""
    import tm.checks.inside  # once, so that not every child has to load it

    rest = jobs[::-1]
    running: dict[int, _Job] = {}
    told: dict[Path, dict[str, Any]] = {}
    most = max(1, os.cpu_count() or 1)
    while rest or running:
        while rest and len(running) < most:
            job = rest.pop()
            _fork(job, tm.checks.inside.look_into)
            running[job.pipe] = job
        ready, _, _ = select.select(list(running), [], [], 0.5)
        for pipe in ready:
            if data := os.read(pipe, 1 << 16):
                running[pipe].answer += data
            else:
                job = running.pop(pipe)
                told[job.path] = _ended(job)
        for job in [job for job in running.values() if time.monotonic() - job.began > patience]:
            os.killpg(job.pid, signal.SIGKILL)
            _ended(running.pop(job.pipe))
            hint = 'put what takes so long under `if __name__ == "__main__":`'
            told[job.path] = _alone(job, "import-hangs", f"still being imported after {patience:g} s", hint)
    return [(job, told[job.path]) for job in jobs]


def _fork(job: _Job, look: Any) -> None:
    reading, writing = os.pipe()
    job.began = time.monotonic()
    pid = os.fork()
    if pid:
        os.close(writing)
        job.pid, job.pipe = pid, reading
        return
    code = 1
    try:
        os.setpgid(0, 0)
        # what a file prints when it is imported is no finding
        nothing = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(nothing, number)
        try:
            answer = look(job.path, job.top)
        except Exception:  # noqa: BLE001 - a mistake of ours, which must not look like one of the file's
            answer = {"bug": traceback.format_exc()}
        with open(writing, "wb") as pipe:  # noqa: PTH123 - a descriptor
            pipe.write(json.dumps(answer).encode())
        code = 0
    finally:
        os._exit(code)


def _ended(job: _Job) -> dict[str, Any]:
    os.close(job.pipe)
    _, status = os.waitpid(job.pid, 0)
    if job.answer:
        try:
            answer: dict[str, Any] = json.loads(job.answer)
        except ValueError:
            pass
        else:
            if "bug" in answer:
                raise RuntimeError(f"looking into {job.path} failed; please report this:\n{answer['bug']}")
            return answer
    code = os.waitstatus_to_exitcode(status)
    how = f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"
    return _alone(job, "import-crash", f"the process that imported it ended with {how}", "run it alone: python FILE")


def _alone(job: _Job, code: str, message: str, hint: str) -> dict[str, Any]:
    finding = Finding(file=shown(job.path), code=code, message=message, hint=hint)
    stored = {name: getattr(finding, name) for name in Finding.__slots__}
    return {"loaded": False, "findings": [stored], "graphs": [], "tasks": [], "used": [], "queues": []}
