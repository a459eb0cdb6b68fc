"""What each lossy mode spares, and how far its video is from the exact one on the same seed.

    python -m benchmarks.lossy_modes [--models DIR] [--audio FILE] [--device DEVICE] [--size 64x64] [--steps 8]

The first row is exact (on GPUs cuDNN's attention; products in the weights' 16 bits, VAE in float32); the second has
another exact kernel of attention: the difference that rounding alone makes. Without --models the tiny golden checkpoint
is rendered. Random weights show what a mode does, not what a trained model's picture loses by it. PSNR and SSIM are
means over the 8-bit pictures of one clip.
"""

import argparse
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from benchmarks.pictures import psnr, ssim
from benchmarks.starts import all_starts
from soundreel.engines.native import NativeEngine
from soundreel.errors import SoundreelError
from soundreel.models.devices import pick_device
from soundreel.pipeline import plan
from soundreel.request import Attention, Compute, EngineName, Precision, Request, Sampling, VaePrecision, Window
from soundreel.types import Progress, RenderedClip

GOLDEN = Path("../shared/golden")

MODES: Mapping[str, Mapping[str, Any]] = {
    "exact": {},
    "another exact kernel": {"attention": Attention.FLASH},
    "VAE in bf16": {"vae_precision": VaePrecision.BF16},
    "fp8 products": {"precision": Precision.FP8},
    "fp8 attention": {"attention": Attention.FP8},
    "fp8 products and attention": {"precision": Precision.FP8, "attention": Attention.FP8},
    "cache 0.05": {"cache": 0.05},
    "cache 0.2": {"cache": 0.2},
    "cache 0.4": {"cache": 0.4},
    "cache 0.8": {"cache": 0.8},
    "guided 0–0.8": {"cfg_interval": (0.0, 0.8)},
    "guided 0.2–0.8": {"cfg_interval": (0.2, 0.8)},
    "cache 0.4, guided 0–0.8": {"cache": 0.4, "cfg_interval": (0.0, 0.8)},
}
"""Options by what a row is called, in the order that loads the transformer least often."""

COLUMNS = f"{'mode':<28}{'passes':>8}{'spared':>8}{'seconds':>9}{'PSNR dB':>9}{'SSIM':>8}"


def render(engine: NativeEngine, request: Request) -> tuple[RenderedClip, float]:
    """The first clip, and its seconds from the first step on."""
    begun: list[float] = []

    def listen(progress: Progress) -> None:
        if progress.step == 1:
            begun.append(time.perf_counter())

    with TemporaryDirectory() as folder:
        prepared = engine.prepare(plan(request))
        (clip,) = engine.render(prepared, all_starts(prepared.plan, Path(folder)), listen)
        return clip, time.perf_counter() - begun[0]


def row(name: str, clip: RenderedClip, exact: RenderedClip, seconds: float, passes: int) -> str:
    """A line of the table."""
    spared = clip.facts.get("passes_spared", 0)
    pairs = list(zip(clip.frames, exact.frames, strict=True))
    is_equal = bool(np.array_equal(clip.frames, exact.frames))
    alike = "equal" if is_equal else f"{np.mean([psnr(*pair) for pair in pairs]):.1f}"
    return (
        f"{name:<28}{passes - spared:>8}{spared:>8}{seconds:>9.2f}{alike:>9}"
        f"{np.mean([ssim(*pair) for pair in pairs]):>8.3f}"
    )


def main(arguments: Sequence[str] = ()) -> None:
    """Print the table; modes that this device does not have are named."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", type=Path, default=GOLDEN / "tiny_official")
    parser.add_argument("--audio", type=Path, default=GOLDEN / "inputs" / "speech_2s.wav")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--size", default="64x64")
    parser.add_argument("--frames", type=int, default=13)
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--modes", nargs="*", default=list(MODES), choices=list(MODES), metavar="MODE")
    options = parser.parse_args(arguments)
    width, height = (int(side) for side in options.size.split("x"))
    exactly = Compute(
        models=options.models,
        device=options.device,
        attention=Attention.CUDNN if pick_device(options.device).type == "cuda" else Attention.SDPA,
        precision=Precision.BF16,
        vae_precision=VaePrecision.FP32,
    )
    request = Request(
        audio=options.audio,
        width=width,
        height=height,
        engine=EngineName.NATIVE,
        window=Window(frames=options.frames),
        sampling=Sampling(steps=options.steps, infer_frames=4 * -(-(options.frames + 3) // 4)),
        compute=exactly,
    )
    print(COLUMNS)
    exact: RenderedClip | None = None
    with NativeEngine() as engine:
        engine.keeps = True
        for name in options.modes:
            try:
                clip, seconds = render(engine, request.replace(**MODES[name]))
            except SoundreelError as error:
                print(f"{name:<28} not here: {error}", flush=True)
                continue
            exact = exact or clip
            print(row(name, clip, exact, seconds, 2 * options.steps), flush=True)


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
