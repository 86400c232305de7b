"""All that is kept on the server: the functions that change it, and their typed face."""

from __future__ import annotations

from tm.store.functions import Library
from tm.store.keys import Keys
from tm.store.store import Store

__all__ = ["Keys", "Library", "Store"]
