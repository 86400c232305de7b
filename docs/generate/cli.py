"""The page on commands, from the objects that make `--help`."""

from __future__ import annotations

import inspect
import re
import textwrap
from typing import TYPE_CHECKING

import click

from docs.generate.pages import block, code, link, page, prose, table
from tm.cli.app import COMMANDS, cli
from tm.cli.help import EXIT_CODES, JSON, RUNS, TIMES
from tm_scheduler.cli import main as scheduler
from tm_worker.cli import worker

if TYPE_CHECKING:
    from collections.abc import Iterator

#: of every command; told once
SHARED = {"--json", "--jsonl", "--help"}

INTRO = """
All commands, options and exit codes, as `--help` has them. What may follow a word is written so: `[OPTIONS]` can be
left out, `RUN...` can be given several times, `GRAPH|FILE` is one or the other. The [settings](configuration.md) are
environment variables; what `--json` prints is on [a page of its own](json.md); the
[how-to pages](../README.md#how-to) show commands at work.
"""


def render() -> str:
    """The page."""
    root = _context(cli, "tm")
    rows, parts = [], []
    for name, (_, said) in COMMANDS.items():
        command = cli.get_command(root, name)
        assert command is not None
        rows.append([link(f"tm {name}", code(f"tm {name}")), prose(said)])
        parts += _sections(command, root, "tm", level=3)
    services = {"tm-scheduler": scheduler, "tm-worker": worker}
    for name, service in services.items():
        rows.append([link(name, code(name)), prose(_paragraphs(service)[0])])
    return page(
        "Commands",
        INTRO,
        table(["command", "what it does"], rows),
        f"Common to all: {link('Global options')}, {link('Exit codes')}, {link('How runs are named')}, "
        f"{link('How times are written')}, {link('JSON')}.",
        "## Global options",
        "They stand before the name of a command: `tm --home /srv/etl runs`. `--json`, `--jsonl` and `--help` (`-h`) "
        "may stand after it as well, and are not repeated below.",
        _options(cli, root, shared=True),
        "## Exit codes",
        "What they mean everywhere; each command below names those that it has.",
        table(["code", "meaning"], [[str(number), said] for number, said in EXIT_CODES.items()]),
        "## How runs are named",
        block(RUNS, "text"),
        "## How times are written",
        block(TIMES, "text"),
        "## JSON",
        block(JSON, "text"),
        "## tm",
        *parts,
        "## Services",
        "They serve a server that others share; in one terminal `tm up` and `python my_graph.py` start both.",
        *(part for name, service in services.items() for part in _sections(service, None, "", level=3, name=name)),
    )


def _sections(
    command: click.Command, parent: click.Context | None, path: str, *, level: int, name: str = ""
) -> Iterator[str]:
    name = name or command.name or ""
    path = f"{path} {name}".strip()
    ctx = _context(command, name, parent)
    yield f"{'#' * level} {path}"
    yield block(f"{path} {' '.join(command.collect_usage_pieces(ctx))}", "text")
    yield from (prose(each) for each in _paragraphs(command))
    if options := _options(command, ctx):
        yield options
    if isinstance(command, click.Group):
        kinds = [(each, command.get_command(ctx, each)) for each in command.list_commands(ctx)]
        rows = [
            [link(f"{path} {each}", code(f"{path} {each}")), prose(_paragraphs(found)[0])]
            for each, found in kinds
            if found
        ]
        yield table(["command", "what it does"], rows)
    yield from _epilog(command)
    if isinstance(command, click.Group):
        for _, found in kinds:
            if found:
                yield from _sections(found, ctx, path, level=level + 1)


def _context(command: click.Command, name: str, parent: click.Context | None = None) -> click.Context:
    return click.Context(command, info_name=name, parent=parent, **command.context_settings)


def _paragraphs(command: click.Command) -> list[str]:
    text = inspect.cleandoc(command.help or "").partition("\f")[0]
    return [" ".join(each.split()) for each in re.split(r"\n\s*\n", text) if each.strip()]


def _options(command: click.Command, ctx: click.Context, *, shared: bool = False) -> str:
    rows = [
        [code(_names(option)), prose(_meaning(option))]
        for option in command.get_params(ctx)
        if isinstance(option, click.Option) and not option.hidden and (shared or not SHARED & set(option.opts))
    ]
    return table(["option", "meaning"], rows) if rows else ""


def _names(option: click.Option) -> str:
    names = ", ".join(sorted([*option.opts, *option.secondary_opts], key=len))
    return names if option.is_flag or option.count else f"{names} {_value(option)}"


def _value(option: click.Option) -> str:
    if option.metavar:
        return option.metavar
    if isinstance(option.type, click.Choice):
        return "|".join(map(str, option.type.choices))
    return {"integer range": "N", "integer": "N", "text": "TEXT"}.get(option.type.name, option.type.name.upper())


def _meaning(option: click.Option) -> str:
    said = option.help or ""
    if option.multiple and "repeated" not in said:
        said += " May be repeated."
    if option.required:
        said += " Has to be given."
    if option.show_default is True:
        default = option.opts[0] if option.default is True else option.default
        said += f" By default {default}."
    return said


def _epilog(command: click.Command) -> Iterator[str]:
    """Examples, signals and exit codes: blocks that are parted by an empty line."""
    for text in re.split(r"\n\s*\n", (command.epilog or "").replace("\b\n", "").strip("\n")):
        head, _, rest = text.strip("\n").partition("\n")
        if not head:
            continue
        if rest.startswith("  "):
            # commands are for a shell; what else is laid out in columns stays so
            kind = "bash" if head == "Examples:" else "text"
            yield f"{head}\n\n{block(textwrap.dedent(rest), kind)}"
        else:
            yield prose(" ".join(text.split()))
