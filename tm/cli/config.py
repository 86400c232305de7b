"""`tm config`: the settings that count here, where they come from, and what there is to set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from tm.cli.face import Face, pass_face
from tm.errors import NotFoundError

if TYPE_CHECKING:
    from tm.config import Settings


@click.group(
    "config",
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog="""\b
Examples:
  tm config show                        # what counts here
  tm config path history                # one path, for scripts
  tm config reference                   # everything that can be set
""",
)
def config() -> None:
    """Settings: what counts here, where it comes from, and what there is to set.

    They are environment variables; options of a command go over them. Nothing is read from a file.
    """


@config.command(
    epilog="""\b
Examples:
  tm config show
  tm config show TM_LEASE TM_TZ         # these alone
  tm --url redis://db/0 config show --json

Exit codes: 0, 2 a setting makes no sense, 3 there is no such setting.
"""
)
@click.argument("names", metavar="[VARIABLE]...", nargs=-1)
@pass_face
def show(face: Face, names: tuple[str, ...]) -> None:
    """Show the settings that count here, each with where it comes from; passwords are left out."""
    from tm.config import TABLE, sources

    settings, from_where = face.settings(), sources(url=face.url, home=face.home)
    table = {each.variable: each for each in TABLE}
    rows = [
        (name, _shown(settings, table[name].field), from_where[table[name].field])
        for name in (_known(names, list(table)) if names else table)
    ]
    render = face.render()
    if face.as_json:
        items = [{"variable": name, "value": value, "source": source} for name, value, source in rows]
        render.document("tm.config/1", items)
    else:
        render.table(("VARIABLE", "VALUE", "FROM"), [[name, value or "-", source] for name, value, source in rows])


@config.command(
    epilog="""\b
Examples:
  tm config path                        # all of them
  du -h "$(tm config path history)"

Exit codes: 0, 3 there is no such path (a history that is no file has none).
"""
)
@click.argument("what", required=False, type=click.Choice(["home", "history", "socket", "log", "server"]))
@pass_face
def path(face: Face, what: str | None) -> None:
    """Show where things are: home, history, and socket and log of the embedded server."""
    from tm.embedded import socket_path
    from tm.redact import redact

    settings = face.settings()
    history = settings.history_url
    found = {
        "home": str(settings.home),
        "history": history.removeprefix("sqlite:///") if history.startswith("sqlite") else redact(history),
        "socket": str(socket_path(settings.home)),
        "log": str(settings.home / "valkey.log"),
        "server": redact(settings.server_url()),
    }
    render = face.render()
    if face.as_json:
        items = [{"what": name, "path": where} for name, where in found.items() if what in {None, name}]
        render.document("tm.config.path/1", items)
    elif what is not None:
        render.line(found[what])
    else:
        render.table(("WHAT", "WHERE"), [list(each) for each in found.items()])


@config.command(
    epilog="""\b
Examples:
  tm config reference
  tm config reference --markdown > settings.md

Exit codes: 0.
"""
)
@click.option("--markdown", is_flag=True, help="As a table for a page.")
@pass_face
def reference(face: Face, markdown: bool) -> None:
    """List everything that can be set: what is allowed, what it is by default, and what it means."""
    import shutil
    import textwrap

    from tm.config import TABLE

    render = face.render()
    if face.as_json:
        items = [
            {name: getattr(each, name) for name in ("variable", "allowed", "default", "meaning")} for each in TABLE
        ]
        render.document("tm.config.reference/1", items)
    elif markdown:
        render.line("| variable | allowed | default | meaning |", "|---|---|---|---|")
        for each in TABLE:
            render.line(f"| `{each.variable}` | {each.allowed} | {each.default} | {each.meaning} |")
    else:
        width = max(min(shutil.get_terminal_size().columns, 100), 40)  # as wide as help, on a pipe too
        for each in TABLE:
            render.styled(each.variable, "bold")
            for said in (each.meaning, f"{each.allowed}; by default {each.default}"):
                render.line(*textwrap.wrap(said, width, initial_indent="  ", subsequent_indent="  "))


def _known(names: tuple[str, ...], table: list[str]) -> list[str]:
    from tm.suggest import hint

    for name in names:
        if name not in table:
            otherwise = "`tm config reference` lists those there are"
            raise NotFoundError(f"there is no setting {name!r}; {hint(name, table, otherwise)}")
    return list(names)


def _shown(settings: Settings, field: str) -> str | None:
    from tm.config import veiled

    value: Any = getattr(settings, field)
    return None if value is None else veiled(field, value)
