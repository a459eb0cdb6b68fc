"""Commands that look and tell: what a render would take, what a file holds, how good it is, what this machine can."""

from typing import Annotated

import typer

from soundreel.cli.command_options import AS_JSON, EVERY_CLIP, WHOLE_NUMBER, option
from soundreel.cli.display_options import takes_verbosity
from soundreel.cli.options import takes_request, whole_number
from soundreel.cli.streams import say
from soundreel.errors import InputError
from soundreel.request import Request


@takes_request
@takes_verbosity
def plan(
    request: Request,
    every_clip: Annotated[bool, EVERY_CLIP] = False,
    as_json: Annotated[bool, AS_JSON] = False,
) -> None:
    """Show what a render would make and take; render nothing."""
    from soundreel.cli import plan_report, reports

    reports.show(plan_report.describe_plan(request, every_clip=every_clip), as_json=as_json)


@takes_request
@takes_verbosity
def storyboard(
    request: Request,
    voice: Annotated[
        str | None,
        option("--voice", help="File with the separated voice: no cut lies in it.", metavar="FILE"),
    ] = None,
    sheet: Annotated[
        str | None,
        option(
            "--sheet",
            help="Draw song and shots as one picture, .png or .jpg; of a video with its frames and scores.",
            metavar="FILE",
        ),
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Write over a storyboard that is there.")] = False,
    *,
    quiet: bool,
) -> None:
    """Propose a storyboard for a song, a file to edit; of a finished video write down the one that it was made by."""
    from soundreel.cli.storyboards import write_storyboard

    write_storyboard(request, voice=voice, sheet=sheet, is_replaced=replace, is_silent=quiet)


@takes_verbosity
def info(
    file: Annotated[str, typer.Argument(help="A video that soundreel made, or any other; or a song.")],
    every_clip: Annotated[bool, EVERY_CLIP] = False,
    stem: Annotated[
        str | None,
        option(
            "--stem",
            help="Of a song: a file with its separated voice, or vocals: separate it now (default: the mix tells).",
            metavar="vocals|FILE",
        ),
    ] = None,
    as_json: Annotated[bool, AS_JSON] = False,
) -> None:
    """Show what is in a video (picture, sound, its recipe) or in a song (its strongest parts, beat and sections)."""
    from soundreel.cli import reports, song_report, video_report
    from soundreel.media.video import has_pictures

    if has_pictures(file):
        reports.show(video_report.describe_video(file, every_clip=every_clip), as_json=as_json)
    else:
        reports.show(song_report.describe_song(file, stem=stem, every_section=every_clip), as_json=as_json)


@takes_verbosity
def score(
    video: Annotated[str, typer.Argument(help="A video that soundreel made, or any other.", show_default=False)],
    worst: Annotated[
        str | None,
        option("--worst", help="Show only so many shots, the weakest.", metavar=WHOLE_NUMBER),
    ] = None,
    lips: Annotated[
        bool | None,
        option("--lips/--no-lips", help="Look for a face (default: if its packages are here)."),
    ] = None,
    every_shot: Annotated[bool, typer.Option("--all", help="Show every shot of a long one, not only some.")] = False,
    as_json: Annotated[bool, AS_JSON] = False,
) -> None:
    """Score a video: does it move with its sound, do lips, does the picture drift; each number beside its control."""
    from soundreel.cli import reports, score_report
    from soundreel.scoring import score as score_video

    count = whole_number(worst, "--worst")
    if count is not None and count < 1:
        raise InputError(f"--worst is {count}: expected a number of shots, at least 1")
    scores = score_video(video, lips=lips)
    reports.show(score_report.describe_scores(scores, worst=count, every_shot=every_shot), as_json=as_json)


@takes_verbosity
def doctor(
    as_json: Annotated[bool, AS_JSON] = False,
    calibrate: Annotated[
        bool,
        typer.Option(
            "--calibrate",
            help="Measure this machine for a minute, so that plans and the time left are right from then on.",
        ),
    ] = False,
    device: Annotated[str, typer.Option("--device", help="Of --calibrate: auto, cpu, cuda, cuda:1, mps.")] = "auto",
    *,
    quiet: bool,
) -> None:
    """Show what this machine can run, and what mends what is missing."""
    from soundreel.cli import reports

    if calibrate:
        tell = (lambda _: None) if quiet else (lambda what: say(f"measuring: {what}"))
        reports.show(reports.calibrate_machine(device, tell), as_json=as_json)
        return
    reports.show(reports.describe_machine(), as_json=as_json)
