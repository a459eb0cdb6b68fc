#!/usr/bin/env python3
"""Sound to video: `python scripts/generate_wan22_sound_video.py input/music.mp3 [--ref-image …]`.

It calls `soundreel`, and keeps the options and file names of the earlier script, whichever engine renders.
"""

import argparse

from soundreel.cli.commands.rendering import render
from soundreel.cli.guard import guard
from soundreel.cli.options import draw_seed
from soundreel.cli.streams import say
from soundreel.errors import WeightsError
from soundreel.interpolation.frames import check_method
from soundreel.request import DEFAULT_SERVER_URL, EngineName, Interpolation, Output, Request, Server, Window
from soundreel.units import DEFAULT_CRF, MAX_CRF


def parse(arguments: list[str] | None = None) -> Request:
    """The request for the command line, `arguments` or those of the process."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("audio_path", help="sound file: wav, mp3, m4a, aac, flac, ogg, opus, wma")
    parser.add_argument("--ref-image", help="reference image for style and subject")
    parser.add_argument("--frames", type=int, help="frames to generate (default 77, 4.8 s)")
    parser.add_argument("--full", action="store_true", help="all the sound from the start on")
    parser.add_argument("--audio-start", type=float, default=0.0, help="start time in the sound, in seconds")
    parser.add_argument("--audio-duration", type=float, help="seconds of sound to use (default: as the frames need)")
    parser.add_argument("--width", type=int, default=832)
    parser.add_argument("--height", type=int, default=1216)
    parser.add_argument("--positive", help="what to see")
    parser.add_argument("--negative", help="what not to see")
    parser.add_argument("--settings", default="s2v", help="tag in the file name (default s2v)")
    parser.add_argument("--interpolate", choices=["film", "motion", "none"], default="none")
    parser.add_argument("--crf", type=int, default=DEFAULT_CRF, help=f"quality of the video, 0 best to {MAX_CRF}")
    parser.add_argument(
        "--timeout", type=float, help="of the comfyui engine: longest time without progress, in seconds"
    )
    parser.add_argument("--url", default=DEFAULT_SERVER_URL, help="server of the comfyui engine (default %(default)s)")
    parser.add_argument(
        "--header", action="append", default=[], help="'Name: value' for a proxy that asks who you are; several times"
    )
    parser.add_argument("--ca-file", help="certificates of https servers to trust, in PEM format")
    parser.add_argument("--engine", help="auto, native, comfyui or draft (default auto, with another --url comfyui)")
    parser.add_argument("--seed", type=int, default=0, help="same seed, same video; -1 draws one (default 0)")
    options = parser.parse_args(arguments)
    return Request(
        audio=options.audio_path,
        ref_image=options.ref_image,
        width=options.width,
        height=options.height,
        prompt=options.positive,
        negative_prompt=options.negative,
        engine=EngineName(options.engine or ("auto" if options.url == DEFAULT_SERVER_URL else "comfyui")),
        window=Window(
            start=options.audio_start, duration=options.audio_duration, frames=options.frames, full=options.full
        ),
        output=Output(
            settings=options.settings,
            interpolate=possible_interpolation(Interpolation(options.interpolate)),
            crf=options.crf,
        ),
        server=Server(
            urls=(options.url,), headers=tuple(options.header), ca_file=options.ca_file, timeout=options.timeout
        ),
        seed=int(draw_seed(options.seed)),
    )


def possible_interpolation(wanted: Interpolation) -> Interpolation:
    """`wanted`, or, with a note on standard error, motion compensation where its weights are missing."""
    try:
        check_method(wanted)
    except WeightsError as error:
        say(f"note: {error}; taken instead")
        return Interpolation.MOTION
    return wanted


if __name__ == "__main__":
    guard(lambda: render(parse()))
