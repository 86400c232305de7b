"""Values of settings as they may be shown and refused: without what is secret about them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from tm.config import kinds
from tm.errors import SettingsError
from tm.redact import redact

if TYPE_CHECKING:
    from tm.config.table import Setting


def checked(setting: Setting, value: Any, label: str) -> Any:
    """A value as the setting has it; who gave it is named in the error."""
    try:
        return setting.parse(value)
    except (ValueError, TypeError) as error:
        reason = f" ({error})" if isinstance(error, kinds.Reason) else ""
        # not chained: the cause would show what the message hides
        raise SettingsError(
            f"{label}={_refused(setting.field, value)} will not do{reason}: use {setting.allowed}"
        ) from None


def _refused(field: str, value: Any) -> str:
    if field in {"webhook_url", "webhook_secret"}:
        return "***"
    return _shown(value, refused_url="url" in field)


def veiled(field: str, value: Any) -> str:
    """A setting as it may be shown: without what is secret about it."""
    if field == "webhook_secret" and value is not None:
        return "***"
    if field == "webhook_url" and value is not None:  # such addresses are secrets themselves
        parts = urlsplit(str(value))
        return f"{parts.scheme}://{parts.hostname or ''}/***"
    return ",".join(value) if isinstance(value, tuple) else redact(str(value))


def in_repr(field: str, value: Any) -> str:
    """The same among the fields of a record."""
    return _shown(veiled(field, value) if field.startswith("webhook_") and value is not None else value)


def _shown(value: Any, *, refused_url: bool = False) -> str:
    if not isinstance(value, str):
        return str(value)
    if not refused_url:
        return repr(redact(value))
    # it may be no URL at all, or one with a blank in its password, which the redactor takes for two words
    return repr(redact(re.sub(r"^([A-Za-z+]*://)?.*@", r"\1***@", "".join(value.split()))))
