"""`python -m tm.cli`."""

from __future__ import annotations

import sys

from tm.cli import main

if __name__ == "__main__":
    sys.exit(main())
