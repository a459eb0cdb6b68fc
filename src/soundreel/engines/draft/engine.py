"""The draft engine: every frame is drawn from the sound's features, a seed and its index, on the CPU."""

import math
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache, lru_cache

import numpy as np

from soundreel.analysis import Song, SoundFeatures, hear
from soundreel.disk.durable import uninterrupted
from soundreel.driving_sound import DrivingSound, drive_of
from soundreel.engines.base import Device, Estimate, Identity, KeptBytes, Prepared, PrintsNothing, Start
from soundreel.engines.draft.drawing import Drawing, FrameRenderer, load_reference, style_seed
from soundreel.engines.draft.motion import Motion, motion_from_features
from soundreel.engines.draft.scenes import needs_song
from soundreel.engines.host_memory import available_memory
from soundreel.engines.shot_poses import pose_videos
from soundreel.errors import InputError
from soundreel.media.files import check_file
from soundreel.planning import composition_seeds
from soundreel.request import Drive, Request
from soundreel.types import Check, Clip, Plan, Progress, RenderedClip, Report, Stage, go_on
from soundreel.units import Frames, StrPath
from soundreel.weights.lora_files import LoraSource, lora_file

CPU = "cpu"

DRAWING = 2
"""Raised when drafts are drawn otherwise: clips of before are drawn anew. (`PIXELS_VERSION` counts for all engines, and
would throw away what a GPU has sampled.)"""

BYTES_PER_PIXEL = 3
"""uint8 RGB."""

SHARED_BYTES_PER_PIXEL = 6
"""The reference image with its overscan."""

WORKER_BYTES_PER_PIXEL = 14
"""Memory for drawing one frame, without the frame itself."""

BASE_BYTES = 200 * 2**20
"""The interpreter, its libraries and the coarse grids: 100 to 150 MB were measured."""

SAMPLE_PIXELS = 480 * 832
"""Largest size of the frame that is drawn for an estimate of the time."""

SAMPLE_DRAWINGS = 5
"""How often it is drawn, after a first time: the quickest counts, so that what else the machine does counts less."""

FRAMES_PER_REPORT_AND_WORKER = 2
"""Frames that each worker draws between two progress reports."""


class DraftEngine(PrintsNothing):
    """Animates the reference image, or an abstract pattern, by the sound.

    A frame depends on the request, the sound and its own index only: clips can be rendered in any order.
    """

    name = "draft"
    equal_clips = False
    reach = None
    chains_clips = False
    divides_clips = False

    def __init__(self) -> None:
        self._heard: tuple[Plan, dict[StrPath, SoundFeatures]] | None = None

    def devices(self, request: Request) -> Sequence[Device]:
        """As many processes as are asked for on the CPU; GPUs are of no use to a draft."""
        gpus = request.compute.gpus or "1"
        return [Device(CPU, CPU)] * int(gpus) if request.compute.device == CPU and gpus.isdecimal() else []

    def model_files(self, request: Request) -> Mapping[str, str]:
        """None: the engine has no model."""
        del request
        return {}

    def prepare(self, plan: Plan, kept: Identity | None = None) -> Prepared:
        """Check memory and the files. There is nothing to decide: the identity only tells looks apart."""
        del kept
        request = plan.request
        frames = max(clip.frames for clip in plan.clips)
        needed, free = _memory_needed(request, frames), available_memory()
        if free is not None and needed > free:
            raise InputError(
                f"{request.width}x{request.height} and {frames} frames per clip need about {_gigabytes(needed)}, "
                f"this machine has {_gigabytes(free)} free: use a smaller --width/--height or --infer-frames"
            )
        for path in dict.fromkeys(plan.request_of(shot).ref_image for shot in plan.shots):
            load_reference(path)
        _check_unused_files(plan)
        return Prepared(plan=plan, identity=_identity(plan), notes=tuple(_notes(plan)))

    def estimate(self, prepared: Prepared) -> Estimate:
        """Measure the time for one small frame and scale it to the plan's size and length."""
        plan, request = prepared.plan, prepared.plan.request
        scale = min(1.0, math.sqrt(SAMPLE_PIXELS / (request.width * request.height)))
        width, height = (max(16, round(side * scale)) for side in (request.width, request.height))
        picture = None if request.ref_image is None else np.full((height, width, 3), 128, np.uint8)
        drawing = Drawing.of_silence(request, (width, height), picture)
        renderer = drawing.renderer(0, request.seed)
        spent = _drawing_seconds(renderer, width, height) * request.width * request.height / (width * height)
        longest = max(clip.frames for clip in plan.clips)
        return Estimate(
            seconds=spent * plan.frames / _workers(),
            memory_bytes=_memory_needed(request, longest),
            seconds_basis="drawing alone",
        )

    def kept_bytes(self, plan: Plan) -> KeptBytes:
        """Nothing: frames are drawn again as quickly as they are read."""
        return KeptBytes(negatives=(0,) * len(plan.clips))

    def render(
        self, prepared: Prepared, starts: Iterable[Start], report: Report, check: Check = go_on
    ) -> Iterator[RenderedClip]:
        """Yield the clip of each start; the carries are empty, since no frame depends on another."""
        plan = prepared.plan
        report(Progress(stage=Stage.ANALYSE))
        song = self._song(plan, check) if needs_song(plan) else None

        @cache
        def motion_by(drive: str) -> Motion:
            return motion_from_features(self._features(plan, drive, check))

        drawing = Drawing.of(
            plan,
            self._features(plan, Drive.MIX, check),
            song,
            motion_of=lambda shot: motion_by(os.fspath(drive_of(plan, plan.shots[shot]))),
        )

        @lru_cache(maxsize=2)  # for this shot, and for a clip in it with a seed of its own
        def renderer_of(shot: int, seed: int) -> FrameRenderer:
            return drawing.renderer(shot, seed)

        seeds = composition_seeds(plan)
        with ThreadPoolExecutor(_workers(), thread_name_prefix="draft") as pool:
            for start in starts:
                clip = plan.clips[start.index]
                renderer = renderer_of(clip.shot, seeds[clip.index])
                yield RenderedClip(clip=clip, frames=_draw_clip(renderer, plan, clip, pool, report))

    def _song(self, plan: Plan, check: Check) -> Song:
        """What is heard in the plan's window: its sections give shots their looks."""
        return hear(plan.request.audio, start=plan.request.window.start, seconds=plan.audio_seconds, check=check)

    def _features(self, plan: Plan, drive: StrPath, check: Check) -> SoundFeatures:
        """Of what drives, which is heard once for all shots of a plan that it drives."""
        if self._heard is None or self._heard[0] is not plan:
            self._heard = plan, {}
        heard = self._heard[1]
        if drive not in heard:
            heard[drive] = DrivingSound.of(plan, drive, check).features(plan.frames, check)
        return heard[drive]


def _identity(plan: Plan) -> Identity:
    """What clips of one place and seed differ by: how drafts are drawn, and what all shots have in common."""
    looks = "of sections" if len(plan.shots) > 1 else "of the song"
    return {"drawing": DRAWING, "looks": looks, "style": style_seed(plan.request)}


def _check_unused_files(plan: Plan) -> None:
    """Check those that only a render of the model takes: a draft is to find what is missing for it."""
    for lora in plan.request.compute.loras:
        lora_file(LoraSource.parse(lora).path)
    for path in pose_videos(plan):
        check_file(path, "pose video")


def _notes(plan: Plan) -> Iterator[str]:
    """Notes on options of the model that have no effect on a draft."""
    request = plan.request
    given = {
        "--pose-video": pose_videos(plan),
        "--start-from-ref": request.guide.start_from_ref,
        "--lora": request.compute.loras,
    }
    ignored = [name for name, value in given.items() if value]
    if ignored:
        yield f"{', '.join(ignored)} {'has' if len(ignored) == 1 else 'have'} no effect on a draft"


def _draw_clip(renderer: FrameRenderer, plan: Plan, clip: Clip, pool: ThreadPoolExecutor, report: Report) -> Frames:
    frames = np.empty((clip.frames, plan.request.height, plan.request.width, 3), np.uint8)
    batch = FRAMES_PER_REPORT_AND_WORKER * _workers()
    for begin in range(0, clip.frames, batch):
        report(_progress(plan, clip, begin))
        places = range(begin, min(begin + batch, clip.frames))
        with uninterrupted():
            list(pool.map(lambda place: renderer.draw(clip.start + place, frames[place]), places))
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


def _drawing_seconds(renderer: FrameRenderer, width: int, height: int) -> float:
    """What a frame takes, the second of two."""
    out = np.empty((height, width, 3), np.uint8)
    renderer.draw(0, out)
    spent = []
    for _ in range(SAMPLE_DRAWINGS):
        begun = time.perf_counter()
        renderer.draw(1, out)
        spent.append(time.perf_counter() - begun)
    return min(spent)


def _memory_needed(request: Request, frames: int) -> int:
    pixels = request.width * request.height
    per_pixel = frames * BYTES_PER_PIXEL + SHARED_BYTES_PER_PIXEL + _workers() * WORKER_BYTES_PER_PIXEL
    return pixels * per_pixel + BASE_BYTES


def _gigabytes(count: int) -> str:
    return f"{count / 1e9:,.0f} GB" if count >= 1e10 else f"{count / 1e9:.1f} GB"


def _workers() -> int:
    return min(os.cpu_count() or 1, 8)
