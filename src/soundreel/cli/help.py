"""The help of commands: plain lines, as wide as the terminal; no name is cut."""

import contextlib
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from typing import Any, Final

import typer
from typer.core import TyperCommand, TyperGroup

from soundreel.cli.tables import fact_lines, wrapped
from soundreel.errors import InputError

NAME_COLUMNS: Final = 26
"""Names of options that are longer have their help below them."""

MOST_COLUMNS: Final = 120
"""Longer lines are not easily read."""

_TEXT: Final = re.compile(r"<list\[str\]>|<str>|TEXT")
"""What versions of typer call any value."""

_DEFAULT: Final = re.compile(r"\[default: (.*)\]$")


class _Fitting:
    """Part of a command whose help fits the terminal."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the help."""
        width = min(shutil.get_terminal_size().columns, MOST_COLUMNS)
        formatter.write("\n".join(help_lines(self, ctx, width)) + "\n")


class HelpfulCommand(_Fitting, TyperCommand):
    """A command whose help fits the terminal."""


class HelpfulGroup(_Fitting, TyperGroup):
    """Commands whose help fits the terminal; where none is named it is shown, on standard error: nothing was made."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Show the help where there is nothing to parse."""
        if not args and not ctx.resilient_parsing:
            with contextlib.redirect_stdout(sys.stderr):
                print(ctx.get_help())  # noqa: T201
            raise typer.Exit(InputError.exit_code)
        return super().parse_args(ctx, args)


class HelpfulTyper(typer.Typer):
    """Makes such commands."""

    def command(self, name: str | None = None, **settings: Any) -> Callable[..., Any]:
        """Declare a command, as typer does."""
        return super().command(name, **{"cls": HelpfulCommand, **settings})


def help_lines(command: Any, ctx: Any, width: int) -> Iterator[str]:
    """Usage, text, and under their headings the options and commands, each with its help below or beside it."""
    yield from wrapped(f"usage: {' '.join([ctx.command_path, *_usage(command, ctx)])}", width)
    yield ""
    yield from wrapped(command.help or "", width)
    for heading, rows in _sections(command, ctx).items():
        yield ""
        yield f"{heading}:"
        yield from fact_lines(rows, width, most=NAME_COLUMNS)


def _usage(command: Any, ctx: Any) -> Iterator[str]:
    """The words after the command."""
    yield "[OPTIONS]"
    for parameter in command.get_params(ctx):
        if _is_argument(parameter):
            name = _argument_name(parameter)
            yield name if parameter.required else f"[{name}]"
    if _commands(command):
        yield "COMMAND …"


def _sections(command: Any, ctx: Any) -> dict[str, list[tuple[str, str]]]:
    """By heading: names and help."""
    found: dict[str, list[tuple[str, str]]] = {}
    for parameter in command.get_params(ctx):
        heading = "Arguments" if _is_argument(parameter) else getattr(parameter, "rich_help_panel", None) or "Options"
        if (record := parameter.get_help_record(ctx)) is not None:
            found.setdefault(heading, []).append(_in_our_words(parameter, *record))
    commands = [(name, inner.get_short_help_str(1000)) for name, inner in _commands(command).items()]
    return found | ({"Commands": commands} if commands else {})


def _in_our_words(parameter: Any, name: str, says: str) -> tuple[str, str]:
    """Names and help of a parameter without typer's way of telling types and defaults."""
    name = _argument_name(parameter) if _is_argument(parameter) else _TEXT.sub("<text>", name.removeprefix(" / "))
    says = says.removesuffix("[required]").rstrip()
    if (default := _DEFAULT.search(says)) is not None:
        says = f"{says[: default.start()].rstrip('. ')} (default {default[1]})."
    return name, says


def _is_argument(parameter: Any) -> bool:
    return bool(parameter.param_type_name == "argument")


def _argument_name(parameter: Any) -> str:
    name: str = parameter.metavar or parameter.name.upper()
    return f"{name} …" if parameter.nargs == -1 else name


def _commands(command: Any) -> dict[str, Any]:
    return {name: inner for name, inner in getattr(command, "commands", {}).items() if not inner.hidden}
