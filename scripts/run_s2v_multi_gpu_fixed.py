#!/usr/bin/env python3
"""Sound to video on all GPUs of this machine: change the settings below, then run

    python scripts/run_s2v_multi_gpu_fixed.py

Options of scripts/generate.py on the command line win over the settings: `… --audio talk.wav --sample_steps 40`.
"""

import sys
from pathlib import Path

from generate import build_parser, build_request, notes  # beside this file

from soundreel.cli.commands.rendering import render
from soundreel.cli.guard import guard
from soundreel.cli.streams import say
from soundreel.engines.driver import find_gpu

REPO = Path(__file__).resolve().parents[1]

SETTINGS = (
    *("--audio", str(REPO / "examples" / "tune.flac")),
    *("--image", str(REPO / "examples" / "cover.png")),
    *("--prompt", "A singer on a small stage, warm light, looking into the camera"),
    *("--size", "480*832"),
    *("--num_clip", "1"),  # without it: as many clips as the sound needs
    *("--infer_frames", "80"),  # of a clip, 5 seconds; a multiple of 4
    *("--sample_steps", "30"),
    *("--sample_guide_scale", "4.5"),
    *("--sample_shift", "3.0"),  # 5.0 for 720p and more
    *("--base_seed", "42"),
    *("--save_file", "outputs/s2v_output.mp4"),
)
"""For quick tries `--infer_frames 48 --sample_steps 25`, for high quality `--infer_frames 112 --sample_steps 40
--sample_guide_scale 5.0 --sample_shift 5.0 --size 1024*704`, for long videos `--num_clip 3 --sample_steps 35`."""


def main() -> None:
    """Render with the settings, on as many GPUs as there are."""
    options = build_parser().parse_args([*SETTINGS, *sys.argv[1:]])
    request = build_request(options)
    if request.compute.gpus is None and options.engine == "native" and options.device == "auto" and find_gpu():
        request = request.replace(gpus="all")
    for note in notes(options, processes=1):
        say(f"note: {note}")
    render(request)


if __name__ == "__main__":
    guard(main)
