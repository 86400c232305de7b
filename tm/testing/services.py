"""The process in which an `EmbeddedStack` runs; it ends with the one that started it."""

from __future__ import annotations

import sys

from tm import children
from tm.config import Settings
from tm.errors import TaskmasterError
from tm.loader import load_all
from tm.stack import Stack


def main(parent: str, schedules: str, *targets: str) -> int:
    """Load the targets and run them until told to stop; returns the exit code."""
    children.die_with(int(parent))
    try:
        settings = Settings.from_environment()
        loaded = load_all(targets)
        scheduled = loaded.scheduled if schedules == "1" else ()
        return Stack([*loaded.graphs.values()], settings, scheduled=scheduled, quiet=True).run()
    except TaskmasterError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
