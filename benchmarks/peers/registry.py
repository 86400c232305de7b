"""The peers: one folder each, with a peer.toml that says how it is set up and why."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
OURS = "ours"


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One competitor in one setting."""

    name: str
    folder: Path
    title: str
    setting: str
    why: str
    variant: str = ""
    server: bool = True  #: keeps its work in the server; others are not measured again with another persistence
    one_by_one: bool = False  #: cannot submit in bulk, so that both flat workloads are the same
    sizes: dict[str, int] = field(default_factory=dict)  #: by method, for what would take too long in full
    missing: dict[str, str] = field(default_factory=dict)  #: by method, why it cannot be done
    only: tuple[str, ...] = ()  #: methods; empty for all
    rounds: int = 99  #: at most
    once: bool = False  #: never repeats a workload within a round


def load(name: str) -> list[Peer]:
    """A peer, and its variants."""
    folder = HERE / name
    if not (folder / "peer.toml").exists():
        raise SystemExit(f"no peer {name!r}; there are: {', '.join(names())}")
    fields = tomllib.loads((folder / "peer.toml").read_text())
    variants = fields.pop("variants", {})
    fields["only"] = tuple(fields.get("only", ()))
    found = [Peer(name=name, folder=folder, **fields)]
    for variant, more in variants.items():
        only = tuple(more.pop("workloads"))
        found.append(Peer(name=f"{name}-{variant}", folder=folder, variant=variant, **{**fields, **more, "only": only}))
    return found


def names() -> list[str]:
    """All peers, ours first."""
    found = sorted(path.parent.name for path in HERE.glob("*/peer.toml"))
    return [OURS, *(name for name in found if name != OURS)]
