"""What services and tasks print, caught so that a live view can show it above itself instead of being torn apart."""

from __future__ import annotations

import os
import select


class Tap:
    """A pipe: the services write into it instead of the terminal, one reader takes whole lines out.

    Made before the services are forked. Only one process reads at a time.
    """

    def __init__(self) -> None:
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._reader, False)
        self._rest = b""

    def take_over(self) -> None:
        """In a service: make standard output and standard error lead here."""
        os.dup2(self._writer, 1)
        os.dup2(self._writer, 2)

    def lines(self, timeout: float = 0.0, *, all_of_it: bool = False) -> list[str]:
        """Whole lines that were printed, after waiting up to `timeout` seconds for the first.

        Args:
            timeout: seconds.
            all_of_it: also what has no newline yet, for nothing follows.
        """
        select.select([self._reader], [], [], timeout)
        data = self._rest
        while True:
            try:
                piece = os.read(self._reader, 1 << 16)
            except BlockingIOError:
                break
            if not piece:
                break
            data += piece
            if len(data) > 1 << 20:
                break  # let the view breathe
        *whole, self._rest = data.split(b"\n")
        if all_of_it and self._rest:
            whole.append(self._rest)
            self._rest = b""
        return [line.decode(errors="replace").rstrip("\r") for line in whole]

    def pass_on(self) -> None:
        """Print what nobody has read."""
        for line in self.lines(all_of_it=True):
            print(line, flush=True)


class ToStderr:
    """Standard output of the services joins standard error: what a command prints itself stays pure."""

    def take_over(self) -> None:
        """In a service: make standard output lead to standard error."""
        os.dup2(2, 1)

    def pass_on(self) -> None:
        """Nothing is held back."""
