"""The command line: options → `Request`, errors → one message and an exit code.

Exit codes: 0 done, 2 wrong input, 3 unreadable media, 4 weights, 5 engine or server, 130 cancelled.
"""

import dataclasses
import inspect
import os
import random
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from soundreel import __version__
from soundreel.cli import models
from soundreel.cli.display import Style, open_display
from soundreel.errors import Cancelled, InputError, SoundreelError
from soundreel.presets import PRESETS, preset
from soundreel.request import (
    BESIDE_THE_OUTPUT,
    AvAlign,
    ClipSplit,
    Keeping,
    Memory,
    Precision,
    RefFit,
    Request,
    Server,
    Solver,
    VaePrecision,
)

DEBUG_VARIABLE = "SOUNDREEL_DEBUG"
"""Set to anything, unexpected errors show their traceback."""


class SoundreelGroup(TyperGroup):
    """Lets `soundreel song.mp3` stand for `soundreel generate song.mp3`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Insert `generate` where the first word is no command but looks like a file."""
        if args and args[0] not in self.commands and _looks_like_file(args[0]):
            args = ["generate", *args]
        return super().parse_args(ctx, args)


def _looks_like_file(word: str) -> bool:
    return not word.startswith("-") and (Path(word).suffix != "" or os.sep in word or Path(word).exists())


app = typer.Typer(
    cls=SoundreelGroup,
    name="soundreel",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    # --num_clip and --num-clip are the same option
    context_settings={
        "token_normalize_func": lambda token: token.replace("_", "-"),
        "help_option_names": ["-h", "--help"],
    },
)


app.add_typer(models.app, name="models")


def main() -> None:
    """Run the command line and exit."""
    guard(app)


def guard(command: Callable[[], object]) -> None:
    """Run a command; any error becomes one line on standard error and the exit code that belongs to it."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        command()
    except SoundreelError as error:
        _fail("; ".join([str(error), *getattr(error, "__notes__", ())]), error.exit_code)
    except Exception as error:
        if DEBUG_VARIABLE in os.environ:
            raise
        _fail(f"{type(error).__name__}: {error} (a bug; {DEBUG_VARIABLE}=1 shows where)", 1)


def _fail(message: str, exit_code: int) -> None:
    sys.stderr.write(f"soundreel: {message}\n")
    sys.exit(exit_code)


WHAT, LENGTH, PICTURE, MODEL, SERVER, OUTPUT = "What", "Length", "Picture", "Model", "ComfyUI server", "Output"
WORK, SPEED = "Interrupted renders", "Speed (native)"


def _option(kind: Any, *names: str, does: str, panel: str) -> Any:
    parser: Callable[[str], Any] | None = {int: _whole_number, float: _number}.get(kind)
    metavar = {int: "<int>", float: "<float>"}.get(kind)
    option = typer.Option(*names, help=does, rich_help_panel=panel, show_default=False, parser=parser, metavar=metavar)
    return Annotated[kind, option]


def _whole_number(text: str) -> int:
    try:
        return int(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a whole number") from None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"{text!r} is not a number") from None


AUDIO = Annotated[
    str | None,
    typer.Argument(
        help="Any file with sound in it: mp3, wav, flac, m4a, ogg, opus, wma, a video. With --recipe not needed.",
        metavar="AUDIO",
        show_default=False,
    ),
]

OPTIONS: dict[str, Any] = {
    "ref_image": _option(str, "--ref-image", "--image", does="Picture that gives style and subject.", panel=WHAT),
    "prompt": _option(str, "--prompt", "--positive", does="What to see.", panel=WHAT),
    "negative_prompt": _option(str, "--negative-prompt", "--negative", does="What not to see.", panel=WHAT),
    "recipe": _option(
        str, "--recipe", does="A finished video to render again; single options win over its recipe.", panel=WHAT
    ),
    "preset": _option(str, "--preset", does=f"{', '.join(PRESETS)}; single options win over it.", panel=WHAT),
    "audio_start": _option(
        float,
        "--audio-start",
        does="Seconds into the sound where the video begins (default 0).",
        panel=LENGTH,
    ),
    "audio_duration": _option(float, "--audio-duration", does="Seconds of sound to use.", panel=LENGTH),
    "frames": _option(
        int, "--frames", does="Exact length at 16 fps (default 77, or what the sound has).", panel=LENGTH
    ),
    "full": _option(bool, "--full", does="All the sound from the start on.", panel=LENGTH),
    "num_clip": _option(int, "--num-clip", does="At most what this many clips yield.", panel=LENGTH),
    "width": _option(int, "--width", does="Pixels, a multiple of 16 (default 480).", panel=PICTURE),
    "height": _option(int, "--height", does="Pixels, a multiple of 16 (default 832).", panel=PICTURE),
    "size": _option(str, "--size", does="WIDTHxHEIGHT (or WIDTH*HEIGHT) in one word.", panel=PICTURE),
    "interpolate": _option(
        str,
        "--interpolate",
        does="none, or frames between frames by motion, rife or film (default none).",
        panel=PICTURE,
    ),
    "interpolate_weights": _option(
        str, "--interpolate-weights", does="File of the rife or film network (default: found).", panel=PICTURE
    ),
    "fps": _option(
        int, "--fps", does="Of the video, from 16: 24, 25, 30, 32, 60 … (default 16, interpolated 32).", panel=PICTURE
    ),
    "color_match": _option(
        bool, "--color-match/--no-color-match", does="Hold the first clip's colours and contrast.", panel=PICTURE
    ),
    "crf": _option(int, "--crf", does="H.264 quality, 0 best to 51 (default 18).", panel=PICTURE),
    "engine": _option(str, "--engine", does="auto, native, comfyui or draft (default auto).", panel=MODEL),
    "infer_frames": _option(int, "--infer-frames", does="Longest clip, a multiple of 4 (default 80).", panel=MODEL),
    "clip_split": _option(
        ClipSplit,
        "--clip-split",
        does="Equal clips, or full ones as the reference (default even).",
        panel=MODEL,
    ),
    "models": _option(str, "--models", "--ckpt-dir", does="Folder of the model, in any layout.", panel=MODEL),
    "device": _option(str, "--device", does="auto, cpu, cuda, cuda:1, mps (default auto).", panel=MODEL),
    "attention": _option(
        str, "--attention", does="auto (fastest exact), sdpa, cudnn, flash, sage, fp8 (default auto).", panel=SPEED
    ),
    "precision": _option(
        Precision, "--precision", does="Of the large products (default auto: fp8 for fp8 files).", panel=SPEED
    ),
    "vae_precision": _option(
        VaePrecision, "--vae-precision", does="Of the VAE (default auto: bf16 on GPUs; preset high fp32).", panel=SPEED
    ),
    "cache": _option(
        float, "--cache", does="Spare passes whose result is known to within this: 0.05 (default 0: none).", panel=SPEED
    ),
    "cfg_interval": _option(
        str, "--cfg-interval", does="Guide only this share of the steps: 0.0,0.8 (default all).", panel=SPEED
    ),
    "memory": _option(
        Memory, "--memory", does="Of the GPU: all, or at most so much; less takes fp8 (default auto).", panel=SPEED
    ),
    "solver": _option(Solver, "--solver", "--sample-solver", does="(default unipc)", panel=MODEL),
    "sigmas": _option(str, "--sigmas", does="Noise levels of few-step weights: 1.0,0.86,0.6,0.01", panel=MODEL),
    "loras": _option(list[str], "--lora", does="FILE or FILE:STRENGTH; several times if need be.", panel=MODEL),
    "pose_video": _option(str, "--pose-video", does="Video whose movements to follow.", panel=WHAT),
    "start_from_ref": _option(bool, "--start-from-ref", does="Begin with the reference image.", panel=WHAT),
    "ref_fit": _option(
        RefFit, "--ref-fit", does="Cover the frame, or bars as the reference (default cover).", panel=PICTURE
    ),
    "av_align": _option(
        AvAlign, "--av-align", does="Pair frame j with its own sound, or as the reference (default sound).", panel=MODEL
    ),
    "steps": _option(int, "--steps", "--sample-steps", does="Denoising steps (default 30).", panel=MODEL),
    "guide_scale": _option(
        float, "--guide-scale", "--sample-guide-scale", does="Guidance, 1 is off (default 4.5).", panel=MODEL
    ),
    "shift": _option(float, "--shift", "--sample-shift", does="Flow shift (default 3, from 720p 5).", panel=MODEL),
    "seed": _option(int, "--seed", "--base-seed", does="Same seed, same video; -1 draws one (default 0).", panel=MODEL),
    "urls": _option(
        list[str], "--url", does="A server (default http://localhost:8188); of several the least busy.", panel=SERVER
    ),
    "headers": _option(list[str], "--header", does="'Name: value' for a proxy that asks who you are.", panel=SERVER),
    "timeout": _option(float, "--timeout", does="Longest time without progress, in seconds.", panel=SERVER),
    "workflow": _option(str, "--workflow", does="Your own graph in API format, filled in.", panel=SERVER),
    "diffusion_model": _option(str, "--diffusion-model", "--unet", does="File on the server.", panel=SERVER),
    "text_encoder": _option(str, "--text-encoder", "--clip", does="File on the server.", panel=SERVER),
    "vae": _option(str, "--vae", does="File on the server.", panel=SERVER),
    "audio_encoder": _option(str, "--audio-encoder", does="File on the server.", panel=SERVER),
    "first_frame_fix": _option(
        bool,
        "--first-frame-fix/--no-first-frame-fix",
        does="Decode the first latent frame twice (default yes).",
        panel=SERVER,
    ),
    "preview": _option(bool, "--preview", does="Keep a small picture of what is being rendered.", panel=OUTPUT),
    "output": _option(
        str, "--output", "-o", "--save-file", does="Name of the video, replaced if it is there.", panel=OUTPUT
    ),
    "output_dir": _option(str, "--output-dir", does="Folder for automatic names (default output/video).", panel=OUTPUT),
    "settings": _option(str, "--settings", does="Tag in the automatic name (default the engine).", panel=OUTPUT),
}
"""What `generate` and `plan` accept beside the sound: both vocabularies, one option each."""


SERVER_OPTIONS = tuple(field.name for field in dataclasses.fields(Server))
"""Those of `OPTIONS` that are fields of `Server`."""


def build_request(audio: str | None, **options: Any) -> Request:
    """A `Request` from the values of `OPTIONS`: recipe, then preset, what is given by itself over both."""
    given = {name: value for name, value in options.items() if value is not None}
    fields = _from_recipe(given.pop("recipe"), given) if "recipe" in given else {}
    fields |= preset(given.pop("preset")) if "preset" in given else {}
    if "size" in given:
        fields |= parse_size(given.pop("size"))
    if "sigmas" in given:
        given["sigmas"] = parse_numbers(given["sigmas"], "--sigmas", "1.0,0.86,0.6")
    if "cfg_interval" in given:
        given["cfg_interval"] = parse_numbers(given["cfg_interval"], "--cfg-interval", "0.0,0.8")
    given |= {name: tuple(given[name]) for name in ("loras", "urls", "headers") if name in given}
    if "urls" in given:
        given.setdefault("engine", "comfyui")
    server = {name: given.pop(name) for name in SERVER_OPTIONS if name in given}
    if server:
        given["server"] = dataclasses.replace(fields.get("server", Server()), **server)
    if "seed" in given:
        given["seed"] = draw_seed(given["seed"])
    if "num_clip" in given and not given.keys() & {"frames", "audio_duration"}:
        given["full"] = True  # K clips of the sound, not the default 77 frames
    if audio is not None:
        given["audio"] = audio
    if "audio" not in fields | given:
        raise InputError("there is no sound: give a file, or with --recipe a finished video")
    return Request(**(fields | given))


LENGTHS = ("frames", "audio_duration", "full", "num_clip")


def _from_recipe(video: str, given: Mapping[str, Any]) -> dict[str, Any]:
    """The request of a finished video; what was given anew takes along what hangs on it."""
    from soundreel.render.recipe import request_fields

    fields = request_fields(video)
    dropped = {name for name in LENGTHS if given.keys() & set(LENGTHS)}
    if dropped or given.keys() & {"seed", "infer_frames", "clip_split"}:
        dropped.add("clip_seeds")
    return {name: value for name, value in fields.items() if name not in dropped}


def draw_seed(seed: int) -> int:
    """The seed itself, or for a negative one a random seed, as the reference's `--base_seed -1`."""
    return seed if seed >= 0 else random.SystemRandom().randrange(2**31)


def parse_size(text: str) -> dict[str, int]:
    """`480x832` or `480*832` → {"width": 480, "height": 832}."""
    sides = text.lower().replace("*", "x").replace("×", "x").split("x")
    if len(sides) != 2 or not all(side.strip().isdecimal() for side in sides):
        raise InputError(f"--size is {text!r}: expected WIDTHxHEIGHT, for example 480x832")
    return {"width": int(sides[0]), "height": int(sides[1])}


def parse_numbers(text: str, option: str, example: str) -> tuple[float, ...]:
    """`1.0,0.86,0.6` → (1.0, 0.86, 0.6)."""
    try:
        return tuple(float(number) for number in text.split(","))
    except ValueError:
        raise InputError(f"{option} is {text!r}: expected numbers with commas between, as {example}") from None


def takes_request(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command `OPTIONS` beside its own options, and the finished request as first argument."""
    own = list(inspect.signature(command).parameters.values())[1:]

    def run(audio: str | None, **options: Any) -> None:
        request = build_request(audio, **{name: options.pop(name) for name in OPTIONS})
        command(request, **options)

    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        inspect.Parameter("audio", keyword, default=None, annotation=AUDIO),
        *(inspect.Parameter(name, keyword, default=None, annotation=kind) for name, kind in OPTIONS.items()),
        *(parameter.replace(kind=keyword) for parameter in own),
    ]
    run.__name__, run.__doc__ = command.__name__, command.__doc__
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    return run


QUIET = typer.Option("--quiet", "-q", help="Print nothing but the path of the video.", rich_help_panel=OUTPUT)
PROGRESS = typer.Option(
    "--progress",
    help="auto, bar, lines, json (events for programs) or none.",
    rich_help_panel=OUTPUT,
    show_default=False,
)
EXPORT_WORKFLOW = typer.Option(
    "--export-workflow",
    help="Write the graph to this file and what belongs into the server's input folder beside it; render nothing.",
    metavar="FILE",
    show_default=False,
    rich_help_panel=SERVER,
)
AS_JSON = typer.Option("--json", help="Print JSON for programs.")
WORK_DIR = typer.Option(
    "--work-dir",
    help="Folder for finished clips, of this render alone (default: .soundreel beside the video).",
    rich_help_panel=WORK,
    show_default=False,
)
KEEP_WORK = typer.Option("--keep-work", help="Keep the finished clips after success, too.", rich_help_panel=WORK)
RESUME = typer.Option(
    "--resume/--no-resume", help="Go on with an interrupted render, or begin anew.", rich_help_panel=WORK
)
CALIBRATE = typer.Option(
    "--calibrate", help="Measure this machine for a minute, so that plans and the time left are right from then on."
)
REDO_CLIP = typer.Option(
    "--redo-clip",
    help="Render clip K of a kept render with another seed, and what depends on it.",
    metavar="K",
    rich_help_panel=WORK,
    show_default=False,
)


def _show_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"soundreel {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Sound in, synchronized video out. `soundreel song.mp3` is all it takes."""


@app.command()
@takes_request
def generate(
    request: Request,
    progress: Annotated[Style, PROGRESS] = Style.AUTO,
    quiet: Annotated[bool, QUIET] = False,
    work_dir: Annotated[str | None, WORK_DIR] = None,
    keep_work: Annotated[bool, KEEP_WORK] = False,
    resume: Annotated[bool, RESUME] = True,
    redo_clip: Annotated[int | None, REDO_CLIP] = None,
    export_workflow: Annotated[str | None, EXPORT_WORKFLOW] = None,
) -> None:
    """Turn a sound into a video that moves with it."""
    if export_workflow is not None:
        from soundreel.engines.comfyui.export import export_workflow as export

        for file in export(request, export_workflow):
            typer.echo(file)
        return
    keeping = Keeping(work_dir=work_dir, keep_work=keep_work, resume=resume, redo_clip=redo_clip)
    render(request, progress, quiet=quiet, keeping=keeping)


def render(
    request: Request, style: Style = Style.AUTO, *, quiet: bool = False, keeping: Keeping = BESIDE_THE_OUTPUT
) -> None:
    """Render with a display; a `KeyboardInterrupt` becomes `Cancelled`."""
    from soundreel.pipeline import generate as generate_video

    try:
        with open_display(style, quiet=quiet) as display:
            display.finish(generate_video(request, display, on_start=display.start, keeping=keeping))
    except KeyboardInterrupt as stop:
        kept = getattr(stop, "__notes__", ["nothing was saved"])
        raise Cancelled(", ".join(["cancelled", *kept])) from None


@app.command()
def resume(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="A work folder, or a folder with one render under way.")],
    progress: Annotated[Style, PROGRESS] = Style.AUTO,
    quiet: Annotated[bool, QUIET] = False,
) -> None:
    """Go on with an interrupted render."""
    from soundreel.render.unfinished import load_job

    request, keeping = load_job(folder)
    render(request, progress, quiet=quiet, keeping=keeping)


@app.command()
def jobs(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="Where to look, folders in it included.")] = ".",
    as_json: Annotated[bool, AS_JSON] = False,
) -> None:
    """List unfinished renders, how far they are, and how to go on."""
    from soundreel.cli import reports
    from soundreel.render.unfinished import find_jobs

    reports.show(reports.describe_jobs(find_jobs(folder)), as_json=as_json)


@app.command()
@takes_request
def plan(request: Request, as_json: Annotated[bool, AS_JSON] = False) -> None:
    """Show what a render would make and take; render nothing."""
    from soundreel.cli import reports

    reports.show(reports.describe_plan(request), as_json=as_json)


@app.command()
def interpolate(  # noqa: PLR0913, PLR0917 - options, as typer reads them
    video: Annotated[str, typer.Argument(help="Any video, with any sound or none.", show_default=False)],
    fps: Annotated[int | None, typer.Option("--fps", help="Frames per second to make.", show_default=False)] = None,
    factor: Annotated[
        int | None, typer.Option("--factor", help="Times the rate it has (default 2).", show_default=False)
    ] = None,
    method: Annotated[str, typer.Option("--method", "--interpolate", help="motion, rife or film.")] = "motion",
    weights: Annotated[
        str | None, typer.Option("--weights", help="File of the network (default: found).", show_default=False)
    ] = None,
    models: Annotated[str | None, typer.Option("--models", help="The models folder.", show_default=False)] = None,
    device: Annotated[str, typer.Option("--device", help="auto, cpu, cuda, cuda:1, mps.")] = "auto",
    crf: Annotated[int, typer.Option("--crf", help="H.264 quality, 0 best to 51.")] = 18,
    output: Annotated[
        str | None, typer.Option("--output", "-o", help="Name of the video, replaced if it is there.")
    ] = None,
    quiet: Annotated[bool, QUIET] = False,
) -> None:
    """Make a video smoother: frames between its frames, its sound copied bit for bit."""
    from soundreel.cli.display import retiming_lines
    from soundreel.interpolation.video import Retime, Retiming, interpolate_video

    def tell(job: Retiming) -> None:
        for line in [] if quiet else retiming_lines(job):
            sys.stderr.write(f"{line}\n")

    try:
        request = Retime(
            video=video,
            fps=fps,
            factor=factor,
            method=method,
            weights=weights,
            models=models,
            device=device,
            crf=crf,
            output=output,
        )
        made = interpolate_video(request, on_start=tell)
    except KeyboardInterrupt:
        raise Cancelled("cancelled, nothing was saved") from None
    typer.echo(str(made.path))


@app.command()
def info(
    video: Annotated[str, typer.Argument(help="A video that soundreel made, or any other.")],
    as_json: Annotated[bool, AS_JSON] = False,
) -> None:
    """Show what is in a video: picture, sound, and the recipe it was made by."""
    from soundreel.cli import reports

    reports.show(reports.describe_video(video), as_json=as_json)


@app.command()
def doctor(
    as_json: Annotated[bool, AS_JSON] = False,
    calibrate: Annotated[bool, CALIBRATE] = False,
    device: Annotated[str, typer.Option("--device", help="Of --calibrate: auto, cpu, cuda, cuda:1, mps.")] = "auto",
) -> None:
    """Show what this machine can run, and what mends what is missing."""
    from soundreel.cli import reports

    if calibrate:
        reports.show(
            reports.calibrate_machine(device, lambda what: sys.stderr.write(f"measuring: {what}\n")), as_json=as_json
        )
        return
    reports.show(reports.describe_machine(), as_json=as_json)


@app.command()
def demo(
    output_dir: Annotated[str, typer.Option("--output-dir", help="Where the videos go.")] = "output/demo",
    frames: Annotated[int | None, typer.Option(help="Only so many frames.", show_default=False)] = None,
) -> None:
    """Render the example sound, without and with a reference image."""
    from soundreel.cli.examples import example_requests

    for request in example_requests(Path(output_dir), frames):
        render(request)
