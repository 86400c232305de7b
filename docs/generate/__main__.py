"""Write the pages of docs/reference; with --check only say which of them the code has left behind.

Exit codes: 0 all is as the code is, 1 a page is not (with --check).
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from docs.generate import cli, configuration, json_page, python_api

FOLDER = Path(__file__).parents[1] / "reference"
PAGES = {
    "cli.md": cli.render,
    "configuration.md": configuration.render,
    "json.md": json_page.render,
    "python-api.md": python_api.render,
}


def stale() -> dict[Path, str]:
    """The pages that are not as the code is, each with the text it should have."""
    made = {FOLDER / name: render() for name, render in PAGES.items()}
    return {path: text for path, text in made.items() if not path.exists() or path.read_text(encoding="utf-8") != text}


def main(arguments: list[str] | None = None) -> int:
    """Write or check; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m docs.generate", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing, and end with 1 when a page is stale")
    check = parser.parse_args(arguments).check
    for path, text in stale().items():
        name = path.relative_to(FOLDER.parents[1]).as_posix()
        if check:
            print(f"{name} is not what the code says; run `make docs`", file=sys.stderr)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
            print(f"wrote {name}")
    return 1 if check and stale() else 0


if __name__ == "__main__":
    sys.exit(main())
