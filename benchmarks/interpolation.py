"""Interpolation: how near the pictures come to those that were left out of real films, and how fast they are made.

Every second picture of a film is dropped and made again from its neighbours: PSNR in dB over RGB, SSIM over luma (Wang
et al. 2004). `hold` repeats the picture before, `blend` is the mean of both. Speed is output pictures per second of a
stream that is doubled. Without FILM's weights its speed is measured with random ones, its quality not at all.

python -m benchmarks.interpolation [--media DIR] [--models DIR] [--device DEVICE] [--speed-only]
"""

import argparse
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.pictures import psnr, ssim
from soundreel.errors import SoundreelError
from soundreel.interpolation.frames import Method, interpolate, open_method
from soundreel.interpolation.network import LARGEST_BATCH, FrameInterpolator
from soundreel.media.motion import Picture
from soundreel.media.video import read_frames
from soundreel.models.devices import pick_device
from soundreel.models.film import Film, FilmSizes
from soundreel.request import Interpolation

FILMS = ("bikes.mp4", "bigbuckbunny.mp4")
SOURCES = 17
"""Pictures of a film that are left when every second is dropped."""

SIZES = ((480, 832), (832, 1216))
"""Width and height for speed."""

SECONDS_PER_SPEED = 6.0

PUBLISHED_FILM = FilmSizes(
    features=(64, 128, 256, 512), flow_hidden=(32, 64, 128, 256), flow_convs=3, fusion=(64, 128, 256, 512)
)

Open = dict[str, Method]


def quality(film: Path, methods: Open) -> Iterator[tuple[str, float, float]]:
    """Method, PSNR and SSIM, means over the pictures that were dropped."""
    frames = list(islice(read_frames(film), 2 * SOURCES - 1))
    kept, dropped = frames[::2], frames[1::2]
    yield "hold", *_scores(kept[:-1], dropped)
    yield "blend", *_scores([np.round((a.astype(float) + b) / 2) for a, b in pairwise(kept)], dropped)
    for name, method in methods.items():
        yield name, *_scores(list(interpolate(kept, 2, method))[1:-1:2], dropped)


def _scores(made: Sequence[NDArray[Any]], truth: Sequence[Picture]) -> tuple[float, float]:
    pairs = list(zip(made, truth, strict=True))
    return float(np.mean([psnr(*pair) for pair in pairs])), float(np.mean([ssim(*pair) for pair in pairs]))


def speed(method: Method, width: int, height: int) -> float:
    """Output pictures per second; the first batch, which warms up, is not counted."""
    made = iter(interpolate(_moving(width, height), 2, method))
    for _ in range(2 * method.batch + 1):
        next(made)
    begun, count = time.perf_counter(), 0
    while time.perf_counter() - begun < SECONDS_PER_SPEED:
        for _ in range(2 * method.batch):
            next(made)
            count += 1
    return count / (time.perf_counter() - begun)


def _moving(width: int, height: int) -> Iterator[Picture]:
    """An endless pan over coarse noise."""
    noise = np.random.default_rng(0).integers(0, 256, (height // 16, width // 8, 3), dtype=np.uint8)
    wide = cv2.resize(noise, (2 * width, height), interpolation=cv2.INTER_CUBIC).astype(np.uint8)
    steps = chain(range(0, width, 4), range(width, 0, -4))
    while True:
        yield from (np.ascontiguousarray(wide[:, x : x + width]) for x in steps)
        steps = chain(range(0, width, 4), range(width, 0, -4))


def open_methods(models: Path | None, device: str) -> Open:
    """All methods whose weights are there; says which are not."""
    methods: Open = {}
    for name in (Interpolation.MOTION, Interpolation.RIFE, Interpolation.FILM):
        try:
            methods[name] = open_method(name, models=models, device=device)
        except SoundreelError as error:
            print(f"no {name}: {error}")
    return methods


def random_film(device: str) -> FrameInterpolator:
    """FILM as published, with random weights: as fast as the real one."""
    place = pick_device(device)
    network = Film(PUBLISHED_FILM).to(place).eval()
    on_gpu = place.type == "cuda"
    return FrameInterpolator(
        network.half() if on_gpu else network, by_halves=True, batch=LARGEST_BATCH if on_gpu else 1
    )


def print_quality(films: Iterable[Path], methods: Open) -> None:
    """Print the table of all films."""
    print(f"{'film':<20}{'method':<10}{'PSNR dB':>9}{'SSIM':>9}")
    for film in films:
        for name, decibels, similarity in quality(film, methods):
            print(f"{film.name:<20}{name:<10}{decibels:>9.2f}{similarity:>9.4f}")


def print_speed(methods: Open, device: str) -> None:
    """Print output pictures per second."""
    place = pick_device(device)
    print(f"{torch.cuda.get_device_name(place) if place.type == 'cuda' else f'{os.cpu_count()} cores'}, {place}")
    print(f"{'size':<12}{'method':<14}{'pictures/s':>11}")
    for width, height in SIZES:
        drawn = {} if Interpolation.FILM in methods else {"film, random": random_film(device)}
        for name, method in (methods | drawn).items():
            print(f"{f'{width}x{height}':<12}{name:<14}{speed(method, width, height):>11.2f}")


def main(arguments: Sequence[str] = ()) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--media", type=Path, default=Path("../shared/media"))
    parser.add_argument("--models", type=Path, default=Path("../shared/weights"))
    parser.add_argument("--device", default="auto")
    parser.add_argument("--speed-only", action="store_true")
    options = parser.parse_args(arguments)
    methods = open_methods(options.models if options.models.is_dir() else None, options.device)
    films = [options.media / name for name in FILMS if (options.media / name).is_file()]
    if not options.speed_only:
        print_quality(films, methods)
    print_speed(methods, options.device)


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
