"""The service module is imported in a process that still has to fork, so it brings nothing heavy along."""

from __future__ import annotations

import subprocess
import sys


def test_importing_the_service_and_the_command_loads_no_client_and_no_database():
    code = """
import sys
import tm_scheduler.service
print([name for name in ("redis", "rq", "sqlalchemy", "msgpack", "click") if name in sys.modules])
import tm_scheduler.cli
print([name for name in ("redis", "rq", "sqlalchemy", "msgpack") if name in sys.modules])
"""
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.split("\n")[:2] == ["[]", "[]"]
