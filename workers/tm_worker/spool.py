"""Results that could not be delivered: one small synced file each, until the server has answered for it.

A result may come out of hours of work. When the server is away at that moment it is written down, and delivered with
the same claim token later, if need be by the next worker that uses this home directory.
"""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING, Any

import msgpack

from tm.logs import get_logger
from tm.states import Outcome
from tm.store.records import Report

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

log = get_logger("worker")


class Spool:
    """The spooled reports for one server's data.

    Args:
        home: directory of the installation.
        instance: id of the data on the server; a server that was emptied gets another one, and no old results.
    """

    def __init__(self, home: Path, instance: str) -> None:
        self._folder = home / "spool" / instance
        self._kept: set[str] = set()

    @property
    def size(self) -> int:
        """How many reports of this worker are on disk."""
        return len(self._kept)

    def keep(self, reports: Iterable[Report]) -> None:
        """Write down those that are not yet; a disk that refuses is logged, the report stays in memory."""
        new = [report for report in reports if report.token not in self._kept]
        if not new:
            return
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            for report in new:
                self._write(report)
                self._kept.add(report.token)
            _sync(self._folder)
        except OSError as error:
            log.warning("cannot spool a result", folder=self._folder, reason=error)

    def _write(self, report: Report) -> None:
        fields: list[Any] = [
            report.job,
            report.token,
            report.outcome.value,
            report.value,
            report.error,
            report.retry,
            report.ms,
            report.chance,
        ]
        target = self._folder / report.token
        draft = target.with_suffix(".new")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgpack.packb(fields))
            file.flush()
            os.fsync(file.fileno())
        draft.rename(target)

    def bury(self, report: Report, reason: str) -> None:
        """Set aside one that the server will never take, for a person to look at."""
        log.error("a result is set aside", job=report.job, file=self._folder / f"{report.token}.bad")
        with contextlib.suppress(OSError, TypeError, ValueError):  # whatever is in it: this is not worth dying for
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            text = f"{report.job} {report.outcome}: {reason}\n".encode(errors="backslashreplace")
            (self._folder / f"{report.token}.reason").write_bytes(text)
            (self._folder / f"{report.token}.bad").write_bytes(report.value or report.error)
        self.forget([report])

    def left_behind(self) -> list[Report]:
        """What earlier workers could not deliver; files that are damaged are set aside."""
        found = []
        for path in sorted(self._folder.glob("*")) if self._folder.is_dir() else []:
            if path.suffix in (".new", ".bad", ".reason"):
                continue
            try:
                report = _read(path)
            except OSError:
                continue  # another worker was faster
            except Exception:  # noqa: BLE001 - whatever is in the file
                log.warning("damaged file in the spool", file=path)
                with contextlib.suppress(OSError):
                    path.rename(path.with_suffix(".bad"))
                continue
            found.append(report)
            self._kept.add(report.token)
        return found

    def forget(self, reports: Iterable[Report]) -> None:
        """The server has answered for these."""
        for report in reports:
            if report.token in self._kept:
                self._kept.discard(report.token)
                (self._folder / report.token).unlink(missing_ok=True)


def _read(path: Path) -> Report:
    job, token, outcome, value, error, retry, milliseconds, chance = msgpack.unpackb(path.read_bytes())
    report = Report(job, token, Outcome(outcome), value, error, retry=retry, ms=milliseconds, chance=chance)
    if token != path.name or not _is_sound(report):
        raise ValueError(token)
    return report


def _is_sound(report: Report) -> bool:
    texts, values = (report.job, report.token), (report.value, report.error)
    whole = all(isinstance(each, str) for each in texts) and all(isinstance(each, bytes) for each in values)
    return whole and isinstance(report.retry, bool) and isinstance(report.ms, int) and isinstance(report.chance, float)


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
