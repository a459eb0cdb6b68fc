"""The help of commands: typer's boxes, and plain lines where a terminal is too narrow for them; no name is cut."""

import contextlib
import shutil
import sys
from collections.abc import Callable, Iterator
from typing import Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

from soundreel.cli.tables import fact_lines, wrapped
from soundreel.errors import InputError

BOXES_COLUMNS: Final = 70
"""That typer's boxes need, with names as long as ours."""


class _Fitting:
    """Part of a command whose help fits the terminal."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help."""
        width = shutil.get_terminal_size().columns
        if width < BOXES_COLUMNS:
            formatter.write("\n".join(narrow_help(self, ctx, width)) + "\n")
        else:
            super().format_help(ctx, formatter)  # type: ignore[misc]


class HelpfulCommand(_Fitting, TyperCommand):
    """A command whose help fits the terminal."""


class HelpfulGroup(_Fitting, TyperGroup):
    """Commands whose help fits the terminal; where none is named it is shown, on standard error: nothing was made."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Show the help where there is nothing to parse."""
        if not args and not ctx.resilient_parsing:
            with contextlib.redirect_stdout(sys.stderr):
                if text := ctx.get_help():  # boxes are printed as they are made
                    print(text)  # noqa: T201
            raise typer.Exit(InputError.exit_code)
        return super().parse_args(ctx, args)


class HelpfulTyper(typer.Typer):
    """Makes such commands."""

    def command(self, name: str | None = None, **settings: Any) -> Callable[..., Any]:
        """Declare a command, as typer does."""
        return super().command(name, **{"cls": HelpfulCommand, **settings})


def narrow_help(command: Any, ctx: Any, width: int) -> Iterator[str]:
    """Usage, text, and under their headings the options and commands, each with its help below or beside it."""
    yield from wrapped(f"usage: {ctx.command_path} {' '.join(command.collect_usage_pieces(ctx))}", width)
    yield ""
    yield from wrapped(command.help or "", width)
    for heading, rows in _sections(command, ctx).items():
        yield ""
        yield f"{heading}:"
        yield from fact_lines(rows, width)


def _sections(command: Any, ctx: Any) -> dict[str, list[tuple[str, str]]]:
    """By heading: names and help."""
    found: dict[str, list[tuple[str, str]]] = {}
    for parameter in command.get_params(ctx):
        if (record := parameter.get_help_record(ctx)) is not None:
            found.setdefault(getattr(parameter, "rich_help_panel", None) or "Options", []).append(record)
    commands = [(name, inner.get_short_help_str(1000)) for name, inner in _commands(command).items()]
    return found | ({"Commands": commands} if commands else {})


def _commands(command: Any) -> dict[str, Any]:
    return {name: inner for name, inner in getattr(command, "commands", {}).items() if not inner.hidden}
