"""What `make demo` runs: the ETL graph through a real stack, then the run's table and the report's path.

It does what a person would do at two terminals: `tm up examples/etl/etl.py` in one; in the other `tm runs` until a run
has ended, then `tm show` of it; and at last Ctrl-C in the first. Only the schedule is another one (every two seconds
instead of every morning), so that a tick is due soon.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
TM = [str(Path(sys.executable).parent / "tm")]
PATIENCE = 50  # seconds for the first run to end


def main():
    environment = {name: value for name, value in os.environ.items() if name != "TM_URL"}
    environment["ETL_SCHEDULE"] = "*/2 * * * * *"
    began = time.time()
    stack = subprocess.Popen([*TM, "up", str(HERE / "etl" / "etl.py")], env=environment)
    try:
        run = first_ended_run(stack, environment, began)
    finally:
        stack.send_signal(signal.SIGINT)
        code = stack.wait(PATIENCE)
    print()
    subprocess.run([*TM, "show", run["id"]], env=environment, check=True)
    print(f"\nreport: {report_folder() / 'index.html'}")
    return code or run["state"] != "success"


def first_ended_run(stack, environment, began):
    """The first run of this demo that has ended, as `tm --json runs` tells it."""
    while stack.poll() is None and time.time() < began + PATIENCE:
        command = [*TM, "--json", "runs", "weather report"]
        listed = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        for run in json.loads(listed.stdout)["items"] if listed.returncode == 0 else []:
            if run["ended_at"] and run["state"] != "skipped" and run["ended_at"] >= utc(began):
                return run
        time.sleep(0.2)
    sys.exit(f"no run ended within {PATIENCE} seconds")


def utc(seconds):
    """An instant as `--json` writes it, to the second; such texts compare as the instants do."""
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))


def report_folder():
    """Where the config says that the report goes."""
    return Path(json.loads((HERE / "etl" / "config.json").read_text())["report"]).absolute()


if __name__ == "__main__":
    sys.exit(main())
