"""From which queues the workers of a compose file take; nothing where that cannot be told."""

from __future__ import annotations

import functools
import itertools
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

NAMES = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")


def offered_queues(file: Path) -> tuple[Path, frozenset[str]] | None:
    """The compose file nearest to a graph file, and the queues its workers take from.

    None when there is none, or no worker in it, or when one takes from all queues or from what a variable says.
    """
    for folder in file.parents:
        for name in NAMES:
            if (folder / name).is_file():
                return _read(folder / name)
        if (folder / ".git").exists():
            break
    return None


@functools.cache
def _read(compose: Path) -> tuple[Path, frozenset[str]] | None:
    try:
        commands = list(commands_in(compose.read_text(encoding="utf-8")))
    except (OSError, UnicodeDecodeError):
        return None
    workers = [words for words in commands if "tm-worker" in words]
    queues: set[str] = set()
    for words in workers:
        named = [after for word, after in itertools.pairwise(words) if word == "--queue"]
        named += [word.partition("=")[2] for word in words if word.startswith("--queue=")]
        if not named or any("$" in word for word in words):
            return None
        queues |= set(named)
    return (compose, frozenset(queues)) if workers else None


def commands_in(text: str) -> list[list[str]]:
    """The words of every `command:` of a compose file, whether a list, a block or a line.

    A reader of YAML would be a dependency for this alone; what it would see and this does not, such as anchors, has no
    worker in it, and then nothing is said.
    """
    commands: list[list[str]] = []
    lines = text.splitlines()
    for number, line in enumerate(lines):
        match = re.match(r"( *)(?:command|entrypoint):(.*)$", line)
        if match is None:
            continue
        words = re.sub(r"\s#.*$", "", match[2]).strip()
        inline = words.lstrip(">|-").strip()
        parts = [inline] if inline else []
        for more in lines[number + 1 :]:
            if not more.strip() or more.lstrip().startswith("#"):
                continue
            indent = len(more) - len(more.lstrip())
            if indent < len(match[1]) or (indent == len(match[1]) and not more.lstrip().startswith("- ")):
                break
            parts.append(re.sub(r"^- ", "", re.sub(r"\s#.*$", "", more).strip()))
        commands.append([word.strip("\"'") for word in re.split(r"[\s,\[\]]+", " ".join(parts)) if word.strip("\"'")])
    return commands
