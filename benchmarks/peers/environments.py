"""A virtual environment for each peer, made once; no peer is ever a dependency of the project."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

from benchmarks.peers.registry import OURS, Peer

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENTS = ROOT / ".bench" / "envs"


def python_of(peer: Peer) -> Path:
    """The interpreter a peer runs with; its environment is made first if there is none with these pins."""
    folder = peer.folder.name
    if folder == OURS:
        return Path(sys.executable)
    requirements = peer.folder / "requirements.txt"
    digest = hashlib.blake2s(requirements.read_bytes() + sys.version.encode(), digest_size=8).hexdigest()
    home = ENVIRONMENTS / folder
    stamp = home / ".made"
    if not stamp.exists() or stamp.read_text() != digest:
        print(f"setting up {folder} in {home.relative_to(ROOT)} ...", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", home], check=True)
        command = [home / "bin" / "python", "-m", "pip", "--quiet", "--disable-pip-version-check", "install"]
        subprocess.run([*command, "-r", requirements], check=True, stdout=sys.stderr)
        stamp.write_text(digest)
    return home / "bin" / "python"


def versions(peer: Peer) -> dict[str, str]:
    """The pinned packages of a peer."""
    if peer.folder.name == OURS:
        from tm import __version__

        return {"tm": __version__}
    lines = (peer.folder / "requirements.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if "==" in line)
