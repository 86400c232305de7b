"""What an expression means, as sets: all that the search and the explanation need to know."""

from __future__ import annotations

from tm.cron.days import ALL_DAYS, SHAPE_COUNT, month_days

_EVERY_DOM, _EVERY_DOW, _EVERY_MONTH = ALL_DAYS[3], 127, (1 << 13) - 2


class Plan:
    """The sets of one expression. Nothing changes after construction but the tables that are filled on demand."""

    __slots__ = (
        "both",
        "dom",
        "dom_special",
        "dow",
        "dow_special",
        "first_hour",
        "first_minute",
        "first_second",
        "hours",
        "identity",
        "masks",
        "minutes",
        "months",
        "quick",
        "seconds",
        "wildcard",
        "with_seconds",
        "years",
    )

    seconds: int  #: bits 0-59; only bit 0 for five fields
    minutes: int  #: bits 0-59
    hours: int  #: bits 0-23
    dom: int  #: bits 1-31
    months: int  #: bits 1-12
    dow: int  #: bits 0-6, Sunday first
    years: int | None  #: bit 0 is 1970; None without a year field
    dom_special: tuple[int, bool, int] | None  #: bits of n for `L-n`, whether `LW`, the n of `nW` or 0
    dow_special: tuple[int, int, int, int, int, int] | None  #: weekday sets for `#1` .. `#5` and for `#L`
    both: bool  #: a day must be in both day fields; otherwise one is enough
    wildcard: bool  #: runs in both passes of a repeated hour and never in a skipped one
    with_seconds: bool  #: there was a seconds field
    masks: list[int]  #: shape of a month -> its days, -1 until asked for; written once with the same value by anyone
    first_hour: int
    first_minute: int
    first_second: int
    quick: bool  #: every day is meant, and whole minutes: the search can look at the clock alone
    identity: tuple[object, ...] | None  #: see `meaning`

    def __init__(
        self,
        seconds: int,
        minutes: int,
        hours: int,
        dom: int,
        months: int,
        dow: int,
        years: int | None,
        dom_special: tuple[int, bool, int] | None,
        dow_special: tuple[int, int, int, int, int, int] | None,
        both: bool,
        wildcard: bool,
        with_seconds: bool,
    ) -> None:
        self.seconds = seconds
        self.minutes = minutes
        self.hours = hours
        self.dom = dom
        self.months = months
        self.dow = dow
        self.years = years
        self.dom_special = dom_special
        self.dow_special = dow_special
        self.both = both
        self.wildcard = wildcard
        self.with_seconds = with_seconds
        self.masks = [-1] * SHAPE_COUNT
        self.first_hour = (hours & -hours).bit_length() - 1
        self.first_minute = (minutes & -minutes).bit_length() - 1
        self.first_second = (seconds & -seconds).bit_length() - 1
        self.quick = (
            dom == _EVERY_DOM and dow == _EVERY_DOW and months == _EVERY_MONTH and seconds == 1 and years is None
        )
        self.identity = None

    def days(self, shape: int) -> int:
        """The days of a month of that shape (see `tm.cron.days`), months and years aside."""
        mask = self.masks[shape]
        if mask < 0:
            # Two threads may both compute it: they store the same number.
            mask = self.masks[shape] = month_days(self, shape)
        return mask

    def meaning(self) -> tuple[object, ...]:
        """Equal for two plans exactly when they have the same runs in every zone.

        Days are compared by the days they give, so `1#1` and `1-7` with `+1` are the same.
        """
        if self.identity is None:
            months, shapes = 0, [0] * SHAPE_COUNT
            for month, lengths in enumerate(_LENGTHS, 1):
                if self.months >> month & 1:
                    mine = [(shape, self.days(shape)) for shape in range(SHAPE_COUNT) if shape % 4 + 28 in lengths]
                    if any(days for _, days in mine):
                        months |= 1 << month
                        for shape, days in mine:
                            shapes[shape] = days
            self.identity = (
                self.seconds,
                self.minutes,
                self.hours,
                months,
                tuple(shapes),
                self.years,
                self.wildcard,
            )
        return self.identity


_LENGTHS = ((31,), (28, 29), (31,), (30,), (31,), (30,), (31,), (31,), (30,), (31,), (30,), (31,))
