"""The draft engine: any frame from the sound, a seed and the frame's number, on the CPU, without weights."""

import math
import os
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Protocol

import numpy as np

from soundreel import planning
from soundreel.analysis import SoundFeatures, analyse
from soundreel.engines.base import Estimate
from soundreel.engines.draft.abstract import AbstractLook
from soundreel.engines.draft.grid import Picture
from soundreel.engines.draft.image import ImageLook
from soundreel.engines.draft.memory import available_memory
from soundreel.engines.draft.motion import choreograph
from soundreel.engines.draft.palette import choose_palette
from soundreel.errors import InputError
from soundreel.media.image import load_image
from soundreel.request import Request
from soundreel.types import Carry, Clip, Plan, Progress, RenderedClip, Report, Stage
from soundreel.units import MODEL_FPS, Frames

BYTES_PER_PIXEL = 3
"""uint8 RGB."""

SHARED_BYTES_PER_PIXEL = 6
"""The reference picture with its overscan."""

WORKER_BYTES_PER_PIXEL = 14
"""What drawing one frame takes beside the frame itself."""

BASE_BYTES = 200 * 2**20
"""The interpreter, its libraries and the coarse fields: 100 to 150 MB were measured."""

SAMPLE_PIXELS = 480 * 832
"""Size of the frame that a render is timed by."""

FRAMES_PER_REPORT_AND_WORKER = 2
"""Frames that each worker draws between two reports."""


class Look(Protocol):
    """A way to draw."""

    def draw(self, frame: int, out: Picture) -> None:
        """Draw frame `frame` into `out`, uint8 [H, W, 3]; nothing is kept between calls."""
        ...


class DraftEngine:
    """Animates the reference picture, or an abstract one, by the sound.

    A frame depends on the request, the sound and its own number only: clips can be rendered in any order.
    """

    name = "draft"
    equal_clips = False

    def check(self, request: Request) -> None:
        """Raise `InputError` where memory is short, and what `load_image` raises for a bad reference image."""
        frames = _longest_clip(request)
        needed, free = _memory_needed(request, frames), available_memory()
        if free is not None and needed > free:
            raise InputError(
                f"{request.width}x{request.height} and {frames} frames per clip need about {_gigabytes(needed)}, "
                f"this machine has {_gigabytes(free)} free: use a smaller --width/--height or --infer-frames"
            )
        _reference(request)

    def estimate(self, plan: Plan) -> Estimate:
        """Time one small frame and scale it up to all of `plan`."""
        request = plan.request
        scale = min(1.0, math.sqrt(SAMPLE_PIXELS / (request.width * request.height)))
        width, height = (max(16, round(side * scale)) for side in (request.width, request.height))
        picture = None if request.ref_image is None else np.full((height, width, 3), 128, np.uint8)
        look = _open_look(request, (width, height), picture, _silence(frames=2))
        out = np.empty((height, width, 3), np.uint8)
        look.draw(0, out)
        begun = time.perf_counter()
        look.draw(1, out)
        spent = (time.perf_counter() - begun) * request.width * request.height / (width * height)
        longest = max(clip.frames for clip in plan.clips)
        return Estimate(seconds=spent * plan.frames / _workers(), memory_bytes=_memory_needed(request, longest))

    def model_files(self, request: Request) -> Mapping[str, str]:
        """None: a draft has no model."""
        del request
        return {}

    def notes(self, plan: Plan) -> Iterator[str]:
        """Say which options of the model have no effect on a draft."""
        request = plan.request
        given = {
            "--pose-video": request.pose_video,
            "--start-from-ref": request.start_from_ref,
            "--lora": request.loras,
        }
        ignored = [name for name, value in given.items() if value]
        if ignored:
            yield f"{', '.join(ignored)} {'has' if len(ignored) == 1 else 'have'} no effect on a draft"

    def render(
        self, plan: Plan, start: int, carry: Carry | None, report: Report, scratch: Path
    ) -> Iterator[RenderedClip]:
        """Yield the clips from index `start` on; the carry is empty, for no frame needs another."""
        del carry, scratch
        request = plan.request
        report(Progress(stage=Stage.ANALYSE))
        features = analyse(request.audio, start=request.audio_start, seconds=plan.audio_seconds, frames=plan.frames)
        picture, size = _reference(request), (request.width, request.height)

        @cache
        def look_of(seed: int) -> Look:
            return _open_look(replace(request, seed=seed), size, picture, features)

        with ThreadPoolExecutor(_workers(), thread_name_prefix="draft") as pool:
            for clip in plan.clips[start:]:
                look = look_of(clip.seed - clip.index)  # one look, unless a clip was given a seed of its own
                yield RenderedClip(clip=clip, frames=_draw_clip(look, plan, clip, pool, report))


def _draw_clip(look: Look, plan: Plan, clip: Clip, pool: ThreadPoolExecutor, report: Report) -> Frames:
    frames = np.empty((clip.frames, plan.request.height, plan.request.width, 3), np.uint8)
    batch = FRAMES_PER_REPORT_AND_WORKER * _workers()
    for begin in range(0, clip.frames, batch):
        report(_progress(plan, clip, begin))
        places = range(begin, min(begin + batch, clip.frames))
        list(pool.map(lambda place: look.draw(clip.start + place, frames[place]), places))
    report(_progress(plan, clip, clip.frames))
    return frames


def _progress(plan: Plan, clip: Clip, drawn: int) -> Progress:
    return Progress(
        stage=Stage.RENDER,
        clip=clip.index + 1,
        clips=len(plan.clips),
        step=drawn,
        steps=clip.frames,
        done=clip.start + drawn,
        total=plan.frames,
    )


def _reference(request: Request) -> Picture | None:
    return None if request.ref_image is None else load_image(request.ref_image)


def _open_look(request: Request, size: tuple[int, int], picture: Picture | None, features: SoundFeatures) -> Look:
    rng = np.random.default_rng(request.seed)
    motion = choreograph(features)
    if picture is not None:
        return ImageLook(*size, picture=picture, motion=motion, rng=rng)
    palette = choose_palette(request.prompt, motion.key, rng)
    return AbstractLook(*size, motion=motion, palette=palette, rng=rng)


def _silence(*, frames: int) -> SoundFeatures:
    quiet, never = np.zeros(frames, np.float32), np.zeros(0)
    return SoundFeatures(
        loudness=quiet,
        onset=quiet,
        low=quiet,
        mid=quiet,
        high=quiet,
        centroid_hz=quiet,
        chroma=np.zeros((frames, 12), np.float32),
        tempo_bpm=0.0,
        beat_times=never,
        onset_times=never,
    )


def _longest_clip(request: Request) -> int:
    """Most frames that a clip of `request` can have, however long the sound is."""
    plentiful = request.audio_start + request.infer_frames / MODEL_FPS
    return min(request.infer_frames, planning.plan(request, plentiful).frames)


def _memory_needed(request: Request, frames: int) -> int:
    pixels = request.width * request.height
    per_pixel = frames * BYTES_PER_PIXEL + SHARED_BYTES_PER_PIXEL + _workers() * WORKER_BYTES_PER_PIXEL
    return pixels * per_pixel + BASE_BYTES


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:,.0f} GB" if count >= 1e10 else f"{count / 1e9:.1f} GB"


def _workers() -> int:
    return min(os.cpu_count() or 1, 8)
