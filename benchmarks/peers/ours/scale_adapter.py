"""Taskmaster as `benchmarks/scaling.py` needs it: one run of many tasks, and many runs of one task, on n executors."""

from __future__ import annotations

import os
import sys

from benchmarks.peers import work
from benchmarks.peers.protocol import Adapter, serve

#: seconds for the largest run
PATIENCE = 200.0


class Ours(Adapter):
    name = "ours"

    def start(self, processes: int) -> None:
        os.environ.update(TM_URL=self.url, TM_HOME=str(self.home))
        place = {"TM_URL": self.url, "TM_HOME": str(self.home)}
        command = (sys.executable, "-m", "tm_worker", "scale_graphs.py", f"--processes={processes}")
        self.spawn(*command, "--log-level=warning", **place)
        import scale_graphs

        self.graphs = scale_graphs
        _ = scale_graphs.big.plan

    def ready(self, _processes: int) -> None:
        """Until the worker has run something."""
        self.graphs.flat.submit(number=1).result(PATIENCE)

    def big(self, size: int) -> None:
        """One run of `size` tasks, every value of which is checked."""
        from tm import codec
        from tm.wiring import default_client

        with self.clock:
            handle = self.graphs.big.submit()
            state = handle.wait(PATIENCE)
        work.check(state.value, "success", "state")
        store, plan = default_client().store, self.graphs.big.plan
        values = store.client.hgetall(store.keys.out(handle.id))
        work.check(len(values), size, "values")
        for index, value in values.items():
            task = plan.tasks[int(index)].name
            expected = work.root() if task == "root" else work.leaf(work.root(), int(task.removeprefix("leaf")))
            work.check(codec.decode(value), expected, task)

    def flat(self, size: int) -> None:
        """Many runs, their results read back."""
        from tm import client

        with self.clock:
            handles = self.graphs.flat.submit_many([{"number": number} for number in range(size)])
            if hasattr(client, "results"):
                got = client.results(handles, PATIENCE)
            else:
                client.wait_all(handles, PATIENCE)
                got = [handle.client.result(handle.id) for handle in handles]
        work.check(got, [work.small(number) for number in range(size)], "flat")


if __name__ == "__main__":
    serve(Ours)
