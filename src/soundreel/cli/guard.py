"""The end of a command: errors become one line on standard error and an exit code.

Exit codes: 0 done, 1 a fault of ours, 2 wrong input, 3 unreadable or unwritable media, 4 weights, 5 engine or server, 6
done, but standard output did not take it all, 130 cancelled.
"""

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NoReturn

from soundreel.cli.address_space import prepare_for_limit
from soundreel.cli.signals import forget_interrupt, is_stopped, stopped_by_signals
from soundreel.cli.streams import LOST_OUTPUT_EXIT_CODE, open_streams, say, what_was_lost
from soundreel.cli.system_errors import in_words
from soundreel.errors import Cancelled, SoundreelError

DEBUG_VARIABLE: Final = "SOUNDREEL_DEBUG"
"""Environment variable that, set to anything, makes unexpected errors show their traceback."""

BUG_EXIT_CODE: Final = 1


@dataclass(frozen=True, kw_only=True)
class Failure:
    """What is told of an error."""

    message: str
    exit_code: int
    field: str | None = None  # of `Request` that is wrong, as `sampling.steps`
    details: tuple[str, ...] = ()  # of several mistakes, each; they follow the message in lines of their own

    @classmethod
    def of(cls, error: BaseException) -> "Failure":
        """An error of ours with its notes, a Ctrl-C and what came of it, or what nobody foresaw."""
        is_stop = isinstance(error, KeyboardInterrupt) or (is_stopped() and not isinstance(error, Cancelled))
        said = cancelled(error) if is_stop else error
        if isinstance(said, Exception) and DEBUG_VARIABLE not in os.environ:
            said = in_words(said)
        if isinstance(said, SoundreelError):
            message = "; ".join([said.headline, *getattr(said, "__notes__", ())])
            return cls(message=message, exit_code=said.exit_code, field=said.field, details=said.details)
        return cls(message=f"{type(said).__name__}: {said} (a bug; --verbose shows where)", exit_code=BUG_EXIT_CODE)


def cancelled(stop: BaseException) -> Cancelled:
    """What is said of a command that was stopped; notes tell what it has left."""
    return Cancelled(", ".join(["cancelled", *getattr(stop, "__notes__", ())]))


def guard(command: Callable[[], object]) -> NoReturn:
    """Run a command and end the process: errors become one line on standard error and an exit code, 1 if unexpected."""
    out = open_streams()
    with stopped_by_signals():
        code = _run(command)
    if code == 0 and out.is_incomplete():
        code = LOST_OUTPUT_EXIT_CODE
        if (lost := what_was_lost(out)) is not None:
            _complain(lost)
    forget_interrupt()
    sys.exit(code)


def _run(command: Callable[[], object]) -> int:
    """The exit code of a command."""
    try:
        prepare_for_limit()
        command()
    except SystemExit as stop:
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except (Exception, KeyboardInterrupt) as error:
        failure = Failure.of(error)
        if failure.exit_code == BUG_EXIT_CODE and DEBUG_VARIABLE in os.environ:
            raise
        _complain(failure.message, failure.details)
        return failure.exit_code
    return 0


def _complain(message: str, details: tuple[str, ...] = ()) -> None:
    say(f"soundreel: {message}")
    for detail in details:
        say(f"  {detail}")
