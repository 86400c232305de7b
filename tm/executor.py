"""`Executor(graphs=[...]).start()`: run graphs on their schedules from the file that defines them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from tm.errors import DefinitionError, TaskmasterError
from tm.graph import Graph

if TYPE_CHECKING:
    from collections.abc import Iterable


class Executor:
    """Runs graphs whenever they are due, in this directory or against `TM_URL`.

    Args:
        graphs: those to run; each has a schedule.
        processes: how many tasks may run at the same time; by default one for each CPU, at least 2 (`TM_PROCESSES`).
    """

    def __init__(self, graphs: Iterable[Graph] = (), *, processes: int | None = None) -> None:
        from tm.loader import collect

        self._graphs: dict[str, Graph] = {}
        self.processes = processes
        for graph in graphs:
            self.add(graph)
        collect(self)

    def __repr__(self) -> str:
        return f"Executor(graphs=[{', '.join(self._graphs)}])"

    @property
    def graphs(self) -> tuple[Graph, ...]:
        """The graphs given so far, in that order."""
        return tuple(self._graphs.values())

    def add(self, graph: Graph) -> None:
        """Add a graph; adding the same one twice is fine.

        Raises:
            TypeError: it is no graph, or a manual one, which no executor would ever run.
            DefinitionError: it is drawn wrongly, or another graph has its name.
        """
        if not isinstance(graph, Graph):
            raise TypeError(f"an Executor runs graphs, not {graph!r}; write executor.add(Graph(...))")
        if graph.is_manual:
            raise TypeError(
                f"graph {graph.name!r} is manual: it runs when it is called, graph(...), submitted, graph.submit(...), "
                f"or asked for, `tm run FILE:{graph.name}`; for an Executor give it a schedule, as in "
                'Graph(name=..., schedule="*/5 * * * *")'
            )
        _ = graph.plan  # checks the graph as a whole
        if (known := self._graphs.setdefault(graph.name, graph)) is not graph:
            raise DefinitionError(
                f"two graphs are named {graph.name!r}: one of {known.file}, one of {graph.file}; rename one of them"
            )

    def start(self) -> None:
        """Run the graphs on their schedules until Ctrl-C or SIGTERM; then wait for what is running.

        Without `TM_URL` a private server is started in `.tm/`; with it, a scheduler and a worker for that server.
        Does nothing while the file is loaded by `tm`, `tm-scheduler` or `tm-worker`, so no main guard is needed.

        Raises:
            SystemExit: 130 after a second Ctrl-C, 4 if another stack owns the directory, 2 for bad settings.
        """
        from tm.loader import collect, loading

        collect(self)
        if loading():
            return
        if not self._graphs:
            raise DefinitionError("this Executor has no graph; give it one with executor.add(graph)")
        from tm.config import Settings
        from tm.stack import Stack

        try:
            settings = Settings.from_environment(processes=self.processes)
            code = Stack([*self.graphs, *self._bystanders()], settings, scheduled=self._graphs).run()
        except TaskmasterError as error:
            sys.exit(_complain(error))
        if code:
            sys.exit(code)

    def _bystanders(self) -> list[Graph]:
        """Graphs of the same script that no schedule runs here, so that tasks can submit them to this stack."""
        found = []
        for graph in vars(sys.modules["__main__"]).values():
            if isinstance(graph, Graph) and graph.name not in self._graphs and graph not in found:
                try:
                    _ = graph.plan
                except DefinitionError:
                    continue  # half drawn, and nobody asked for it
                found.append(graph)
        return found


def _complain(error: TaskmasterError) -> int:
    print(f"tm: {error}", file=sys.stderr)
    return error.exit_code
