"""Commands that render: `generate`, and `demo`."""

from pathlib import Path
from typing import Annotated, Final

import typer

from soundreel.cli import elsewhere, many
from soundreel.cli.command_options import WHOLE_NUMBER, WORK, option
from soundreel.cli.display import AS_USUAL, DisplayOptions
from soundreel.cli.display_options import takes_display
from soundreel.cli.options import takes_requests, whole_number
from soundreel.cli.streams import answer, say
from soundreel.errors import InputError
from soundreel.request import BESIDE_THE_OUTPUT, Request, WorkOptions

SERVER, ELSEWHERE = "ComfyUI server", "Another machine"
"""Panels of the help for options that are no fields of `Request`."""

EXPORT_WORKFLOW: Final = option(
    "--export-workflow",
    help="Write the graph to this file and what belongs into the server's input folder beside it; render nothing.",
    metavar="FILE",
    panel=SERVER,
)
WORK_DIR: Final = option(
    "--work-dir", help="Folder for finished clips (default: one of its own in .soundreel beside the video).", panel=WORK
)
KEEP_WORK: Final = option(
    "--keep-work/--no-keep-work",
    help="Keep the clips after success, too (default: of native renders and those with cuts).",
    panel=WORK,
)
RESUME: Final = option(
    "--resume/--no-resume", help="Go on with an interrupted render (default), or begin anew.", panel=WORK
)
REDO_CLIP: Final = option(
    "--redo-clip",
    help="As the command redo: clip K of a kept render with another seed, and what depends on it.",
    metavar="K",
    panel=WORK,
)
REMOTE: Final = option(
    "--remote",
    help="Render on a soundreel server; --models, --lora and --workflow are its names then.",
    metavar="URL",
    panel=ELSEWHERE,
)
TOKEN_FILE: Final = option(
    "--token-file", help="File with the token that the server asks for.", metavar="F", panel=ELSEWHERE
)


@takes_requests
@takes_display
def generate(  # noqa: PLR0913, PLR0917 - options, as typer reads them
    requests: list[Request],
    display: DisplayOptions,
    work_dir: Annotated[str | None, WORK_DIR] = None,
    keep_work: Annotated[bool | None, KEEP_WORK] = None,
    resume: Annotated[bool, RESUME] = True,
    redo_clip: Annotated[str | None, REDO_CLIP] = None,
    export_workflow: Annotated[str | None, EXPORT_WORKFLOW] = None,
    remote: Annotated[str | None, REMOTE] = None,
    token_file: Annotated[str | None, TOKEN_FILE] = None,
) -> None:
    """Turn a sound into a video that moves with it. Several sounds, or seeds, become a video each, with one loading."""
    request, *more = requests
    for_one = {"--work-dir": work_dir, "--redo-clip": redo_clip, "--export-workflow": export_workflow}
    named = next((option for option, value in for_one.items() if value is not None), None)
    if more and named is not None:
        raise InputError(f"{named} is for one video, and {len(requests)} are asked for: give one sound and one seed")
    if export_workflow is not None:
        _export(request, export_workflow, is_silent=display.is_silent)
        return
    number = whole_number(redo_clip, "redo_clip")
    work = WorkOptions(work_dir=work_dir, keep_work=keep_work, resume=resume, redo_clip=number)
    if remote is not None or token_file is not None:
        elsewhere.render_there(requests, display, work, url=remote, token_file=token_file)
    elif more:
        many.render_all(requests, display, work)
    else:
        render(request, display, work=work)


def _export(request: Request, target: str, *, is_silent: bool) -> None:
    """Write a render's graph and its input files, and name them."""
    from soundreel.engines.comfyui.export import export_workflow
    from soundreel.pipeline import excerpt

    files = export_workflow(request, target)
    if not is_silent and (shown := excerpt(request)):
        say(f"note: {shown}")
    for file in files:
        answer(file)


def render(request: Request, display: DisplayOptions = AS_USUAL, *, work: WorkOptions = BESIDE_THE_OUTPUT) -> None:
    """Render with a display."""
    from soundreel.pipeline import generate as generate_video

    many.render_with(generate_video, request, display, work)


@takes_display
def demo(
    output_dir: Annotated[str, typer.Option("--output-dir", help="Where the videos go.")] = "output/demo",
    frames: Annotated[str | None, option(help="Only so many frames.", metavar=WHOLE_NUMBER)] = None,
    *,
    display: DisplayOptions,
) -> None:
    """Render the example sound, without and with a reference image, and a song by its storyboard."""
    from soundreel.cli.examples import example_requests

    requests = example_requests(Path(output_dir), whole_number(frames, "frames"))
    for number, (what, request) in enumerate(requests.items(), start=1):
        if display.is_for_people:
            say(f"{number} of {len(requests)}: {what}")
        render(request, display, work=WorkOptions(keep_work=False))
