"""What every command gets: the global options, and from them settings, clients and a way to answer."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

import click

from tm.errors import TaskmasterError

if TYPE_CHECKING:
    from collections.abc import Callable

    from tm.cli.render import Render
    from tm.client import Client
    from tm.config import Settings
    from tm.lookup import Lookup


class PipeClosed(Exception):  # noqa: N818 - no error: who reads has seen enough
    """What a BrokenPipeError becomes before click sees it, who would end the process with 1."""


class Face:
    """The options of one call of `tm`, and what follows from them; made before anything is parsed."""

    def __init__(self, *, as_json: bool = False) -> None:
        self.url: str | None = None
        self.home: str | None = None
        self.as_json = as_json
        self.as_lines = False
        self.no_color = False
        self.quiet = False
        self.verbose = False

    def take(self, *, as_json: bool, as_lines: bool = False, **options: Any) -> None:
        """Take over what the command line says; `--json` and `--jsonl` count wherever they stand."""
        self.as_json = self.as_json or as_json or as_lines
        self.as_lines = self.as_lines or as_lines
        for name, value in options.items():
            setattr(self, name, value)

    @property
    def is_terminal(self) -> bool:
        """Whether a person looks at stdout."""
        from tm.config import has_cursor

        return sys.stdout.isatty() and has_cursor() and not self.as_json

    def settings(self, **overrides: Any) -> Settings:
        """The settings of this call."""
        from tm.config import Settings

        if self.verbose:
            overrides.setdefault("log_level", "debug")
        return Settings.from_environment(url=self.url, home=self.home, **overrides)

    @property
    def place(self) -> str:
        """Where nothing was found, as " in DIR": of a directory that is not there, for it is most likely misspelt."""
        settings = self.settings()
        named = settings.url is None and (self.home is not None or settings.home.name != ".tm")
        return f" in {settings.home}, which does not exist" if named and not settings.home.exists() else ""

    def client(self) -> Client:
        """A client of the server; UnavailableError without one."""
        from tm.wiring import open_client

        return open_client(self.settings())

    def lookup(self) -> Lookup:
        """What can be read: the server if there is one, and the history."""
        from tm.wiring import open_lookup

        return open_lookup(self.settings())

    def render(self) -> Render:
        """The formatter for stdout."""
        from tm.cli.render import Render
        from tm.config import wants_color

        color = wants_color() and not self.no_color
        zone = self.settings().timezone
        return Render(as_json=self.as_json, as_lines=self.as_lines, terminal=self.is_terminal, color=color, zone=zone)

    def guard(self, body: Callable[[], Any]) -> int:
        """Run a command; every error ends here, as one line (or one JSON document) and an exit code."""
        try:
            code = body()
        except click.exceptions.Abort:
            return 130
        except click.ClickException as error:
            self.complain(error.format_message(), code="usage", show=error.show)
            return error.exit_code
        except TaskmasterError as error:
            self.fail(error)
            return error.exit_code
        except TimeoutError as error:
            self.complain(str(error), code="timeout")
            return 124
        except KeyboardInterrupt:
            return 130
        except (BrokenPipeError, PipeClosed):
            # the reader, as in `tm runs | head`, has seen enough; nor must the flush at exit complain
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return 0
        return code if isinstance(code, int) else 0

    def fail(self, error: TaskmasterError) -> None:
        """Say on stderr what went wrong."""
        code = type(error).__name__.removesuffix("Error")
        self.complain(str(error), code="".join(f"_{c.lower()}" if c.isupper() else c for c in code).strip("_"))

    def complain(self, message: str, *, code: str, show: Callable[[], None] | None = None) -> None:
        """An error message: `tm: ...`, or one JSON document; `show` is click's own way to put it."""
        if self.as_json:
            import json

            # an error of the cron engine brings its hint on a line of its own
            mark = "\n  hint: " if "\n  hint: " in message else "; "
            message, _, hint = message.partition(mark)
            text = json.dumps({"error": {"code": code, "message": message, "hint": hint or None}}, ensure_ascii=False)
            print(text, file=sys.stderr)
        elif show is not None:
            show()
        else:
            print(f"tm: {message}", file=sys.stderr)


def shared_options(command: click.Command) -> click.Command:
    """Give a command the `--json` and `--jsonl` that it can also take from before its name; sub-commands too."""
    if isinstance(command, click.Group):
        for each in command.commands.values():
            shared_options(each)
    if not isinstance(command, click.Group) or command.invoke_without_command:
        given = {option for parameter in command.params for option in parameter.opts}
        if "--json" not in given:
            command.params.append(_json_option())
        if not given & {"--json", "--jsonl"}:
            command.params.append(_lines_option())
    return command


def _json_option() -> click.Option:
    def note(ctx: click.Context, _: click.Parameter, given: bool) -> None:
        ctx.obj.as_json = ctx.obj.as_json or given

    return click.Option(
        ["--json"], is_flag=True, expose_value=False, callback=note, help="One JSON document instead of text."
    )


def _lines_option() -> click.Option:
    def note(ctx: click.Context, _: click.Parameter, given: bool) -> None:
        ctx.obj.as_json, ctx.obj.as_lines = ctx.obj.as_json or given, ctx.obj.as_lines or given

    return click.Option(
        ["--jsonl"], is_flag=True, expose_value=False, callback=note, help="The same, one line for each item."
    )


pass_face = click.make_pass_decorator(Face)
