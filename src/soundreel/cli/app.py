"""The command line: options → `Request`, and each command's call."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from soundreel import __version__
from soundreel.cli import elsewhere, group, many, models
from soundreel.cli.batch import batch
from soundreel.cli.display import AS_USUAL, DisplayOptions, open_display
from soundreel.cli.display_options import takes_display, takes_verbosity, verbose_option
from soundreel.cli.group import SoundreelGroup
from soundreel.cli.guard import guard
from soundreel.cli.help import HelpfulTyper
from soundreel.cli.options import METAVARS, takes_encoding, takes_request, takes_requests, whole_number
from soundreel.cli.serve import serve
from soundreel.cli.signals import ignore_signals
from soundreel.cli.statements import (
    interpolation_begins,
    interpolation_ends,
    joining_begins,
    joining_ends,
)
from soundreel.cli.streams import answer, report, say
from soundreel.cli.studio import studio
from soundreel.errors import InputError
from soundreel.request import BESIDE_THE_OUTPUT, Interpolation, Request, WorkOptions, is_storyboard
from soundreel.units import DEFAULT_CRF, MAX_CRF

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


app.add_typer(models.app, name="models")
app.command()(serve)
app.command()(studio)
app.command()(batch)


def main() -> None:
    """The command line as a process of its own."""
    try:
        guard(app)
    finally:
        ignore_signals()


WORK, RENDER, SERVER = "Interrupted renders", "Output", "ComfyUI server"
"""Panels of the help for options that are no fields of `Request`."""

ELSEWHERE = "Another machine"

WHOLE_NUMBER = METAVARS[int]

EXPORT_WORKFLOW = typer.Option(
    "--export-workflow",
    help="Write the graph to this file and what belongs into the server's input folder beside it; render nothing.",
    metavar="FILE",
    show_default=False,
    rich_help_panel=SERVER,
)
AS_JSON = typer.Option("--json", help="Print JSON for programs.")
EVERY_CLIP = typer.Option("--all", help="Show every clip of a long one, not only some; JSON has all.")
WORK_DIR = typer.Option(
    "--work-dir",
    help="Folder for finished clips (default: one of its own in .soundreel beside the video).",
    rich_help_panel=WORK,
    show_default=False,
)
KEEP_WORK = typer.Option(
    "--keep-work/--no-keep-work",
    help="Keep the clips after success, too (default: of native renders and those with cuts).",
    rich_help_panel=WORK,
    show_default=False,
)
RESUME = typer.Option(
    "--resume/--no-resume",
    help="Go on with an interrupted render (default), or begin anew.",
    rich_help_panel=WORK,
    show_default=False,
)
CALIBRATE = typer.Option(
    "--calibrate", help="Measure this machine for a minute, so that plans and the time left are right from then on."
)
TRUST_FOLDER = typer.Option(
    "--trust-folder",
    help="Follow what the folder says, though you have not begun it here: which files are read and where they go. They "
    "are shown first.",
    rich_help_panel=WORK,
)
REMOTE = typer.Option(
    "--remote",
    help="Render on a soundreel server; --models, --lora and --workflow are its names then.",
    metavar="URL",
    rich_help_panel=ELSEWHERE,
    show_default=False,
)
TOKEN_FILE = typer.Option(
    "--token-file",
    help="File with the token that the server asks for.",
    metavar="F",
    rich_help_panel=ELSEWHERE,
    show_default=False,
)
REDO_CLIP = typer.Option(
    "--redo-clip",
    help="As the command redo: clip K of a kept render with another seed, and what depends on it.",
    metavar="K",
    rich_help_panel=WORK,
    show_default=False,
)


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


@app.command()
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


def _show_places(request: Request) -> None:
    """Say which files and servers of a folder are followed, before any of them is."""
    from soundreel.render.named_places import named_places

    say(f"from the folder: {named_places(request)}")


@app.command()
@takes_display
def resume(
    folder: Annotated[
        str, typer.Argument(metavar="DIR", help="A work folder, a plan in it, or a folder with one render under way.")
    ],
    trust_folder: Annotated[bool, TRUST_FOLDER] = False,
    *,
    display: DisplayOptions,
) -> None:
    """Go on with an interrupted render."""
    from soundreel.render.unfinished import load_render

    request, work = load_render(folder, is_trusted=trust_folder)
    if trust_folder and not display.is_silent:
        _show_places(request)
    render(request, display, work=work)


@app.command(context_settings={"ignore_unknown_options": True})  # -1 is a number that is out of range, no option
@takes_display
def redo(
    source: Annotated[
        str,
        typer.Argument(
            metavar="DIR|VIDEO|STORYBOARD",
            help="A work folder, a plan in it, a video whose work folder is kept, or a storyboard: its newest render.",
        ),
    ],
    what: Annotated[
        str, typer.Argument(metavar="SHOT|NUMBER", help="Name of a shot or a section, or number of a clip, from 1.")
    ],
    seed: Annotated[
        str | None,
        typer.Option(
            "--seed", help="Of the first clip (default: one it has not had).", metavar=WHOLE_NUMBER, show_default=False
        ),
    ] = None,
    take: Annotated[
        str | None,
        typer.Option(
            "--take",
            help="Of a storyboard's renders that one, from 1 (default: the newest).",
            metavar=WHOLE_NUMBER,
            show_default=False,
        ),
    ] = None,
    work_dir: Annotated[
        str | None, typer.Option("--work-dir", help="Where the clips of VIDEO are kept.", show_default=False)
    ] = None,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="Name of the new video (default: _take2, …).", show_default=False),
    ] = None,
    trust_folder: Annotated[bool, TRUST_FOLDER] = False,
    *,
    display: DisplayOptions,
) -> None:
    """Draw a shot or a clip of a kept or unfinished render again, and what depends on it; the earlier video stays."""
    from soundreel.render.unfinished import load_redo

    request, work = load_redo(
        source,
        whole_number(what, "clip") if what.lstrip("+-").isdecimal() else what,
        seed=whole_number(seed, "seed"),
        take=whole_number(take, "take"),
        work_dir=work_dir,
        output=output,
        is_trusted=trust_folder,
    )
    if is_storyboard(source) and not display.is_silent:
        say(f"of {source} this render is taken: {request.output.path or work.work_dir}")
    if trust_folder and not display.is_silent:
        _show_places(request)
    render(request, display, work=work)


@app.command()
@takes_encoding
@takes_display
def reprint(
    source: Annotated[
        str,
        typer.Argument(metavar="DIR|VIDEO", help="A work folder, a plan in it, or a video whose work folder is kept."),
    ],
    encoding: Mapping[str, Any],
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", help="Name of the new video (default: _print2, …).", show_default=False),
    ] = None,
    work_dir: Annotated[
        str | None, typer.Option("--work-dir", help="Where the clips of VIDEO are kept.", show_default=False)
    ] = None,
    trust_folder: Annotated[bool, TRUST_FOLDER] = False,
    *,
    display: DisplayOptions,
) -> None:
    """Print a kept render again, encoded otherwise: never a pass of the model. The earlier video stays."""
    from soundreel.render.unfinished import load_reprint

    request, work = load_reprint(source, encoding, work_dir=work_dir, output=output, is_trusted=trust_folder)
    if trust_folder and not display.is_silent:
        _show_places(request)
    render(request, display, work=work)


@app.command()
@takes_verbosity
def unfinished(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="Where to look, folders in it included.")] = ".",
    as_json: Annotated[bool, AS_JSON] = False,
) -> None:
    """List unfinished renders, how far they are, and how to go on."""
    from soundreel.cli import reports
    from soundreel.render.stored_renders import find_renders

    reports.show(reports.describe_renders(find_renders(folder)), as_json=as_json)


@app.command()
@takes_verbosity
def clean(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="Where to look, folders in it included.")] = ".",
    everything: Annotated[bool, typer.Option("--all", help="Those of unfinished renders, too.")] = False,
    older_than: Annotated[
        str | None,
        typer.Option("--older-than", help="Only what is so old: 7d, 12h.", metavar="<time>", show_default=False),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be removed.")] = False,
    as_json: Annotated[bool, AS_JSON] = False,
) -> None:
    """Remove the work folders of finished renders: what redo and reprint need. Videos stay."""
    from soundreel.cli import reports
    from soundreel.render import cleaning

    age = None if older_than is None else cleaning.parse_age(older_than)
    cleaned = cleaning.clean(folder, unfinished=everything, older_than=age, dry_run=dry_run)
    reports.show(reports.describe_cleaning(cleaned, dry_run=dry_run), as_json=as_json)


app.command("jobs", hidden=True, help="Another name of `unfinished`.")(unfinished)


@app.command()
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


@app.command()
@takes_request
@takes_verbosity
def storyboard(
    request: Request,
    voice: Annotated[
        str | None,
        typer.Option(
            "--voice", help="File with the separated voice: no cut lies in it.", metavar="FILE", show_default=False
        ),
    ] = None,
    sheet: Annotated[
        str | None,
        typer.Option(
            "--sheet",
            help="Draw song and shots as one picture, .png or .jpg; of a video with its frames and scores.",
            metavar="FILE",
            show_default=False,
        ),
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Write over a storyboard that is there.")] = False,
    *,
    quiet: bool,
) -> None:
    """Propose a storyboard for a song, a file to edit; of a finished video write down the one that it was made by."""
    from soundreel.cli.storyboards import write_storyboard

    write_storyboard(request, voice=voice, sheet=sheet, is_replaced=replace, is_silent=quiet)


@app.command()
@takes_display
def interpolate(  # noqa: PLR0913, PLR0917 - options, as typer reads them
    video: Annotated[str, typer.Argument(help="Any video, with any sound or none.", show_default=False)],
    fps: Annotated[
        str | None,
        typer.Option("--fps", help="Frames per second to make.", metavar=WHOLE_NUMBER, show_default=False),
    ] = None,
    factor: Annotated[
        str | None,
        typer.Option("--factor", help="Times the rate it has (default 2).", metavar=WHOLE_NUMBER, show_default=False),
    ] = None,
    method: Annotated[
        str, typer.Option("--method", "--interpolate", help="motion, rife or film.")
    ] = Interpolation.MOTION.value,
    weights: Annotated[
        str | None, typer.Option("--weights", help="File of the network (default: found).", show_default=False)
    ] = None,
    models: Annotated[str | None, typer.Option("--models", help="The models folder.", show_default=False)] = None,
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


@app.command()
@takes_display
def join(
    videos: Annotated[
        list[str], typer.Argument(metavar="VIDEO", help="At least two, in their order.", show_default=False)
    ],
    output: Annotated[
        str | None,
        typer.Option(
            "--output",
            "-o",
            help="Name of the video, replaced if it is there (default: FIRST_joined.mp4).",
            show_default=False,
        ),
    ] = None,
    sound: Annotated[
        str | None,
        typer.Option("--sound", help="The file that they were made from (default: found).", show_default=False),
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


@app.command()
@takes_verbosity
def info(
    file: Annotated[str, typer.Argument(help="A video that soundreel made, or any other; or a song.")],
    every_clip: Annotated[bool, EVERY_CLIP] = False,
    stem: Annotated[
        str | None,
        typer.Option(
            "--stem",
            help="Of a song: a file with its separated voice, or vocals: separate it now (default: the mix tells).",
            metavar="vocals|FILE",
            show_default=False,
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


@app.command()
@takes_verbosity
def score(
    video: Annotated[str, typer.Argument(help="A video that soundreel made, or any other.", show_default=False)],
    worst: Annotated[
        str | None,
        typer.Option("--worst", help="Show only so many shots, the weakest.", metavar=WHOLE_NUMBER, show_default=False),
    ] = None,
    lips: Annotated[
        bool | None,
        typer.Option(
            "--lips/--no-lips", help="Look for a face (default: if its packages are here).", show_default=False
        ),
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


@app.command()
@takes_verbosity
def doctor(
    as_json: Annotated[bool, AS_JSON] = False,
    calibrate: Annotated[bool, CALIBRATE] = False,
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


@app.command()
@takes_display
def demo(
    output_dir: Annotated[str, typer.Option("--output-dir", help="Where the videos go.")] = "output/demo",
    frames: Annotated[
        str | None, typer.Option(help="Only so many frames.", metavar=WHOLE_NUMBER, show_default=False)
    ] = None,
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
