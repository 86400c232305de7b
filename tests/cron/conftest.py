"""How long the cron tests take: a few seconds by default, everything with TM_NIGHTLY=1 (or --nightly)."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings

settings.register_profile("cron", max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("cron-nightly", parent=settings.get_profile("cron"), max_examples=5_000)


@pytest.fixture(scope="session")
def nightly(pytestconfig: pytest.Config) -> bool:
    return os.environ.get("TM_NIGHTLY") == "1" or bool(pytestconfig.getoption("--nightly", default=False))


@pytest.fixture(autouse=True, scope="package")
def hypothesis_profile(nightly: bool) -> None:
    settings.load_profile("cron-nightly" if nightly else "cron")
