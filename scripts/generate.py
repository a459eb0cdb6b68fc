#!/usr/bin/env python3
"""Sound to video with the command line of the official Wan 2.2 script, for its task s2v-14B.

    python scripts/generate.py --task s2v-14B --ckpt_dir DIR --image five.png --audio talk.wav --size 480*832

It calls `soundreel`: as in the official script, `--size` is an area, and size, image and clips follow its rules.
"""

import argparse
import os
import sys
from datetime import datetime
from pathlib import Path

from soundreel.cli.app import render
from soundreel.cli.guard import guard
from soundreel.cli.options import draw_seed, parse_size
from soundreel.cli.streams import say
from soundreel.errors import EngineError, InputError, SoundreelError
from soundreel.media.image import load_plain_image
from soundreel.planning import size_for_area
from soundreel.request import AvAlign, ClipSplit, Compute, Guide, Output, RefFit, Request, Sampling, Window

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

WITHOUT_EFFECT = ("offload_model", "convert_model_dtype", "t5_cpu", "dit_fsdp", "t5_fsdp")

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
    parser.add_argument("--ulysses_size", type=int, default=1, help="GPUs that share a clip; only 1")
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
    group = parser.add_argument_group("accepted, without effect on one GPU")
    group.add_argument("--offload_model", type=_truth, metavar="BOOL")
    group.add_argument("--frame_num", type=int, help=argparse.SUPPRESS)
    for name in WITHOUT_EFFECT[1:]:
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


def build_request(options: argparse.Namespace) -> Request:
    """The request for the command line.

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
        compute=Compute(models=options.ckpt_dir, device=options.device),
        output=Output(path=options.save_file or _official_name(options, datetime.now())),
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


def check_processes(options: argparse.Namespace, processes: int) -> None:
    """Raise `EngineError` where more than one GPU is asked for."""
    if processes > 1 or options.ulysses_size > 1:
        raise EngineError(
            f"{max(processes, options.ulysses_size)} GPUs are asked for (torchrun --nproc_per_node, --ulysses_size): "
            "this version renders on one; start one process with --ulysses_size 1"
        )


def main() -> None:
    """Render; of several processes that torchrun started, only the first one prints why it does not."""
    options = build_parser().parse_args()
    try:
        check_processes(options, int(os.environ.get("WORLD_SIZE", "1")))
    except SoundreelError as error:
        if os.environ.get("RANK", "0") != "0":
            sys.exit(error.exit_code)
        raise
    idle = [f"--{name}" for name in WITHOUT_EFFECT if getattr(options, name) not in (None, False)]
    if idle:
        say(f"note: without effect here: {', '.join(idle)}")
    render(build_request(options))


if __name__ == "__main__":
    guard(main)
