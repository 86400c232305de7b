"""Hamilton; the setting and its reason are in peer.toml."""

from __future__ import annotations

import itertools
import os

os.environ["HAMILTON_TELEMETRY_ENABLED"] = "false"

from hamilton import ad_hoc_utils, driver

from benchmarks.peers import work
from benchmarks.peers.protocol import Adapter, serve


class Peer(Adapter):
    name = "hamilton"
    modules = itertools.count(1)

    def inprocess(self, size: int) -> None:
        lines = ["def t0() -> dict:", "    return hop(None)"]
        for number in range(1, size):
            lines += [f"def t{number}(t{number - 1}: dict) -> dict:", f"    return hop(t{number - 1})"]
        space = {"hop": work.hop}
        exec("\n".join(lines), space)
        functions = [space[f"t{number}"] for number in range(size)]
        module = ad_hoc_utils.create_temporary_module(*functions, module_name=f"chain{next(self.modules)}")
        engine = driver.Builder().with_modules(module).build()
        with self.clock:
            got = engine.execute([f"t{size - 1}"])[f"t{size - 1}"]
        work.check(got, {"hop": size, "from": "chain"}, "in process")


if __name__ == "__main__":
    serve(Peer)
