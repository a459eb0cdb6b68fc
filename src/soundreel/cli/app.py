"""The command line: all commands by their names, and what they have in common."""

from typing import Annotated

import typer

from soundreel import __version__
from soundreel.cli import group
from soundreel.cli.commands import models
from soundreel.cli.commands.batch import batch
from soundreel.cli.commands.kept_renders import clean, redo, reprint, resume, unfinished
from soundreel.cli.commands.rendering import demo, generate
from soundreel.cli.commands.reporting import doctor, info, plan, score, storyboard
from soundreel.cli.commands.serve import serve
from soundreel.cli.commands.studio import studio
from soundreel.cli.commands.videos import interpolate, join
from soundreel.cli.display_options import verbose_option
from soundreel.cli.group import SoundreelGroup
from soundreel.cli.guard import guard
from soundreel.cli.help import HelpfulTyper
from soundreel.cli.signals import ignore_signals
from soundreel.cli.streams import report

app = HelpfulTyper(
    cls=SoundreelGroup,
    name=group.PROGRAM,
    invoke_without_command=True,
    pretty_exceptions_enable=False,
    # --num_clip and --num-clip are the same option
    context_settings={
        "token_normalize_func": lambda token: token.replace("_", "-"),
        "help_option_names": ["-h", "--help"],
    },
)


def main() -> None:
    """The command line as a process of its own."""
    try:
        guard(app)
    finally:
        ignore_signals()


def _show_version(wanted: bool) -> None:
    if wanted:
        report(f"{group.PROGRAM} {__version__}")
        raise typer.Exit


@app.callback()
def root(
    context: typer.Context,
    _version: Annotated[
        bool, typer.Option("--version", "-V", help="Print the version.", callback=_show_version, is_eager=True)
    ] = False,
    _verbose: Annotated[bool, verbose_option()] = False,
) -> None:
    """Sound in, synchronized video out. `soundreel song.mp3` is all it takes."""
    if context.invoked_subcommand is None:
        _show_version(True)


app.command()(generate)
app.command()(resume)
app.command(context_settings={"ignore_unknown_options": True})(redo)  # -1 is a number that is out of range, no option
for command in (reprint, unfinished, clean, plan, storyboard, interpolate, join, info, score, batch, serve, studio):
    app.command()(command)
app.add_typer(models.app, name="models")
app.command()(doctor)
app.command()(demo)
app.command("jobs", hidden=True, help="Another name of `unfinished`.")(unfinished)
