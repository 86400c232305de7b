"""The command line `tm`: it parses, calls the client and renders; commands are imported when they are used."""

from __future__ import annotations


def main() -> int:
    """Entry point of the console script; returns the exit code."""
    from tm.cli.app import run

    return run()


__all__ = ["main"]
