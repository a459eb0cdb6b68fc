"""--progress, --quiet and --verbose: the same for every command that makes a video."""

import inspect
from collections.abc import Callable
from typing import Annotated, Any, Final

import typer

from soundreel.cli import group
from soundreel.cli.display import DisplayOptions, Style

PANEL: Final = "Output"
"""Heading of the help under which they stand."""


def _note_style(context: typer.Context, style: Style) -> Style:
    context.meta[group.EVENTS] = style is Style.JSON
    return style


def _note_verbose(context: typer.Context, is_verbose: bool) -> bool:
    if is_verbose and not context.meta.get(group.VERBOSE):
        context.meta[group.VERBOSE] = True
        group.tell_version()
    return bool(context.meta.get(group.VERBOSE))


PROGRESS: Final = typer.Option(
    "--progress",
    help="How to show it; json is events for programs, on standard error (default auto).",
    metavar=f"[{'|'.join(Style)}]",
    rich_help_panel=PANEL,
    show_default=False,
    callback=_note_style,
    is_eager=True,  # so that errors are told as it says
)
QUIET: Final = typer.Option("--quiet", "-q", help="Print nothing but the path of the video.", rich_help_panel=PANEL)


def verbose_option(panel: str | None = None) -> Any:
    """--verbose, under this heading of the help."""
    says = "Tell every step, and of an error how it came."
    return typer.Option("--verbose", "-v", help=says, rich_help_panel=panel, callback=_note_verbose, is_eager=True)


def takes_display(command: Callable[..., None]) -> Callable[..., None]:
    """Decorate a command: its argument `display` are these options."""
    own = inspect.signature(command).parameters.values()

    def run(*arguments: Any, progress: Style, quiet: bool, verbose: bool, **options: Any) -> None:
        command(*arguments, display=DisplayOptions(style=progress, quiet=quiet, verbose=verbose), **options)

    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        *(parameter for parameter in own if parameter.name != "display"),
        inspect.Parameter("progress", keyword, default=Style.AUTO, annotation=Annotated[Style, PROGRESS]),
        inspect.Parameter("quiet", keyword, default=False, annotation=Annotated[bool, QUIET]),
        inspect.Parameter("verbose", keyword, default=False, annotation=Annotated[bool, verbose_option(PANEL)]),
    ]
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return run
