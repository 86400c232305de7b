"""The command `tm-scheduler`: load graph files, run the scheduler."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from tm.errors import TaskmasterError

if TYPE_CHECKING:
    from tm.graph import Graph

EPILOG = """\b
Examples:
  tm-scheduler etl.py           # the server of `tm up` in this directory
  tm-scheduler --url redis://db:6379/0 graphs/
                                # all graph files of a directory
  TM_URL=redis://db:6379/0 tm-scheduler shop.graphs
                                # a module; run two for a standby
  tm-scheduler etl.py --once    # make what is due now and end, as from cron

Signals: SIGTERM or Ctrl-C ends it after the step in hand, and a standby takes over at once; a second one ends it
at once. SIGUSR1: no new ticks, end when no run is open.

Exit codes: 0 ended as asked, 2 bad file or setting, 5 no server (--once only: otherwise it is waited for).
"""


@click.command(epilog=EPILOG, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.argument("targets", metavar="FILE...", nargs=-1, required=True)
@click.option("--url", metavar="URL", help="Redis or Valkey server to use (TM_URL).")
@click.option("--namespace", metavar="NAME", help="Keeps installations on one server apart (TM_NAMESPACE).")
@click.option("--home", metavar="DIR", help="Directory of embedded server and history, by default .tm (TM_HOME).")
@click.option("--history", "history_url", metavar="URL", help="Database that remembers runs (TM_HISTORY).")
@click.option("--once", is_flag=True, help="Make what is due now, sweep once, and end.")
@click.option(
    "--metrics-port",
    type=click.IntRange(0, 65_535),
    metavar="N",
    help="Show /metrics, /healthz and /readyz on this port, 0 for any free one (TM_METRICS_PORT).",
)
@click.option("--log-level", metavar="LEVEL", help="debug, info, warning or error (TM_LOG_LEVEL).")
@click.option("--log-format", metavar="FORMAT", help="text or json (TM_LOG_FORMAT).")
@click.version_option(package_name="taskmaster-dag", prog_name="tm-scheduler")
def main(targets: tuple[str, ...], *, once: bool, **options: Any) -> None:
    """Make the ticks of the graphs in FILE... (files, directories or modules) and keep history.

    Any number of schedulers with the same files may run; one leads, the others stand by and take over within 12
    seconds when it dies.
    """
    from tm import logs
    from tm.config import Settings
    from tm_scheduler.service import serve

    told = options["log_format"] or "text"
    try:
        settings = Settings.from_environment(**options)
        told = settings.log_format
        logs.configure(settings.log_level, settings.log_format)
        code = serve(load(targets), settings, once=once)
    except TaskmasterError as error:
        logs.cannot_start("scheduler", error, told)
        code = error.exit_code
    sys.exit(code)


def load(targets: tuple[str, ...]) -> list[Graph]:
    """The graphs that this scheduler knows: those whose schedule counts, and those that only others start.

    Raises:
        LoadError: see `tm.loader`.
    """
    from tm.loader import load_all

    loaded = load_all(targets)
    return [graph for name, graph in loaded.graphs.items() if graph.is_manual or name in loaded.scheduled]
