"""Options that are no fields of `Request`, as several commands declare them."""

from typing import Any, Final

import typer

from soundreel.cli.options import METAVARS

WORK: Final = "Interrupted renders"
"""Panel of the help."""

WHOLE_NUMBER: Final = METAVARS[int]


def option(*names: str, help: str, panel: str | None = None, metavar: str | None = None) -> Any:  # noqa: A002 - as typer
    """An option whose help says in words what it is by default."""
    return typer.Option(*names, help=help, rich_help_panel=panel, metavar=metavar, show_default=False)


AS_JSON: Final = typer.Option("--json", help="Print JSON for programs.")
EVERY_CLIP: Final = typer.Option("--all", help="Show every clip of a long one, not only some; JSON has all.")
WHERE_KEPT: Final = option("--work-dir", help="Where the clips of VIDEO are kept.")
TRUST_FOLDER: Final = typer.Option(
    "--trust-folder",
    help="Follow what the folder says, though you have not begun it here: which files are read and where they go. They "
    "are shown first.",
    rich_help_panel=WORK,
)
