"""What all commands have in common: how the words after `soundreel` are read, and how errors leave a command."""

import os
import platform
import re
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import typer

from soundreel.cli.events import write_error
from soundreel.cli.guard import Failure, cancelled
from soundreel.cli.help import HelpfulGroup
from soundreel.cli.signals import is_stopped, tell_no_interrupt
from soundreel.cli.streams import say
from soundreel.errors import Cancelled, InputError
from soundreel.version import __version__

PROGRAM: Final = "soundreel"

VERBOSE, EVENTS = "soundreel.verbose", "soundreel.events"
"""Keys of a context's `meta`: whether all is to be told, and whether it is told in events."""


class SoundreelGroup(HelpfulGroup):
    """Lets `soundreel song.mp3` stand for `soundreel generate song.mp3`; errors are ours, whoever finds them."""

    def main(self, args: Sequence[str] | None = None, *_: Any, standalone_mode: bool = True, **settings: Any) -> Any:
        """Run the command line and, unless it is part of another program, end the process.

        Raises:
            SoundreelError: what the command raises; `InputError` for words that are not understood.
        """
        self._has_told = False  # in events, why the command ends
        sys.excepthook = tell_no_interrupt  # of typer's own there is no need: no exception gets so far
        try:
            code = super().main(args, **{**settings, "prog_name": PROGRAM, "standalone_mode": False})
            if code == Cancelled.exit_code and not self._has_told:  # typer's word for Ctrl-C while it reads the words
                raise Cancelled("cancelled")
        except Exception as error:
            if not _is_of_typer(error):
                raise
            raise InputError(_explain(error)) from error
        if standalone_mode:
            sys.exit(code if isinstance(code, int) else 0)
        return code

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Insert `generate` where the first word is no command, but looks like a file or an option of its own."""
        own = {name for parameter in self.get_params(ctx) for name in (*parameter.opts, *parameter.secondary_opts)}
        first = next((place for place, word in enumerate(args) if word not in own), len(args))
        if first < len(args) and args[first] not in self.commands and _is_for_generate(args[first]):
            args = [*args[:first], "generate", *args[first:]]
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Any) -> Any:
        """Run the command. Ctrl-C is `Cancelled`; where events are told, an error is one of them."""
        try:
            return super().invoke(ctx)
        except (typer.Exit, typer.Abort):
            raise
        except (Exception, KeyboardInterrupt) as error:
            if _is_of_typer(error):
                raise
            if ctx.meta.get(VERBOSE) and not isinstance(error, Cancelled | KeyboardInterrupt) and not is_stopped():
                tell_where(error)
            if ctx.meta.get(EVENTS):
                failure = Failure.of(error)
                write_error(failure)
                self._has_told = True
                raise typer.Exit(failure.exit_code) from error
            if isinstance(error, KeyboardInterrupt):
                raise cancelled(error) from None
            raise


def _is_for_generate(word: str) -> bool:
    return word.startswith("-") or Path(word).suffix != "" or os.sep in word or Path(word).exists()


def _is_of_typer(error: BaseException) -> bool:
    """Whether it says what is wrong with the words of a command line."""
    return hasattr(error, "format_message")


def _explain(error: Any) -> str:
    """What typer says, as one sentence of ours, and where to read on."""
    text = " ".join(error.format_message().split()).rstrip(".").replace("Value error, ", "")
    text = re.sub(r"\. Did you mean (.+\?)$", r" (did you mean \1)", text)
    context = getattr(error, "ctx", None)
    command = PROGRAM if context is None else context.command_path
    return f"{text[:1].lower()}{text[1:]}; {command} --help says what there is"


def tell_where(error: BaseException) -> None:
    """Say by which functions an error came."""
    for part in traceback.format_exception(error):
        for line in part.splitlines():
            say(line)


def tell_version() -> None:
    """Say what runs, for those who are to find out why it does not."""
    say(f"{PROGRAM} {__version__}, Python {platform.python_version()}, {platform.platform()}")
