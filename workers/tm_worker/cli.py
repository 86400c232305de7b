"""The command `tm-worker`. It loads no redis and no rq: executors are forked from this process while it is clean."""

from __future__ import annotations

import sys

import click

from tm.cli.options import DURATION
from tm.errors import TaskmasterError

EXAMPLES = """\b
Examples:
  tm-worker my_graph.py                         # all its queues, at TM_URL
  tm-worker graphs/ --processes 8               # every file of a directory
  tm-worker etl.py --queue urgent --queue bulk  # these, in strict order
  tm-worker etl.py --burst                      # end when they are empty

\b
Signals:
  SIGTERM, SIGINT  take no more work; running tasks may end, and what still
                   runs after TM_DRAIN_TIMEOUT is given back
  the same again   give back at once

Exit codes: 0 ended as asked, 2 bad file or setting.
"""


@click.command("worker", epilog=EXAMPLES, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option(
    "--queue",
    "queues",
    multiple=True,
    metavar="NAME",
    help="Take work from this queue; may be repeated, the order counts. By default all queues the graphs use.",
)
@click.option(
    "--processes",
    type=click.IntRange(1, 1024),
    metavar="N",
    help="Executors: tasks to run at the same time (TM_PROCESSES; by default one for each CPU, at least 2).",
)
@click.option("--url", metavar="URL", help="The server (TM_URL; by default the one running in the home directory).")
@click.option("--namespace", metavar="NAME", help="Keeps installations on one server apart (TM_NAMESPACE).")
@click.option(
    "--home", metavar="DIR", help="Directory of embedded server and spooled results, by default .tm (TM_HOME)."
)
@click.option("--burst", is_flag=True, help="End when all queues are empty and nothing is running.")
@click.option("--name", metavar="NAME", help="What to call this worker; four letters are added. By default HOST.PID.")
@click.option(
    "--max-tasks", type=click.IntRange(1), metavar="N", help="Replace an executor process after N tasks, against leaks."
)
@click.option(
    "--max-memory", metavar="MIB", help="Replace an executor process that is larger after an attempt (TM_MAX_MEMORY)."
)
@click.option(
    "--memory-limit", metavar="MIB", help="Kill an attempt that takes more, with all it started (TM_MEMORY_LIMIT)."
)
@click.option(
    "--drain-timeout",
    "drain",
    type=DURATION,
    metavar="DURATION",
    help="How long running tasks may go on after SIGTERM: 90, 10m (TM_DRAIN_TIMEOUT, 30 seconds).",
)
@click.option(
    "--lease",
    type=DURATION,
    metavar="DURATION",
    help="How long without a heartbeat until others take over: 30, 1m (TM_LEASE, 30 seconds).",
)
@click.option(
    "--metrics-port",
    type=click.IntRange(0, 65_535),
    metavar="N",
    help="Show /metrics, /healthz and /readyz on this port, 0 for any free one (TM_METRICS_PORT).",
)
@click.option("--log-level", metavar="LEVEL", help="debug, info, warning or error (TM_LOG_LEVEL).")
@click.option("--log-format", metavar="FORMAT", help="text or json (TM_LOG_FORMAT).")
@click.version_option(package_name="taskmaster-dag", prog_name="tm-worker")
def worker(
    files: tuple[str, ...],
    queues: tuple[str, ...],
    processes: int | None,
    url: str | None,
    namespace: str | None,
    home: str | None,
    burst: bool,
    name: str | None,
    max_tasks: int | None,
    max_memory: str | None,
    memory_limit: str | None,
    drain: float | None,
    lease: float | None,
    metrics_port: int | None,
    log_level: str | None,
    log_format: str | None,
) -> None:
    """Run the tasks of the graphs in FILE... (files, directories or modules), as many workers as you like."""
    from tm import logs
    from tm.config import Settings
    from tm.loader import load_all
    from tm_worker.service import check_queues, serve

    told = log_format or "text"
    try:
        settings = Settings.from_environment(
            url=url,
            namespace=namespace,
            home=home,
            processes=processes,
            drain=drain,
            lease=lease,
            max_memory=max_memory,
            memory_limit=memory_limit,
            metrics_port=metrics_port,
            log_level=log_level,
            log_format=log_format,
        )
        told = settings.log_format
        graphs = list(load_all(files).graphs.values())
        check_queues(queues)
    except TaskmasterError as error:
        logs.cannot_start("worker", error, told)
        sys.exit(error.exit_code)
    sys.exit(
        serve(
            graphs, settings, queues=queues, processes=settings.processes, burst=burst, name=name, max_tasks=max_tasks
        )
    )


def main() -> None:
    """Console script `tm-worker`."""
    worker(prog_name="tm-worker")
