"""Where a private server lies: its home directory and its socket, and who may use them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from pathlib import Path
from urllib.parse import quote

from tm.errors import RefusedError, UnavailableError

#: bytes of a socket's path that every system takes (Linux 107, macOS 103)
_LONGEST_SOCKET_PATH = 100


def socket_path(home: Path) -> Path:
    """Where the server of `home` listens: in it, or in a private directory when that path is too long."""
    path = home.absolute() / "redis.sock"
    if len(os.fsencode(path)) <= _LONGEST_SOCKET_PATH:
        return path
    digest = hashlib.blake2s(os.fsencode(home.resolve()), digest_size=8).hexdigest()
    # not tempfile.gettempdir(): a client whose TMPDIR differs has to come to the same place
    return Path(f"/tmp/tm-{os.geteuid()}/{digest}.sock")  # noqa: S108 - made 0700 and checked before it is used


def socket_url(home: Path) -> str:
    """The URL of the server of `home`, as clients take it."""
    return url_of(socket_path(home))


def url_of(socket: Path) -> str:
    """The server at this socket, as clients take it."""
    return f"unix://{quote(str(socket))}"


def prepare_home(home: Path) -> None:
    """Make the directory, or see that it is ours alone to write to.

    Raises:
        RefusedError: it is not.
        UnavailableError: it cannot be made.
    """
    try:
        home.mkdir(mode=0o700, parents=True)
        (home / ".gitignore").write_text("*\n")
    except FileExistsError:
        pass
    except OSError as error:
        raise UnavailableError(
            f"cannot make the directory {home}: {error.strerror}; set TM_HOME to one that can be made"
        ) from error
    try:
        found = home.stat()
    except OSError as error:  # a link to nowhere
        raise RefusedError(f"{home} cannot be used: {error.strerror}") from error
    if not stat.S_ISDIR(found.st_mode):
        raise RefusedError(f"{home} is no directory; remove it or set TM_HOME")
    if found.st_uid != os.geteuid():
        raise RefusedError(f"{home} belongs to user id {found.st_uid}, not to {os.geteuid()}; set TM_HOME to your own")
    if found.st_mode & stat.S_IWOTH:
        raise RefusedError(f"everybody may write to {home}; close it (chmod o-w {home}) or set TM_HOME to another")


def prepare_socket_folder(socket: Path, home: Path) -> None:
    """Make the private directory of a socket that does not lie in `home`, or see that it is private.

    Raises:
        RefusedError: it is not.
    """
    folder = socket.parent
    if folder == home:
        return
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700)
    found = folder.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.geteuid() or found.st_mode & 0o077:
        raise RefusedError(
            f"{folder} is not a private directory of user id {os.geteuid()}; remove it, or set TM_HOME to a "
            f"path shorter than {home}, whose socket would then lie inside"
        )
