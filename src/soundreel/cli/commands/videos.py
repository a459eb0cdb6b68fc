"""Commands on finished videos, whoever made them: frames between frames, and one video of several."""

from typing import Annotated

import typer

from soundreel.cli.command_options import WHOLE_NUMBER, option
from soundreel.cli.display import DisplayOptions, open_display
from soundreel.cli.display_options import takes_display
from soundreel.cli.options import whole_number
from soundreel.cli.statements import interpolation_begins, interpolation_ends, joining_begins, joining_ends
from soundreel.request import Interpolation
from soundreel.units import DEFAULT_CRF, MAX_CRF


@takes_display
def interpolate(  # noqa: PLR0913, PLR0917 - options, as typer reads them
    video: Annotated[str, typer.Argument(help="Any video, with any sound or none.", show_default=False)],
    fps: Annotated[
        str | None,
        option("--fps", help="Frames per second to make.", metavar=WHOLE_NUMBER),
    ] = None,
    factor: Annotated[
        str | None,
        option("--factor", help="Times the rate it has (default 2).", metavar=WHOLE_NUMBER),
    ] = None,
    method: Annotated[
        str, typer.Option("--method", "--interpolate", help="motion, rife or film.")
    ] = Interpolation.MOTION.value,
    weights: Annotated[str | None, option("--weights", help="File of the network (default: found).")] = None,
    models: Annotated[str | None, option("--models", help="The models folder.")] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    crf: Annotated[str, typer.Option("--crf", help=f"H.264 quality, 0 best to {MAX_CRF}.", metavar=WHOLE_NUMBER)] = str(
        DEFAULT_CRF
    ),
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="Name of the video, replaced if it is there.")
    ] = None,
    *,
    display: DisplayOptions,
) -> None:
    """Make a video smoother: frames between its frames, its sound copied bit for bit."""
    from soundreel.interpolation.video import VideoInterpolation, interpolate_video

    request = VideoInterpolation(
        video=video,
        fps=whole_number(fps, "--fps"),
        factor=whole_number(factor, "--factor"),
        method=method,
        weights=weights,
        models=models,
        device=device,
        crf=whole_number(crf, "--crf"),
        output=output,
    )
    with open_display(display) as shown:
        made = interpolate_video(request, shown, on_start=lambda begun: shown.start(interpolation_begins(begun)))
        shown.finish(made.path, interpolation_ends(made))


@takes_display
def join(
    videos: Annotated[
        list[str], typer.Argument(metavar="VIDEO", help="At least two, in their order.", show_default=False)
    ],
    output: Annotated[
        str | None,
        option("--output", "-o", help="Name of the video, replaced if it is there (default: FIRST_joined.mp4)."),
    ] = None,
    sound: Annotated[
        str | None,
        option("--sound", help="The file that they were made from (default: found)."),
    ] = None,
    reencode: Annotated[
        bool, typer.Option("--reencode", help="Encode all pictures anew, as large and fast as the first video's.")
    ] = False,
    crf: Annotated[int, typer.Option("--crf", help=f"H.264 quality then, 0 best to {MAX_CRF}.")] = DEFAULT_CRF,
    no_recipe: Annotated[bool, typer.Option("--no-recipe", help="Do not say in it what it is made of.")] = False,
    *,
    display: DisplayOptions,
) -> None:
    """Make one video of several: pictures as they are, the sound going on where they follow each other."""
    from soundreel.render.joining import Joining, join_videos

    request = Joining(
        videos=tuple(videos),
        output=output,
        sound=sound,
        reencode=reencode,
        crf=crf,
        write_recipe=not no_recipe,
    )
    with open_display(display) as shown:
        made = join_videos(request, shown, on_start=lambda begun: shown.start(joining_begins(begun)))
        shown.finish(made.path, joining_ends(made))
