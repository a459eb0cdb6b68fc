#!/usr/bin/env python3
"""Sound to video with the command line of the official Wan 2.2 script, for its task s2v-14B.

    python scripts/generate.py --task s2v-14B --ckpt_dir DIR --image five.png --audio talk.wav --size 480*832
    torchrun --nproc_per_node=2 scripts/generate.py --task s2v-14B --dit_fsdp --t5_fsdp --ulysses_size 2 …

It calls `soundreel`: as in the official script, `--size` is an area, and size, image and clips follow its rules.
"""

import argparse
import os
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path

from soundreel.cli.commands.rendering import render
from soundreel.cli.guard import guard
from soundreel.cli.options import draw_seed, parse_size
from soundreel.cli.streams import say
from soundreel.errors import EngineError, InputError
from soundreel.media.image import load_plain_image
from soundreel.request import AvAlign, ClipSplit, Compute, Guide, Output, Parallel, RefFit, Request, Sampling, Window
from soundreel.request.video_size import size_for_area

TASK = "s2v-14B"

SIZES = ("720*1280", "1280*720", "480*832", "832*480", "704*1280", "1280*704", "1024*704", "704*1024")

EXAMPLE_PROMPT = (
    "Summer beach vacation style, a white cat wearing sunglasses sits on a surfboard. The fluffy-furred feline gazes "
    "directly at the camera with a relaxed expression. Blurred beach scenery forms the background featuring "
    "crystal-clear waters, distant green hills, and a blue sky dotted with white clouds. The cat assumes a naturally "
    "relaxed posture, as if savoring the sea breeze and warm sunlight. A close-up shot highlights the feline's "
    "intricate details and the refreshing atmosphere of the seaside."
)

EXAMPLE_AUDIO, EXAMPLE_IMAGE = Path("examples/talk.wav"), Path("examples/i2v_input.JPG")
"""Defaults of the official script; the files exist only in a checkout of its repository."""

WITHOUT_EFFECT = ("offload_model", "convert_model_dtype", "t5_cpu")
SHARDING = ("dit_fsdp", "t5_fsdp")

NOT_HERE = {
    "use_prompt_extend": "write the whole prompt into --prompt",
    "enable_tts": "speak the text elsewhere and give the sound with --audio",
}


def build_parser() -> argparse.ArgumentParser:
    """The official script's options for S2V with its defaults, and three more: --engine, --device and --av_align."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default=TASK, help=f"only {TASK}")
    parser.add_argument("--ckpt_dir", help="folder of the model, in any layout (default: where downloads go)")
    parser.add_argument("--size", default="1280*720", choices=SIZES, help="area of the video (default 1280*720)")
    parser.add_argument("--prompt", default=EXAMPLE_PROMPT, help="what to see")
    parser.add_argument("--image", help="reference image, which also gives the proportions")
    parser.add_argument("--audio", help="any file with sound in it")
    parser.add_argument("--pose_video", help="video whose movements to follow")
    parser.add_argument("--start_from_ref", action="store_true", help="begin with the reference image")
    parser.add_argument("--num_clip", type=int, help="at most so many clips (default: as many as the sound needs)")
    parser.add_argument("--infer_frames", type=int, default=80, help="frames per clip, a multiple of 4 (default 80)")
    parser.add_argument("--sample_solver", choices=["unipc", "dpm++"], default="unipc")
    parser.add_argument("--sample_steps", type=int, default=40, help="denoising steps per clip (default 40)")
    parser.add_argument("--sample_shift", type=float, default=3.0, help="flow shift (default 3)")
    parser.add_argument("--sample_guide_scale", type=float, default=4.5, help="guidance, 1 is off (default 4.5)")
    parser.add_argument("--base_seed", type=int, default=-1, help="same seed, same video; -1 draws one (default)")
    parser.add_argument("--save_file", help="name of the video")
    parser.add_argument("--ulysses_size", type=int, default=1, help="GPUs that divide the tokens of each pass")
    _add_options_without_effect(parser)
    parser.add_argument("--engine", default="native", choices=["native", "draft"], help="default native")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:1, mps (default auto)")
    parser.add_argument(
        "--av_align",
        choices=[str(align) for align in AvAlign],
        default=str(AvAlign.SOUND),
        help="a frame and its own sound, or as the reference 3 frames apart (default sound)",
    )
    return parser


def _add_options_without_effect(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("accepted, without effect")
    group.add_argument("--offload_model", type=_truth, metavar="BOOL")
    group.add_argument("--frame_num", type=int, help=argparse.SUPPRESS)
    for name in (*WITHOUT_EFFECT[1:], *SHARDING):
        group.add_argument(f"--{name}", action="store_true")
    for name in NOT_HERE:
        parser.add_argument(f"--{name}", action="store_true", help=argparse.SUPPRESS)


def _truth(text: str) -> bool:
    """Parse a boolean as the official script does: `True`, `yes`, `1` …"""
    words = {"yes": True, "true": True, "t": True, "y": True, "1": True}
    words |= {"no": False, "false": False, "f": False, "n": False, "0": False}
    try:
        return words[text.lower()]
    except KeyError:
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false") from None


def build_request(options: argparse.Namespace, processes: int = 1) -> Request:
    """The request for the command line; `processes` were started for it, a GPU for each.

    Raises:
        InputError: another task, a feature that soundreel does not have, no sound, or an image that no size fits.
        MediaError: the reference image cannot be read.
    """
    _check_features(options)
    audio, image = _given_or_example(options.audio, EXAMPLE_AUDIO), _given_or_example(options.image, EXAMPLE_IMAGE)
    if audio is None:
        raise InputError("--audio is missing: name a file with sound in it")
    width, height = _picture_size(options.size, image)
    return Request(
        audio=audio,
        ref_image=image,
        prompt=options.prompt,
        width=width,
        height=height,
        seed=int(draw_seed(options.base_seed)),
        engine=options.engine,
        window=Window(full=True, num_clip=options.num_clip),
        guide=Guide(
            pose_video=options.pose_video,
            start_from_ref=options.start_from_ref,
            ref_fit=RefFit.REFERENCE,
            av_align=options.av_align,
        ),
        sampling=Sampling(
            steps=options.sample_steps,
            guide_scale=options.sample_guide_scale,
            shift=options.sample_shift,
            solver=options.sample_solver,
            infer_frames=options.infer_frames,
            clip_split=ClipSplit.FULL,
        ),
        compute=_compute(options, processes),
        output=Output(path=options.save_file or _official_name(options, datetime.now())),
    )


def _compute(options: argparse.Namespace, processes: int) -> Compute:
    """As many GPUs as there are processes, or as `--ulysses_size` says where one was started."""
    ulysses = options.ulysses_size
    if ulysses < 1 or (processes > 1 and ulysses not in (1, processes)):
        started = "1 process was" if processes == 1 else f"{processes} processes were"
        raise InputError(f"--ulysses_size is {ulysses}, and {started} started: it should be equal to the world size")
    count = max(processes, ulysses)
    return Compute(
        models=options.ckpt_dir,
        device=options.device,
        gpus=str(count) if count > 1 else None,
        parallel=Parallel.TOKENS if ulysses > 1 else Parallel.AUTO,
    )


def _check_features(options: argparse.Namespace) -> None:
    if options.task != TASK:
        raise InputError(f"--task is {options.task!r}: expected {TASK}, the one that is driven by sound")
    for name, instead in NOT_HERE.items():
        if getattr(options, name):
            raise InputError(f"--{name} is not part of soundreel: {instead}")


def _given_or_example(given: str | None, example: Path) -> str | Path | None:
    if given is not None:
        return given
    return example if example.exists() else None


def _picture_size(size: str, image: str | Path | None) -> tuple[int, int]:
    """Width and height: `size` itself, or, with an image, by the official rule for its area and the proportions."""
    sides = parse_size(size)
    if image is None:
        return sides["width"], sides["height"]
    rows, columns, _ = load_plain_image(image).shape
    height, width = size_for_area(rows, columns, sides["width"] * sides["height"])
    return width, height


def _official_name(options: argparse.Namespace, now: datetime) -> str:
    """The file name that the official script would choose; a draft's says that it is none of the model's."""
    task = f"{options.task}-draft" if options.engine == "draft" else options.task
    words = options.prompt.replace(" ", "_").replace("/", "_")[:50]
    return f"{task}_{options.size}_{options.ulysses_size}_{words}_{now:%Y%m%d_%H%M%S}.mp4"


def count_processes(environment: Mapping[str, str]) -> int:
    """How many torchrun started.

    Raises:
        EngineError: on several hosts.
    """
    processes = int(environment.get("WORLD_SIZE", "1"))
    if int(environment.get("LOCAL_WORLD_SIZE", processes)) < processes:
        raise EngineError(f"torchrun started {processes} processes on several hosts: one render takes the GPUs of one")
    return processes


def notes(options: argparse.Namespace, processes: int) -> Iterator[str]:
    """What becomes of options and processes that are used otherwise than in the official script."""
    idle = [f"--{name}" for name in WITHOUT_EFFECT if getattr(options, name) not in (None, False)]
    if idle:
        yield f"without effect here: {', '.join(idle)}"
    sharding = [f"--{name}" for name in SHARDING if getattr(options, name)]
    if sharding:
        yield f"{', '.join(sharding)}: done by streaming, what does not fit a card waits in host memory"
    if processes > 1:
        yield f"of the {processes} processes that torchrun started the first renders, with workers of its own"


def main() -> None:
    """Render; of several processes that torchrun started the first one does, on the GPUs of all."""
    if os.environ.get("RANK", "0") != "0":
        return
    options, processes = build_parser().parse_args(), count_processes(os.environ)
    request = build_request(options, processes)
    for note in notes(options, processes):
        say(f"note: {note}")
    render(request)


if __name__ == "__main__":
    guard(main)
