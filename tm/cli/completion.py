"""`tm completion`, and how words go on: graphs, runs, tasks and queues; fast, and silent when nothing can be told."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import CompletionItem, get_completion_class

from tm.cli.face import Face, pass_face

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tm.lookup import Lookup

#: runs that are offered
MOST = 50
#: seconds; a shell that hangs is worse than one that does not know
PATIENCE = 0.5


#: click's own takes the words as readline cuts them, at @ and : too, and puts names with blanks in unquoted;
#: COMP_CWORD=-1 is the last word of the line, wherever the cuts are
BASH = r"""_tm_completion() {
    local IFS=$'\n' line="${COMP_LINE:0:COMP_POINT}" word kind value quoted cut
    case "$line" in
        *[[:blank:]]) [[ "$line" == *\\[[:blank:]] ]] || line="$line''" ;;
    esac
    word="${line##*[^\\][[:blank:]]}"
    case "$word" in
        *[@:=]*) cut="${word%"${word##*[@:=]}"}" ;;
        *) cut="" ;;
    esac
    COMPREPLY=()
    for value in $(COMP_WORDS="$line" COMP_CWORD=-1 _TM_COMPLETE=bash_complete "$1" 2>/dev/null); do
        kind="${value%%,*}" value="${value#*,}"
        if [[ $kind == dir ]]; then
            compopt -o dirnames
        elif [[ $kind == file ]]; then
            compopt -o default
        else
            printf -v quoted %q "$value"
            COMPREPLY+=("${quoted#"$cut"}")
        fi
    done
    return 0
}
complete -o nosort -F _tm_completion tm"""


@click.command(
    epilog="""\b
Examples:
  eval "$(tm completion bash)"                  # in ~/.bashrc
  eval "$(tm completion zsh)"                   # in ~/.zshrc
  tm completion fish > ~/.config/fish/completions/tm.fish

Exit codes: 0.
"""
)
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@pass_face
def completion(face: Face, shell: str) -> None:
    """Print what SHELL needs to complete commands, options, graphs, runs, tasks and queues."""
    kind = get_completion_class(shell)
    assert kind is not None  # noqa: S101 - click knows all three
    script = kind(click.Group(), {}, "tm", "_TM_COMPLETE")
    face.render().line(BASH if shell == "bash" else script.source_template % script.source_vars())


def complete(command: click.Command) -> None:
    """Give the parameters of a command their ways to go on, by what they are called all over the command line."""
    if isinstance(command, click.Group):
        for each in command.commands.values():
            complete(each)
    for parameter in command.params:
        if (source := _SOURCES.get(parameter.name or "")) and isinstance(parameter.type, click.types.StringParamType):
            parameter.type = _Completing(source)


class _Completing(click.types.StringParamType):
    """Text that goes on as something there is."""

    def __init__(self, source: _Source) -> None:
        self._source = source

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:  # noqa: ARG002 - click's signature
        """What there is that begins so; nothing when it cannot be told."""
        found: list[str] = []
        # whatever goes wrong, a half-typed line is no place to say it
        with contextlib.suppress(Exception):
            found = [each for each in self._source(_lookup(ctx), ctx, incomplete) if each.startswith(incomplete)]
        if not found and self._source is _files:
            return [CompletionItem(incomplete, type="file")]
        return [CompletionItem(each) for each in found]


_Source = Any  # Callable[[Lookup, click.Context, str], Iterator[str]]


def _lookup(ctx: click.Context) -> Lookup:
    """A lookup that gives up soon."""
    from tm.lookup import Lookup
    from tm.wiring import connect, has_server, open_history_of, open_store

    face = Face()
    root = ctx.find_root()
    face.url, face.home = root.params.get("url"), root.params.get("home")
    settings = face.settings()
    store = None
    if has_server(settings):
        store = open_store(settings, connect(settings, reply_timeout=PATIENCE, connect_timeout=PATIENCE, retries=0))
    return Lookup(store, lambda: open_history_of(settings), zone=settings.timezone)


def _graphs(lookup: Lookup, _: click.Context, __: str) -> Iterator[str]:
    yield from lookup.names()


def _runs(lookup: Lookup, ctx: click.Context, incomplete: str) -> Iterator[str]:
    run, slash, _ = incomplete.rpartition("/")
    if slash:
        yield from (f"{run}/{task.name}" for task in lookup.run(run).tasks)
        return
    yield from (run.id for run in lookup.runs(limit=MOST))
    for graph in _graphs(lookup, ctx, ""):
        yield from (f"{graph}@last", f"{graph}@failed")


def _either(lookup: Lookup, ctx: click.Context, incomplete: str) -> Iterator[str]:
    if "/" not in incomplete:
        yield from _graphs(lookup, ctx, incomplete)
    yield from _runs(lookup, ctx, incomplete)


def _tasks(lookup: Lookup, ctx: click.Context, _: str) -> Iterator[str]:
    """Of the run that the command names, or of its graph."""
    # where an option still lacks its value, click has left the words as they were
    left = [word for word in ctx.args if not word.startswith("-")]
    name = ctx.params.get("run") or ctx.params.get("graph") or next(iter(left), "")
    if name:
        yield from (task.name for task in lookup.run(str(name)).tasks)


def _files(_: Lookup, __: click.Context, ___: str) -> Iterator[str]:
    return iter(())  # the shell knows better


def _workers(lookup: Lookup, _: click.Context, __: str) -> Iterator[str]:
    if lookup.store is not None:
        yield from (worker.name for worker in lookup.store.scene().workers if worker.alive)


def _queues(lookup: Lookup, _: click.Context, __: str) -> Iterator[str]:
    yield from lookup.queues()


_SOURCES: dict[str, Callable[..., Iterator[str]]] = {
    "graph": _graphs,
    "run": _runs,
    "runs": _runs,
    "what": _either,
    "name": _either,
    "reference": _either,
    "task": _tasks,
    "again": _tasks,
    "only": _tasks,
    "target": _files,
    "targets": _files,
    "file": _files,
    "queue": _queues,
    "queues": _queues,
    "worker": _workers,
}
