"""`H`: a value that a key chooses, the same on every machine and in every Python."""

from __future__ import annotations

from tm.cron.fields import DOM, ORDER, YEAR, Field
from tm.cron.parse import Refusal, short


def resolve(fields: list[str] | tuple[str, ...], key: str | None) -> list[str]:
    """The fields with every `H`, `H/s`, `H(a-b)` and `H(a-b)/s` replaced by the plain item it stands for."""
    return [
        ",".join(_item(field, item, key) if item[:1] == "h" else item for item in text.split(","))
        for field, text in zip(ORDER[len(fields)], fields, strict=True)
    ]


def _item(field: Field, item: str, key: str | None) -> str:
    base, slash, step_text = item.partition("/")
    low, high = _bounds(field, item, base)
    if key is None:
        raise Refusal("H needs a key: Expression(text, key=...)", field, item, item)
    number = _hash(key, field)
    if not slash:
        return str(low + number % (high - low + 1))
    if not step_text.isdecimal() or not step_text.strip("0"):
        raise Refusal(f"{short(step_text)!r} is not a step of at least 1", field, item, "/" + step_text)
    step = int(step_text.lstrip("0")[:4])
    # A step beyond the range has one value, and any of the range may be it.
    start = low + number % min(step, high - low + 1)
    return f"{start}-{high}/{step}"


def _bounds(field: Field, item: str, base: str) -> tuple[int, int]:
    if field is YEAR:
        raise Refusal("H has no meaning for years", field, item, item)
    if base == "h":
        # 28: a job that runs every month must not be given a day that some months lack. 6: Sunday once, not twice.
        return field.low, {DOM.high: 28, 7: 6}.get(field.high, field.high)
    first, dash, last = base[2:-1].partition("-")
    low, high = field.values.get(first, -1), field.ends.get(last, -1)
    if not (base.startswith("h(") and base.endswith(")") and dash) or low < 0 or high < 0:
        raise Refusal(f"{short(item)!r} is not H, H/n, H(a-b) or H(a-b)/n", field, item, item)
    if low > high:
        raise Refusal(f"the range {first}-{last} runs backwards", field, item, f"{first}-{last}")
    return low, high


def _hash(key: str, field: Field) -> int:
    """Same key, same number, for ever: hash() changes from process to process."""
    from hashlib import sha256

    # With the field in it the minute and the hour of one key are independent.
    return int.from_bytes(sha256(f"{field.name}\0{key}".encode("utf-8", "surrogatepass")).digest()[:8], "big")
