"""How fast the draft engine draws: frames per second beside the 16 of real time, with and without a picture.

Only drawing is timed, not the analysis of the sound. Each figure is the best of several clips, since other
work on the machine only ever slows a clip down; the processor time beside it counts all cores together.
"""

import os
import tempfile
import time
import wave
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.starts import all_starts
from soundreel import planning
from soundreel.engines.draft import DraftEngine
from soundreel.request import Request, Sampling, Window
from soundreel.types import Progress
from soundreel.units import MODEL_FPS

SIZES = ((832, 1216, 1.0), (480, 832, 3.0))
"""Width, height and the goal in multiples of real time."""

CLIP_FRAMES, CLIPS = 48, 4
SECONDS = CLIPS * CLIP_FRAMES / MODEL_FPS
RATE = 22_050


def write_sound(path: Path) -> None:
    """A chord with a drum hit every half second."""
    t = np.arange(round(SECONDS * RATE)) / RATE
    chord = sum(np.sin(2 * np.pi * hertz * t) for hertz in (110, 277.2, 329.6)) * 0.1
    drum = np.random.default_rng(0).standard_normal(t.size) * np.exp(-(t % 0.5) / 0.05) * 0.3
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, RATE, 0, "NONE", ""))
        file.writeframes((np.clip(chord + drum, -1, 1) * 32767).astype("<i2").tobytes())


def write_picture(path: Path) -> None:
    """Coloured noise, as rich in detail as a photograph."""
    noise = np.random.default_rng(0).integers(0, 256, (512, 512, 3), dtype=np.uint8)
    Image.fromarray(noise).resize((1024, 1024)).save(path)


def frame_times(request: Request) -> Iterator[tuple[float, float]]:
    """Wall and processor seconds per frame, one pair for each clip of `request`."""
    begun = [0.0, 0.0]

    def listen(progress: Progress) -> None:
        if progress.steps and progress.step == 0:
            begun[:] = time.perf_counter(), time.process_time()

    with DraftEngine() as engine, tempfile.TemporaryDirectory() as folder:
        prepared = engine.prepare(planning.plan(request, SECONDS))
        for rendered in engine.render(prepared, all_starts(prepared.plan, Path(folder)), listen):
            wall, processor = time.perf_counter() - begun[0], time.process_time() - begun[1]
            yield wall / rendered.clip.frames, processor / rendered.clip.frames


def main() -> None:
    """Print the table."""
    print(f"{os.cpu_count()} cores, best of {CLIPS} clips of {CLIP_FRAMES} frames")
    print(f"{'size':<12}{'look':<10}{'fps':>8}{'real time':>11}{'goal':>8}{'CPU ms/frame':>14}")
    with tempfile.TemporaryDirectory() as folder:
        sound, picture = Path(folder) / "sound.wav", Path(folder) / "picture.png"
        write_sound(sound)
        write_picture(picture)
        for width, height, goal in SIZES:
            request = Request(
                audio=sound,
                width=width,
                height=height,
                window=Window(full=True),
                sampling=Sampling(infer_frames=CLIP_FRAMES),
            )
            for look, asked in (("abstract", request), ("image", request.replace(ref_image=picture))):
                wall, processor = (min(times) for times in zip(*frame_times(asked), strict=True))
                size = f"{width}x{height}"
                print(
                    f"{size:<12}{look:<10}{1 / wall:>8.1f}{1 / wall / MODEL_FPS:>11.0%}{goal:>8.0%}"
                    f"{1000 * processor:>14.1f}"
                )


if __name__ == "__main__":
    main()
