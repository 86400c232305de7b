"""The nursery: a clean process that forks executors and tells of their deaths.

It is forked before its supervisor has any connection or thread, holds the graphs, and connects nowhere. So each
executor starts from the same clean state whenever it is forked, in a millisecond and sharing memory. Because only the
nursery reaps executors, only it signals them: a signal can never hit a stranger who got a dead executor's pid.

Each executor leads a process group of its own, which ends with it. What a task has forked into another group or
session comes to its executor when its own parent ends, and with the executor's end to the nursery, which ends it
(Linux: both are subreapers). The nursery ends when it reads the end of its supervisor, and takes everybody along;
executors end with the nursery (Linux, by the kernel; elsewhere when they read the end of their streams).
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import gc
import os
import select
import signal
import socket
import struct
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from tm import children
from tm_worker.channel import ExecutorEnd, SupervisorEnd, packets

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

#: to the nursery: what, number of the executor, signal or how many descriptors are ends of its channel
_ORDER = struct.Struct("!BIi")
_SPAWN, _SIGNAL = 1, 2
#: from the nursery: what, number, pid or errno, wait status, largest resident size in bytes
_NEWS = struct.Struct("!BIiiQ")
_BORN, _DIED, _FAILED = 1, 2, 3
#: that come with an order
_MOST_DESCRIPTORS = 8
#: what terminals and service managers send to everybody
_FOR_THE_GROUP = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@dataclass(frozen=True, slots=True)
class Born:
    """An executor is ready for work."""

    number: int
    pid: int


@dataclass(frozen=True, slots=True)
class Died:
    """An executor is gone, and its process group with it."""

    number: int
    pid: int
    exit_code: int  #: negative: the signal that ended it
    max_rss: int  #: bytes


@dataclass(frozen=True, slots=True)
class Failed:
    """An executor could not be forked."""

    number: int
    reason: str


News = Born | Died | Failed


class Nursery:
    """The supervisor's handle of the nursery."""

    def __init__(self, pid: int, control: socket.socket) -> None:
        control.setblocking(False)
        self.pid = pid
        self._control = control
        self._in = bytearray()
        self.deaths: dict[str, int] = {}  #: executors that ended: "0", another "exit code", or the signal's name

    @classmethod
    def start(cls, body: Callable[..., None], warm_up: Callable[[], None]) -> Nursery:
        """Fork the nursery; call it before anything is connected or started in this process.

        Args:
            body: what an executor does, given its ends for the supervisor, and what else `spawn` sent.
            warm_up: run once in the nursery before the first fork, for imports that executors share.
        """
        ours, theirs = socket.socketpair()
        parent = os.getpid()
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:
                stream.flush()
        # until the nursery ignores them, signals for the whole group wait
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _FOR_THE_GROUP)
        pid = os.fork()
        if pid == 0:
            try:
                ours.close()
                _Main(theirs, parent, body).run(warm_up)
            except BaseException:  # noqa: BLE001 - this copy of the service must not go on
                sys.excepthook(*sys.exc_info())
            finally:
                os._exit(70)
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        theirs.close()
        return cls(pid, ours)

    def fileno(self) -> int:
        """For a selector: readable when there is news."""
        return self._control.fileno()

    def spawn(self, number: int, outputs: Sequence[int] = ()) -> SupervisorEnd:
        """Order an executor; news of its birth follow. OSError when the nursery or descriptors are gone.

        Args:
            number: what it is called.
            outputs: descriptors for it: what becomes its standard output and standard error, then what its body gets.
        """
        with contextlib.ExitStack() as unless_sent:
            ours, theirs = map(unless_sent.enter_context, socket.socketpair())
            claims = packets()
            for each in claims or ():
                unless_sent.enter_context(each)
            ends = [theirs.fileno(), claims[1].fileno()] if claims else [theirs.fileno()]
            socket.send_fds(self._control, [_ORDER.pack(_SPAWN, number, len(ends))], [*ends, *outputs])
            unless_sent.pop_all()
        theirs.close()
        return SupervisorEnd(ours, claims)

    def signal(self, number: int, signum: int) -> None:
        """Send a signal to an executor's process group, if it lives."""
        with contextlib.suppress(OSError):  # a dead nursery has taken its executors along
            self._control.send(_ORDER.pack(_SIGNAL, number, signum))

    def news(self) -> tuple[list[News], bool]:
        """What happened, in order, and whether the nursery itself is gone."""
        ended = False
        while True:
            try:
                data = self._control.recv(4096)
            except BlockingIOError:
                break
            except ConnectionError:
                data = b""
            if not data:
                ended = True
                break
            self._in += data
        found: list[News] = []
        while len(self._in) >= _NEWS.size:
            found.append(news := _read(bytes(self._in[: _NEWS.size])))
            del self._in[: _NEWS.size]
            if isinstance(news, Died):
                how = _how(news.exit_code)
                self.deaths[how] = self.deaths.get(how, 0) + 1
        return found, ended

    def close(self) -> None:
        """End the nursery and all executors, and wait until they are gone."""
        self._control.close()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.pid, 0)


def _read(data: bytes) -> News:
    what, number, pid, status, max_rss = _NEWS.unpack(data)
    if what == _BORN:
        return Born(number, pid)
    if what == _DIED:
        return Died(number, pid, os.waitstatus_to_exitcode(status), max_rss)
    return Failed(number, os.strerror(pid))


def _how(exit_code: int) -> str:
    if exit_code >= 0:
        return "exit code" if exit_code else "0"
    try:
        return signal.Signals(-exit_code).name
    except ValueError:
        return "signal"


def die_with(parent: int) -> None:
    """Have the kernel end this process when its parent dies (Linux); at once if it is dead already."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL, 0, 0, 0)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os._exit(1)


def has_children() -> bool:
    """Whether this process has any, running or ended; leaves them as they are. Costs a microsecond."""
    if not hasattr(os, "waitid"):  # macOS before Python 3.13; nobody adopts orphans there anyway
        return False
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def default_signals() -> None:
    """Undo what the process we were forked from did about signals; Ctrl-C, sent to everybody, is not for us."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            signal.signal(number, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


class _Main:
    """The nursery process itself."""

    def __init__(self, control: socket.socket, parent: int, body: Callable[..., None]) -> None:
        self.control = control
        self.body = body
        self.numbers: dict[int, int] = {}  # pid -> number of the living executors
        default_signals()
        # neither with the supervisor's group nor by the kernel: somebody has to end the descendants of tasks
        with contextlib.suppress(OSError):
            os.setpgid(0, 0)
        if os.getppid() != parent:
            os._exit(1)
        children.adopt_orphans()
        for number in _FOR_THE_GROUP:
            signal.signal(number, signal.SIG_IGN)  # it ends with its supervisor
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        self.woken, self.waker = os.pipe()
        os.set_blocking(self.woken, False)
        os.set_blocking(self.waker, False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self.waker, warn_on_full_buffer=False)

    def run(self, warm_up: Callable[[], None]) -> NoReturn:
        """Serve orders until the supervisor is gone; never returns."""
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)  # a task that reads the terminal would be stopped, being in the background
        os.close(null)
        for stream in (sys.stdout, sys.stderr):
            if hasattr(stream, "reconfigure"):
                stream.reconfigure(line_buffering=True)  # what a task prints is seen when it is printed
        warm_up()
        gc.collect()
        gc.freeze()  # or the first collection in each executor copies every page
        while True:
            ready, _, _ = select.select([self.control.fileno(), self.woken], [], [])
            if self.woken in ready:
                self._reap()
            if self.control.fileno() in ready and not self._obey():
                break
        for pid in self.numbers:
            _kill_group(pid, signal.SIGKILL)
        children.end_descendants()
        os._exit(0)

    def _obey(self) -> bool:
        try:
            order, descriptors, _, _ = socket.recv_fds(self.control, _ORDER.size, _MOST_DESCRIPTORS)
        except ConnectionError:
            return False
        if not order:
            return False
        while len(order) < _ORDER.size:
            order += self.control.recv(_ORDER.size - len(order))
        what, number, signum = _ORDER.unpack(order)
        if what == _SPAWN:
            self._spawn(number, signum, descriptors)
        elif what == _SIGNAL:
            for pid, living in self.numbers.items():
                if living == number:
                    _kill_group(pid, signum)
        return True

    def _spawn(self, number: int, ends: int, descriptors: Sequence[int]) -> None:
        nursery = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            for descriptor in descriptors:
                os.close(descriptor)
            self._tell(_FAILED, number, error.errno or errno.EAGAIN)
            return
        if pid == 0:
            try:
                self._become_executor(ends, descriptors, nursery)
            except BaseException:  # noqa: BLE001 - an executor never returns into the nursery
                sys.excepthook(*sys.exc_info())
            finally:
                os._exit(70)
        with contextlib.suppress(OSError):  # both sides do it, for neither knows who is first
            os.setpgid(pid, pid)
        for descriptor in descriptors:
            os.close(descriptor)
        self.numbers[pid] = number
        self._tell(_BORN, number, pid)

    def _become_executor(self, ends: int, descriptors: Sequence[int], nursery: int) -> NoReturn:
        default_signals()
        with contextlib.suppress(OSError):
            os.setpgid(0, 0)
        die_with(nursery)
        children.adopt_orphans()  # to see what a task leaves behind
        self.control.close()
        os.close(self.woken)
        os.close(self.waker)
        stream, *claims = [socket.socket(fileno=descriptor) for descriptor in descriptors[:ends]]
        others = descriptors[ends:]
        for target, descriptor in zip((1, 2), others, strict=False):
            os.dup2(descriptor, target)
            os.close(descriptor)
        self.body(ExecutorEnd(stream, *claims), *others[2:])
        os._exit(0)

    def _reap(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self.woken, 4096)
        for pid in list(self.numbers):
            ended, status, usage = os.wait4(pid, os.WNOHANG)
            if ended:
                _kill_group(pid, signal.SIGKILL)
                unit = 1 if sys.platform == "darwin" else 1024
                self._tell(_DIED, self.numbers.pop(pid), pid, status, usage.ru_maxrss * unit)
        # what is left of the tasks of executors that have ended
        if len(self.numbers) < len(here := children.children()):
            children.end_descendants(keep=frozenset(self.numbers) & here)

    def _tell(self, what: int, number: int, pid: int, status: int = 0, max_rss: int = 0) -> None:
        with contextlib.suppress(OSError):  # the end of the supervisor is read in the next turn
            self.control.sendall(_NEWS.pack(what, number, pid, status, max_rss))


def _kill_group(pid: int, signum: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signum)
