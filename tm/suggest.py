"""What somebody may have meant who wrote a name that there is not."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable


def closest(word: str, names: Iterable[str]) -> str | None:
    """The one of these names that is most like the word; None when none is like it."""
    import difflib

    folded: dict[str, str] = {}
    for name in names:
        folded.setdefault(name.casefold(), name)
    found = difflib.get_close_matches(word.casefold(), folded, 1)
    return folded[found[0]] if found else None


def hint(word: str, names: Iterable[str], otherwise: str) -> str:
    """The end of an error message: what may have been meant, or else what to do."""
    meant = closest(word, names)
    return otherwise if meant is None else f"did you mean {meant!r}?"
