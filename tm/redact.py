"""Take passwords out of text: the one redactor behind logs, error messages, the CLI and `repr`."""

from __future__ import annotations

import re

#: `scheme://user:PASSWORD@`. Greedy up to the last `@`, because people forget to encode the one in their
#: password; now and then that hides a path too, which is the better mistake.
_USERINFO = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://[^\s:/]*):[^\s]*@")
_QUERY = re.compile(r"([?&](?:password|passwd|pwd|secret|token)=)[^\s&#'\"]+", re.IGNORECASE)


def redact(text: str) -> str:
    """The text with the password of every URL in it replaced by `***`; user, host and path stay readable."""
    if "://" not in text:  # nearly every log line
        return text
    return _QUERY.sub(r"\1***", _USERINFO.sub(r"\1:***@", text))
