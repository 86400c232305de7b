"""What others tell this process by signal, and a sleep that a signal ends."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from types import FrameType, TracebackType

#: told to stop; a second one of them stops at once. SIGHUP: the terminal was closed
STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Signals:
    """Handlers for the life of the service; each only sets a flag, for a handler that raised could do so anywhere.

    A signal that is ignored stays so: under `nohup`, and Ctrl-C in a child of a stack, whose parent translates it.
    """

    def __init__(self) -> None:
        self.stop = False  #: finish what is in hand, then end
        self.drain = False  #: no new ticks; end when no run is open
        self._before: dict[int, Any] = {}

    def __enter__(self) -> Self:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        os.set_blocking(self._writer, False)
        self._wakeup_before = signal.set_wakeup_fd(self._writer, warn_on_full_buffer=False)
        for number in (*STOP, signal.SIGUSR1):
            if signal.getsignal(number) is not signal.SIG_IGN:
                self._before[number] = signal.signal(number, self._heard)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(self._wakeup_before)
        ends, self._reader, self._writer = (self._reader, self._writer), -1, -1
        for each in ends:
            os.close(each)

    def wait(self, seconds: float) -> None:
        """Sleep, until a signal comes in or somebody calls `wake`."""
        if select.select([self._reader], [], [], seconds)[0]:
            os.read(self._reader, 512)

    def wake(self) -> None:
        """End the sleep; may be called from any thread."""
        with contextlib.suppress(OSError):  # full: nobody can sleep for that; closed: nobody sleeps any more
            os.write(self._writer, b"\0")

    def _heard(self, number: int, _frame: FrameType | None) -> None:
        if number == signal.SIGUSR1:
            self.drain = True
        elif self.stop:
            os._exit(128 + number)  # at once: no finally, no lock, no server that does not answer
        else:
            self.stop = True
