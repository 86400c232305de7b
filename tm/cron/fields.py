"""The seven fields: their ranges and names, and the tables that turn a piece of text into bits.

A field's set of values is one int: bit v is set when value v is in it (for years bit v - 1970), so that a step is a
ready-made comb shifted and cut, a list is an `|`, and the next value is the lowest bit of a shifted int.
"""

from __future__ import annotations

FIRST_YEAR, LAST_YEAR = 1970, 2199  # of the year field, as the open cron pattern specification has it
MONTH_NAMES = (
    "January",
    "February",
    "March",
    "April",
    "May",
    "June",
    "July",
    "August",
    "September",
    "October",
    "November",
    "December",
)
DAY_NAMES = ("Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday")
MONTHS = tuple(name[:3].lower() for name in MONTH_NAMES)
WEEKDAYS = tuple(name[:3].lower() for name in DAY_NAMES)


class Field:
    """One column of an expression."""

    __slots__ = ("combs", "ends", "high", "low", "name", "names", "shift", "star", "table", "values")

    name: str  #: as messages call it
    low: int  #: smallest value that may be written
    high: int  #: largest value that may be written
    shift: int  #: value of bit 0
    names: tuple[str, ...]  #: three-letter names, the first standing for `low`; empty for most
    star: int  #: the bits of `*`
    values: dict[str, int]  #: text of one value -> its bit number; numbers with at most one leading zero
    ends: dict[str, int]  #: the same for the end of a range, where `sun` is 7
    table: dict[str, int]  #: text of a whole item (`*` or one value) -> bits
    combs: tuple[int, ...]  #: combs[s] has every s-th bit from bit 0 on, for s = 1 .. number of values

    def __init__(self, name: str, low: int, high: int, names: tuple[str, ...] = (), shift: int = 0) -> None:
        self.name, self.low, self.high, self.shift, self.names = name, low, high, shift, names
        self.star = (2 << high - shift) - (1 << low - shift)
        self.values = {f"{value:0{width}}": value - shift for value in range(low, high + 1) for width in (1, 2)}
        self.values.update({label: low + place for place, label in enumerate(names)})
        self.ends = self.values
        self.table = {text: 1 << value for text, value in self.values.items()}
        self.table["*"] = self.star
        size = high - shift + 1
        self.combs = (
            0,
            *(((1 << step * -(-size // step)) - 1) // ((1 << step) - 1) for step in range(1, size + 1)),
        )


SECOND = Field("second", 0, 59)
MINUTE = Field("minute", 0, 59)
HOUR = Field("hour", 0, 23)
DOM = Field("day of month", 1, 31)
MONTH = Field("month", 1, 12, MONTHS)
DOW = Field("day of week", 0, 7, WEEKDAYS)
YEAR = Field("year", FIRST_YEAR, LAST_YEAR, shift=FIRST_YEAR)

# Sunday may be written 0 or 7; sets keep it as bit 0, and `*` and its steps never reach bit 7.
DOW.star = 0b1111111
DOW.table.update({"*": DOW.star, "7": 1, "07": 1})
DOW.ends = {**DOW.values, "sun": 7}

ORDER = {
    5: (MINUTE, HOUR, DOM, MONTH, DOW),
    6: (SECOND, MINUTE, HOUR, DOM, MONTH, DOW),
    7: (SECOND, MINUTE, HOUR, DOM, MONTH, DOW, YEAR),
}

# Steps have no upper bound; the usual ones are read from here.
STEPS = {f"{value:0{width}}": value for value in range(1, 60) for width in (1, 2)}
