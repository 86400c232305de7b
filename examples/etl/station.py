"""A stand-in for a weather station's file server, with the one habit that matters here: it refuses when it is busy.

Real ones do so now and then; this one does so on schedule, `refusals` times and then serves once, so that the example
shows a retry every time. It keeps count in a file, because the next attempt may come from another process.
"""

from pathlib import Path


class StationBusyError(ConnectionError):
    """The station asks to come back later."""


class Station:
    """Serves one table."""

    def __init__(self, table: Path, *, refusals: int, notes: Path) -> None:
        self.table, self.refusals = table, refusals
        self.count = notes / "station-refusals.txt"

    def lines(self) -> list[str]:
        """The table; raises StationBusyError as often as it was told to, then serves once, then begins again."""
        refused = int(self.count.read_text()) if self.count.exists() else 0
        self.count.parent.mkdir(parents=True, exist_ok=True)
        if refused < self.refusals:
            self.count.write_text(str(refused + 1))
            raise StationBusyError(f"503 busy, come back later (refusal {refused + 1} of {self.refusals})")
        self.count.write_text("0")
        return self.table.read_text(encoding="utf-8").splitlines()
