"""What can go wrong: a text that is no expression, and a schedule that has no run left."""

from __future__ import annotations


class CronError(ValueError):
    """The text is not a cron expression, or one that can never run.

    The message is complete by itself: field, reason, the expression with a caret under the bad piece, and a hint.
    """

    field: str | None  #: "second", "minute", "hour", "day of month", "month", "day of week", "year"; None: all of it
    column: int | None  #: 1 for the first character of the text; None when no single piece is to blame
    text: str  #: the expression as it was given
    reason: str  #: the first line of the message, without field and column
    hint: str  #: what to write instead; empty when there is nothing useful to say

    def __init__(
        self,
        reason: str,
        *,
        field: str | None = None,
        column: int | None = None,
        length: int = 1,
        text: str = "",
        hint: str = "",
    ) -> None:
        super().__init__(_message(reason, field, column, length, text, hint))
        self.reason, self.field, self.column, self.text, self.hint = reason, field, column, text, hint

    def __reduce__(self) -> tuple[object, ...]:
        """Errors cross process borders: the default would print the message into the message."""
        return _rebuild, (type(self), self.args, self.__dict__.copy())


class Exhausted(ValueError):  # noqa: N818 -- no error of the caller: the end of the runs
    """No run is left in that direction: the year field is used up, or the calendar (years 1 to 9999) is."""


def _rebuild(kind: type[CronError], args: tuple[object, ...], state: dict[str, object]) -> CronError:
    error = kind.__new__(kind, *args)
    error.__dict__.update(state)
    return error


def _message(reason: str, field: str | None, column: int | None, length: int, text: str, hint: str) -> str:
    head = f"{field}: {reason}" if field else reason
    if column is None:
        lines = [f"{head} (in {_shown(text)!r})"]
    else:
        lines = [f"{head} (column {column} of {_shown(text)!r})"]
        if len(text) <= _LONGEST_SHOWN:
            # Control characters would move the caret, so each is shown as one visible character.
            visible = "".join(letter if letter.isprintable() else "·" for letter in text)
            lines += [f"    {visible}", f"    {' ' * (column - 1)}{'^' * max(1, length)}"]
    if hint:
        lines.append(f"  hint: {hint}")
    return "\n".join(lines)


def _shown(text: str) -> str:
    return text if len(text) <= _LONGEST_SHOWN else f"{text[:_LONGEST_SHOWN]}..."


_LONGEST_SHOWN = 200  # characters; a message must stay readable even when someone passes a whole file
