"""Several videos of one command, one after the other in one session: what fails does not keep the others from it."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import typer

from soundreel.cli.display import DisplayOptions, Style, open_display
from soundreel.cli.events import write_error
from soundreel.cli.group import tell_where
from soundreel.cli.guard import Failure
from soundreel.cli.signals import is_stopped
from soundreel.cli.statements import Statement, render_begins, render_ends
from soundreel.cli.streams import say
from soundreel.errors import Cancelled
from soundreel.request import Request, WorkOptions
from soundreel.types import Result


def render_with(
    generate: Callable[..., Result],
    request: Request,
    display: DisplayOptions,
    work: WorkOptions,
    begins: Callable[[Any], Statement] = render_begins,
) -> Result:
    """Render with a display; `generate` is a function as `soundreel.generate`, and `begins` tells of what it begins."""
    with open_display(display) as shown:
        made = generate(request, shown, on_start=lambda begun: shown.start(begins(begun)), work=work)
        shown.finish(made.path, render_ends(made))
    return made


def render_all(requests: Sequence[Request], display: DisplayOptions, work: WorkOptions) -> None:
    """Render each request in one session; errors as `each`."""
    from soundreel.session import Session

    with Session() as session:
        each(requests, display, lambda request: render_with(session.generate, request, display, work))


def each(requests: Sequence[Request], display: DisplayOptions, render: Callable[[Request], object]) -> None:
    """Render each request; what fails is said, and in the end how many did.

    Raises:
        Exit: with the exit code of the first that failed.
    """
    failures: list[Failure] = []
    for number, request in enumerate(requests, start=1):
        if display.is_for_people:
            say(f"video {number} of {len(requests)}: {Path(request.audio).name}, seed {request.seed}")
        try:
            render(request)
        except Cancelled:
            raise
        except Exception as error:  # whatever it is, the others are not to blame
            if is_stopped():
                raise
            if display.verbose:
                tell_where(error)
            failures.append(Failure.of(error))
            _tell(failures[-1], request, display)
    if failures:
        if display.style is not Style.JSON:
            say(f"soundreel: {len(failures)} of {len(requests)} videos were not made")
        raise typer.Exit(failures[0].exit_code)


def _tell(failure: Failure, request: Request, display: DisplayOptions) -> None:
    if display.style is Style.JSON:
        write_error(failure)
    else:
        say(f"soundreel: {Path(request.audio).name}, seed {request.seed}: {failure.message}")
