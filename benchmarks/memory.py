"""Peak memory and time of whole renders, 10 s against 600 s of sound: draft at 480×832, native with tiny weights.

`python -m benchmarks.memory [CHECKPOINT]`; native is measured where a tiny CHECKPOINT is given. Each figure is a
process of its own. Also how long partial videos (`OUTPUT.partial.mp4`) take of it.
"""

import os
import subprocess
import sys
import tempfile
import time
import wave
from pathlib import Path

import numpy as np

from benchmarks.long_sound import peak_megabytes
from soundreel import pipeline
from soundreel.render.publish import PartialVideo
from soundreel.request import Compute, EngineName, Output, Request, Sampling, Window
from soundreel.types import Check, go_on
from soundreel.units import MODEL_FPS

LENGTHS_SECONDS = (10, 600)
RATE = 44_100


def write_sound(path: Path, seconds: int) -> None:
    """A drum and a tone, in stereo, written second by second."""
    t = np.arange(RATE) / RATE
    drum = np.random.default_rng(0).normal(0, 0.3, RATE) * np.exp(-(t % 0.5) / 0.05)
    second = 0.3 * np.sin(2 * np.pi * 220 * t) + drum
    with wave.open(str(path), "wb") as file:
        file.setparams((2, 2, RATE, 0, "NONE", ""))
        for k in range(seconds):
            loud = second * (0.6 + 0.4 * np.sin(k))
            file.writeframes((np.clip(loud, -1, 1) * 32767).astype("<i2").repeat(2).tobytes())


def render(sound: str, engine: str, models: str | None = None) -> None:
    """Render all of `sound` and print a row."""
    updates: list[float] = []
    update = PartialVideo.update

    def timed(self: PartialVideo, check: Check = go_on) -> None:
        begun = time.perf_counter()
        update(self, check)
        updates.append(time.perf_counter() - begun)

    PartialVideo.update = timed  # type: ignore[method-assign]
    width, height = (480, 832) if engine == "draft" else (64, 64)
    request = Request(
        audio=sound,
        width=width,
        height=height,
        engine=EngineName(engine),
        window=Window(full=True),
        sampling=Sampling(steps=1, guide_scale=1.0),
        compute=Compute(models=models, device="cpu"),
        output=Output(path=Path(sound).with_suffix(".mp4")),
    )
    begun = time.perf_counter()
    result = pipeline.generate(request)
    spent = time.perf_counter() - begun
    written = sum(seconds > 0.001 for seconds in updates)
    print(
        f"{engine:<8}{result.frames / MODEL_FPS:>8.0f} s{len(result.plan.clips):>6} clips{spent:>9.1f} s"
        f"{peak_megabytes():>8.0f} MB{written:>8} partial videos in {sum(updates):.1f} s"
    )


def main(models: str | None = None) -> None:
    """Print the table."""
    engines = [("draft",)] if models is None else [("draft",), ("native", models)]
    with tempfile.TemporaryDirectory() as folder:
        for engine in engines:
            for seconds in LENGTHS_SECONDS:
                sound = Path(folder) / f"{seconds}.wav"
                write_sound(sound, seconds)
                command = [sys.executable, "-m", "benchmarks.memory", "--one", str(sound), *engine]
                cache = Path(folder) / f"{engine[0]} {seconds}"  # nothing is found there: both hear their sound
                subprocess.run(command, check=True, env=os.environ | {"XDG_CACHE_HOME": str(cache)})


if __name__ == "__main__":
    render(*sys.argv[2:]) if sys.argv[1:2] == ["--one"] else main(*sys.argv[1:])
