"""Fixtures of the store's tests."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.store.stage import Stage

if TYPE_CHECKING:
    import redis


@pytest.fixture
def stage(client: redis.Redis) -> Stage:
    """A stage on the empty server."""
    return Stage(client)
