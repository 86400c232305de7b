"""The server process: started, watched, started again, ended; and the locks that its owner holds meanwhile."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
import time
import weakref
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from tm.embedded.owner import command_line, open_lock, read_owner, try_lock, write_owner
from tm.embedded.places import prepare_home, prepare_socket_folder, socket_path, url_of
from tm.embedded.program import ask, dies_with_owner, find_binary, why_it_ended
from tm.errors import RefusedError, UnavailableError

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path
    from typing import Self

#: seconds a server may give no answer at all while it starts; while it loads its data it may take any time
_START_TIMEOUT = 10.0
#: seconds of running after which a crash counts as the first one again
_STABLE = 60.0
_LONGEST_DELAY = 10.0
_LARGEST_LOG = 1 << 20


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
        return url_of(self.socket)

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
        prepare_home(self.home)
        prepare_socket_folder(self.socket, self.home)
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
            self._note_crash(now, why_it_ended(self.poll(), self.home, self.log))
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
        lock = open_lock(self.home / "lock")
        until = time.monotonic() + 0.25
        while not try_lock(lock, fcntl.LOCK_EX):  # `alive` holds it for a moment when it looks
            if time.monotonic() > until:
                said = read_owner(lock)
                os.close(lock)
                raise RefusedError(
                    f"{self.home} is in use by pid {said.get('pid', 'unknown')} ({said.get('command', 'unknown')}) "
                    f"since {said.get('since', 'just now')}; stop that first, or set TM_HOME to another directory"
                )
            time.sleep(0.01)
        self._lock = lock
        try:
            said = read_owner(lock)
            self._server_lock = open_lock(self.home / "server.lock")
            self._end_orphan(said.get("server", "unknown"), patience)
        except BaseException:
            self._let_go()
            raise
        self.instance = secrets.token_hex(8)
        self._owner = {
            "pid": os.getpid(),
            "command": command_line(),
            "since": datetime.now(UTC).isoformat(timespec="seconds"),
            "socket": str(self.socket),
            "instance": self.instance,
            "server": 0,
        }
        write_owner(lock, self._owner)
        if not _servers:
            os.register_at_fork(after_in_child=_forget_all)
        _servers.add(self)

    def _end_orphan(self, pid: object, patience: float) -> None:
        """Wait for the server of a killed owner to end. We hold `lock`, so nobody living owns it."""
        until = time.monotonic() + patience
        ask_at = time.monotonic() + 0.1  # it usually ends by itself, told by the kernel
        while not try_lock(self._server_lock, fcntl.LOCK_EX):
            now = time.monotonic()
            if now > until:
                raise RefusedError(
                    f"the server of {self.home} (pid {pid}) has outlived its owner and does not end; "
                    f"end it by force: kill -9 {pid}"
                )
            if now >= ask_at:
                ask(self.socket, b"SHUTDOWN\r\n", timeout=0.5)
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
                preexec_fn=dies_with_owner(),  # noqa: PLW1509 - one system call; the owner has no threads
            )
        except OSError as error:
            raise UnavailableError(f"cannot start {binary}: {error.strerror or error}") from error
        finally:
            self._spawning = False
            os.close(log)
        self._owner["server"] = self._process.pid
        write_owner(self._lock, self._owner)
        self._await_answer()
        self._up_since, self.problem = time.monotonic(), ""

    def _await_answer(self) -> None:
        until = time.monotonic() + _START_TIMEOUT
        while True:
            answer = ask(self.socket, b"PING\r\n", timeout=2)
            if answer.startswith((b"+PONG", b"-MISCONF")):  # misconf: up, but the disk takes no writes
                return
            if answer.startswith(b"-LOADING"):
                until = time.monotonic() + _START_TIMEOUT
            if (code := self.poll()) is not None:
                raise UnavailableError(
                    f"the server of {self.home} did not start: {why_it_ended(code, self.home, self.log)}"
                )
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
            (lambda: ask(self.socket, b"SHUTDOWN\r\n", timeout=0.5), 0.5),
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
