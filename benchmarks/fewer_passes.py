"""Fewer passes: how many each option saves, and how far the video is from the full run on the same seed.

    python -m benchmarks.fewer_passes [--models DIR] [--audio FILE] [--device DEVICE] [--size 64x64] [--steps N]

Without --models the tiny golden checkpoint is rendered, whose weights are random: it shows what the options do, not
what a picture loses by them. PSNR is over the 8-bit pictures of one clip.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.starts import first_start
from soundreel.engines.native import NativeEngine
from soundreel.pipeline import plan
from soundreel.request import Compute, EngineName, Request, Sampling, Window
from soundreel.types import Progress, RenderedClip

GOLDEN = Path("../shared/golden")

DIALS: tuple[dict[str, Any], ...] = (
    {},
    {"cache": 0.05},
    {"cache": 0.2},
    {"cache": 0.4},
    {"cache": 0.8},
    {"cfg_interval": (0.0, 0.8)},
    {"cfg_interval": (0.2, 0.8)},
    {"cache": 0.4, "cfg_interval": (0.0, 0.8)},
)


def render(request: Request) -> tuple[RenderedClip, float]:
    """The first clip, and its seconds from the first step on."""
    begun: list[float] = []

    def listen(progress: Progress) -> None:
        if progress.step == 1:
            begun.append(time.perf_counter())

    with NativeEngine() as engine, TemporaryDirectory() as folder:
        prepared = engine.prepare(plan(request))
        clip = next(engine.render(prepared, first_start(prepared.plan, Path(folder)), listen))
        return clip, time.perf_counter() - begun[0]


def main(arguments: Sequence[str] = ()) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=GOLDEN / "tiny_official")
    parser.add_argument("--audio", type=Path, default=GOLDEN / "inputs" / "speech_2s.wav")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--size", default="64x64")
    parser.add_argument("--frames", type=int, default=13)
    parser.add_argument("--steps", type=int, default=40)
    options = parser.parse_args(arguments)
    height, width = (int(side) for side in options.size.split("x"))
    request = Request(
        audio=options.audio,
        width=width,
        height=height,
        engine=EngineName.NATIVE,
        window=Window(frames=options.frames),
        sampling=Sampling(steps=options.steps),
        compute=Compute(models=options.models, device=options.device),
    )
    whole = 2 * options.steps
    print(f"{'cache':>6}{'cfg interval':>14}{'passes':>8}{'saved':>8}{'seconds':>9}{'PSNR dB':>9}")
    exact: np.ndarray[Any, Any] | None = None
    for dials in DIALS:
        clip, seconds = render(request.replace(**dials))
        pictures = clip.frames.astype(np.float64)
        exact = pictures if exact is None else exact
        error = float(np.mean((pictures - exact) ** 2))
        saved = clip.facts.get("passes_spared", 0)
        shown = f"{10 * np.log10(255**2 / error):.1f}" if error else "equal"
        interval = "-".join(f"{share:g}" for share in dials.get("cfg_interval", (0.0, 1.0)))
        print(f"{dials.get('cache', 0):>6g}{interval:>14}{whole - saved:>8}{saved:>8}{seconds:>9.2f}{shown:>9}")


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
