"""The spill store: messages too large for the server lie in files that all workers reach; the server holds a reference.

A file is called after its content and lies in the folder of the run that made it. It is written, synced and renamed
before the attempt reports, so a reference that was accepted leads to a whole file. Who reads checks length and
checksum. The leading scheduler removes the folders of runs that the server has forgotten (`tm_scheduler.housekeeping`).

One directory serves one server and namespace; workers on several machines need it on a shared file system.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

import msgpack

from tm.codec import SPILLED
from tm.errors import SpillError

if TYPE_CHECKING:
    from pathlib import Path

_DIGEST_SIZE = 16
_LONGEST_NAME = 180  # so that a reference has a short head
_OWNER = ".instance"


@dataclass(frozen=True, slots=True)
class Reference:
    """What the server holds instead of a message."""

    run: str
    digest: str
    size: int  #: bytes

    def packed(self) -> bytes:
        """As a message that only `fetch` can read."""
        parts: bytes = msgpack.packb([self.run, self.digest, self.size])
        packed: bytes = msgpack.packb(msgpack.ExtType(SPILLED, parts))
        return packed


def read_reference(value: bytes) -> Reference | None:
    """The reference in these bytes; None when they are a message like any other. Costs a tenth of a microsecond."""
    if value[:1] != b"\xc7" or value[2:3] != bytes([SPILLED]):
        return None
    try:
        run, digest, size = msgpack.unpackb(msgpack.unpackb(value).data)
        bytes.fromhex(digest)
        if isinstance(run, str) and len(digest) == 2 * _DIGEST_SIZE and isinstance(size, int):
            return Reference(run, digest, size)
    except Exception as error:
        raise SpillError("the reference to a message in the spill store cannot be read; it was damaged") from error
    raise SpillError("the reference to a message in the spill store cannot be read; it was damaged")


def fetch(spill: Spill | None, value: bytes) -> bytes:
    """The message behind a reference; anything else as it is.

    Raises:
        SpillError: the file is missing, unreadable, or not what was written (names it); or there is no spill store.
    """
    reference = read_reference(value)
    if reference is None:
        return value
    if spill is None:
        raise SpillError(
            f"a message of {reference.size:,} bytes is kept in the spill store of the worker that made it, and none is "
            "set here; set TM_SPILL to the same directory, shared by all machines"
        )
    return spill.read(reference)


class Spill:
    """Files in one directory.

    Args:
        folder: of one server and namespace; made with mode 0700 when it is first needed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def keep(self, run: str, message: bytes) -> bytes:
        """Write a message down for good; returns the reference to send in its place.

        Raises:
            SpillError: the directory does not take it, and why.
        """
        reference = Reference(run, _digest(message), len(message))
        path = self._path(reference)
        draft = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
        try:
            new = not path.parent.is_dir()
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _write(draft, message)
            draft.replace(path)
            _sync(path.parent)
            if new:
                _sync(self.folder)
        except OSError as error:
            with contextlib.suppress(OSError):
                draft.unlink(missing_ok=True)
            raise SpillError(
                f"a message of {len(message):,} bytes cannot be kept in {self.folder} (setting TM_SPILL): "
                f"{error.strerror or error}"
            ) from error
        return reference.packed()

    def read(self, reference: Reference) -> bytes:
        """The message of a reference, checked.

        Raises:
            SpillError: see `fetch`.
        """
        path = self._path(reference)
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
            with os.fdopen(descriptor, "rb") as file:
                size = os.fstat(descriptor).st_size
                message = file.read(reference.size) if size == reference.size else b""
        except OSError as error:
            raise SpillError(
                f"the message in {path} cannot be read: {error.strerror or error}; "
                "is TM_SPILL the same directory on all machines?"
            ) from error
        if size != reference.size:
            raise SpillError(f"the message in {path} has {size:,} bytes, {reference.size:,} were written")
        if _digest(message) != reference.digest:
            raise SpillError(f"the message in {path} is not what was written: its checksum is another")
        return message

    def runs(self) -> dict[str, float]:
        """The runs that have a folder here, and when it was last written to (seconds since the epoch)."""
        found = {}
        with contextlib.suppress(FileNotFoundError), os.scandir(self.folder) as entries:
            for entry in entries:
                with contextlib.suppress(OSError):  # somebody else removes too
                    if not entry.name.startswith(".") and entry.is_dir(follow_symlinks=False):
                        found[unquote(entry.name)] = entry.stat(follow_symlinks=False).st_mtime
        return found

    def forget(self, run: str) -> None:
        """Remove what a run has left here."""
        shutil.rmtree(self.folder / _name(run), ignore_errors=True)

    def owner(self) -> str:
        """The id of the server's data that this directory belongs to; empty while nobody has said."""
        try:
            return (self.folder / _OWNER).read_text().strip()
        except OSError:
            return ""

    def belong_to(self, instance: str) -> None:
        """Say whose this directory is."""
        draft = self.folder / f"{_OWNER}.{secrets.token_hex(4)}"
        _write(draft, instance.encode())
        draft.replace(self.folder / _OWNER)

    def _path(self, reference: Reference) -> Path:
        return self.folder / _name(reference.run) / reference.digest


def _name(run: str) -> str:
    name = quote(run, safe="")
    if not name or name.startswith(".") or len(name) > _LONGEST_NAME:
        raise SpillError(f"{run!r:.300} can be no run with messages in the spill store")
    return name


def _digest(message: bytes) -> str:
    return hashlib.blake2b(message, digest_size=_DIGEST_SIZE).hexdigest()


def _write(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)


def _sync(folder: Path) -> None:
    descriptor: Any = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
