"""--quiet and --verbose, which every command has, and --progress of those that make a video."""

import inspect
from collections.abc import Callable, Mapping
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
QUIET_ANSWER: Final = typer.Option("--quiet", "-q", help="Print nothing but what was asked for.")


def verbose_option(panel: str | None = None) -> Any:
    """--verbose, under this heading of the help."""
    says = "Tell every step, and of an error how it came."
    return typer.Option("--verbose", "-v", help=says, rich_help_panel=panel, callback=_note_verbose, is_eager=True)


def takes_display(command: Callable[..., None]) -> Callable[..., None]:
    """Decorate a command that makes a video: its argument `display` are these options."""

    def run(*arguments: Any, progress: Style, quiet: bool, verbose: bool, **options: Any) -> None:
        command(*arguments, display=DisplayOptions(style=progress, quiet=quiet, verbose=verbose), **options)

    options = {
        "progress": (Style.AUTO, Annotated[Style, PROGRESS]),
        "quiet": (False, Annotated[bool, QUIET]),
        "verbose": (False, Annotated[bool, verbose_option(PANEL)]),
    }
    return as_command(run, command, instead_of="display", options=options)


def takes_verbosity(command: Callable[..., None]) -> Callable[..., None]:
    """Decorate a command that answers a question: it has --quiet, its argument `quiet` if it has one, and --verbose."""
    listens = "quiet" in inspect.signature(command).parameters  # the others say nothing but the answer

    def run(*arguments: Any, quiet: bool, verbose: bool, **options: Any) -> None:  # noqa: ARG001 - heard as it is read
        command(*arguments, **({"quiet": quiet} if listens else {}), **options)

    options = {"quiet": (False, Annotated[bool, QUIET_ANSWER]), "verbose": (False, Annotated[bool, verbose_option()])}
    return as_command(run, command, instead_of="quiet", options=options)


def as_command(
    run: Callable[..., None], command: Callable[..., None], *, instead_of: str, options: Mapping[str, tuple[Any, Any]]
) -> Callable[..., None]:
    """`run` as typer is to read it: `command`, with options (default and type) in place of an argument."""
    own = inspect.signature(command).parameters.values()
    parameters = [
        *(parameter for parameter in own if parameter.name != instead_of),
        *(
            inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind)
            for name, (default, kind) in options.items()
        ),
    ]
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return run
