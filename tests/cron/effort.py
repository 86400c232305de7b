"""How much work the cron tests do: seconds by default; everything with TM_NIGHTLY=1 or --nightly."""

from __future__ import annotations

import os
import sys

import pytest
from hypothesis import HealthCheck, settings

NIGHTLY = os.environ.get("TM_NIGHTLY") == "1" or "--nightly" in sys.argv
nightly_only = pytest.mark.skipif(not NIGHTLY, reason="nightly only (TM_NIGHTLY=1)")

settings.register_profile("cron", max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("cron-nightly", parent=settings.get_profile("cron"), max_examples=5_000)
#: for every property test here, above @given: other tests of the session keep their own profile
law = settings.get_profile("cron-nightly" if NIGHTLY else "cron")
