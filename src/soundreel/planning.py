"""The plan of a render: shots and clips from a request and the length of its sound. Pure functions, without files.

The N frames of a shot and a lead-in of 3 are spread over clips whose sizes are multiples of 4:

    161 frames, clips of at most 80:   56 + 56 + 52 sampled  →  53 + 56 + 52 frames
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from soundreel.durations import exactly
from soundreel.errors import InputError
from soundreel.presets import DEFAULT_FRAMES
from soundreel.request import ClipSplit, Request, Window
from soundreel.types import Clip, Plan, Shot
from soundreel.units import FRAMES_PER_LATENT, LEAD_IN_FRAMES, MAX_CLIPS, MODEL_FPS, SIZE_MULTIPLE, VAE_STRIDE

MIN_SOUND_SECONDS = 1e-6
"""Sound shorter than this, well under one sample at any rate, is taken as a rounding error."""

AREA_MULTIPLE = 64
"""Pixels: sides by the reference's size rule (`size_for_area`) are multiples of this."""

_TRIED_SCALES = 100
_SMALLEST_SCALE = 0.1
"""Constants of the reference's size rule."""


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Number of tokens that the transformer attends over in one clip, by kind."""

    noise: int
    reference: int
    motion: int

    @property
    def total(self) -> int:
        """Sequence length of one forward pass."""
        return self.noise + self.reference + self.motion


def plan(request: Request, audio_seconds: float, *, equal_clips: bool = False) -> Plan:
    """Plan the shots and clips for `request` and a sound of `audio_seconds`.

    Args:
        equal_clips: where a shot has several clips, all of them sample `infer_frames` frames, and the surplus of the
            last is dropped; for engines that need it.

    Raises:
        InputError: the window holds no sound, a cut lies outside the video or twice on one frame, or there would be
            more clips than a render can have.
    """
    bounds = shot_bounds(request, audio_seconds)
    available = audio_seconds - request.window.start
    window = min(available, bounds[-1] / MODEL_FPS, request.window.duration or math.inf)
    return Plan(request=request, shots=_split(request, bounds, equal_clips), audio_seconds=window)


def shot_bounds(request: Request, audio_seconds: float) -> list[int]:
    """The first frame of every shot, and the number of frames of them all. No clip is planned for it.

    Raises:
        InputError: as `plan`.
    """
    available = _sound_after_start(request, audio_seconds)
    wanted = _count_frames(request, available)
    starts = _shot_starts(request, wanted)
    frames = _within_clips(request, starts, wanted)
    bounds = [*(start for start in starts if start < frames), frames]
    _check_count(request, bounds)
    return bounds


def excerpt(plan: Plan, audio_seconds: float) -> str:
    """Which part of a sound of `audio_seconds` a video shows that was asked for without a length, and how to get all.

    "" where a length was asked for, or less than a frame is left out.
    """
    window = plan.request.window
    if window.has_length or (audio_seconds - window.start - plan.seconds) * MODEL_FPS < 1:
        return ""
    whole = exactly(audio_seconds, digits=2)
    if window.start:
        return f"{plan.seconds:.2f} s from {window.start:g} s on, of {whole} of the sound; --full makes all from there"
    return f"the first {plan.seconds:.2f} of {whole} of the sound; --full makes all of it"


def shot_plan(plan: Plan, shot: Shot) -> Plan:
    """The plan of one shot alone, which begins at frame 0 and whose window begins at the shot's first frame."""
    if len(plan.shots) == 1:
        return plan
    begin, first = shot.start / MODEL_FPS, shot.clips[0].index
    seconds = min(max(0.0, plan.audio_seconds - begin), shot.frames / MODEL_FPS)
    clips = tuple(replace(c, index=c.index - first, start=c.start - shot.start, shot=0) for c in shot.clips)
    request = plan.request.replace(window=Window(start=plan.request.window.start + begin, frames=shot.frames), cuts=())
    return Plan(request=request, shots=(Shot(index=0, clips=clips),), audio_seconds=seconds)


def count_tokens(plan: Plan, clip: Clip) -> Tokens:
    """Tokens of `clip`: noise, reference image, and packed motion frames where it continues another clip.

    Motion frames are packed at three strides (Wan 2.2 S2V's frame packer): the newest latent frame at full resolution,
    the two before it at half, and the sixteen before those at a quarter, four latent frames to a token.
    """
    request = plan.request
    per_frame = (request.height // SIZE_MULTIPLE) * (request.width // SIZE_MULTIPLE)
    rows, columns = request.height // VAE_STRIDE, request.width // VAE_STRIDE
    packed = per_frame + (rows // 4) * (columns // 4) + 4 * (rows // 8) * (columns // 8)
    return Tokens(
        noise=clip.size // FRAMES_PER_LATENT * per_frame,
        reference=per_frame if request.ref_image is not None else 0,
        motion=packed if plan.continues(clip) or request.guide.start_from_ref else 0,
    )


def size_for_area(height: int, width: int, area: int) -> tuple[int, int]:
    """Height and width of the video for an image of `height` × `width` pixels, by the reference's size rule.

    Both are multiples of `AREA_MULTIPLE`, their product is at most `area` pixels, and their proportions are near the
    image's; the video is not larger than the image, except by rounding up. Source: `get_size_less_than_area` of the
    official pipeline.

    Raises:
        InputError: there is no such size, because the image is very narrow or the area below 64 × 64.
    """
    smallest, largest = _scale_range(height, width, area)
    scales = (largest - (largest - smallest) * i / _TRIED_SCALES for i in range(_TRIED_SCALES))
    sizes = ((_round_up(int(height * scale)), _round_up(int(width * scale))) for scale in scales)
    fitting = next((size for size in sizes if math.prod(size) <= area), None)
    rows, columns = fitting or _size_without_padding(height, width, area)
    if not rows or not columns:
        raise InputError(
            f"a {width}×{height} picture fits no video of at most {area} pixels in sides of {AREA_MULTIPLE}: "
            "take another picture, a larger area, or an exact width and height"
        )
    return rows, columns


def _sound_after_start(request: Request, audio_seconds: float) -> float:
    available = audio_seconds - request.window.start
    if available < MIN_SOUND_SECONDS:
        raise InputError(
            f"--audio-start is {request.window.start:g} s, but the sound is {audio_seconds:.3f} s long: "
            "start before its end"
        )
    return available


def _count_frames(request: Request, available: float) -> int:
    in_sound = math.ceil((available - MIN_SOUND_SECONDS) * MODEL_FPS)
    if request.window.frames is not None:
        wanted = request.window.frames
    elif request.window.duration is not None:
        wanted = math.ceil(request.window.duration * MODEL_FPS)
    elif request.window.full:
        wanted = in_sound
    else:
        wanted = min(_default_frames(request), in_sound)
    return max(1, wanted)


def _default_frames(request: Request) -> int:
    """Frames of a video for which no length is asked."""
    clips = request.window.default_clips
    return DEFAULT_FRAMES if clips is None else clips * request.sampling.infer_frames - _lead_in(request)


def _shot_starts(request: Request, frames: int) -> list[int]:
    """First frames of the shots: 0, and for each cut the frame nearest to its time."""
    starts = [0]
    for cut in sorted(request.cuts):
        frame = round((cut - request.window.start) * MODEL_FPS)
        if not 0 < frame < frames:
            begin, end = request.window.start, request.window.start + frames / MODEL_FPS
            raise InputError(
                f"--cut is {cut:g} s: expected a time inside the video, which shows {begin:g} to {end:g} s of it",
                field="cuts",
            )
        if frame == starts[-1]:
            raise InputError(
                f"--cut {cut:g} s falls on the same frame as the cut before it: expected one cut a frame (1/16 s)",
                field="cuts",
            )
        starts.append(frame)
    return starts


def _within_clips(request: Request, starts: Sequence[int], frames: int) -> int:
    """`frames`, limited to what `num_clip` clips yield."""
    left = request.window.num_clip
    if left is None:
        return frames
    for start, stop in pairwise([*starts, frames]):
        yielded = left * request.sampling.infer_frames - _lead_in(request)
        if yielded <= stop - start:
            return max(1, start + max(0, yielded))
        left -= math.ceil((stop - start + _lead_in(request)) / request.sampling.infer_frames)
        if left == 0:
            return stop
    return frames


def _check_count(request: Request, bounds: Sequence[int]) -> None:
    """Raise `InputError` for a length that no render can have."""
    longest, lead_in = request.sampling.infer_frames, _lead_in(request)
    clips = sum(math.ceil((stop - start + lead_in) / longest) for start, stop in pairwise(bounds))
    if clips > MAX_CLIPS:
        raise InputError(
            f"{bounds[-1]:,} frames are {clips:,} clips of {longest}: expected at most {MAX_CLIPS:,}, choose a shorter "
            "length",
            field="window.frames",
        )


def _lead_in(request: Request) -> int:
    """Frames that the first clip of a shot drops: none where it starts from the reference image as motion frames."""
    return 0 if request.guide.start_from_ref else LEAD_IN_FRAMES


def _split(request: Request, bounds: Sequence[int], equal_clips: bool) -> tuple[Shot, ...]:
    shots: list[Shot] = []
    for number, (start, stop) in enumerate(pairwise(bounds)):
        first = shots[-1].clips[-1].index + 1 if shots else 0
        shots.append(Shot(index=number, clips=tuple(_clips(request, number, first, start, stop, equal_clips))))
    return tuple(shots)


def _clips(request: Request, shot: int, first: int, start: int, stop: int, equal_clips: bool) -> Iterator[Clip]:
    """The clips of shot number `shot`, frames `start` to `stop`; the first clip has index `first`."""
    lead_in = _lead_in(request)
    at = start
    for k, size in enumerate(_clip_sizes(request, stop - start + lead_in, equal_clips)):
        dropped = lead_in if k == 0 else 0
        frames, index = min(size - dropped, stop - at), first + k
        yield Clip(
            index=index,
            start=at,
            frames=frames,
            size=size,
            lead_in=dropped,
            seed=request.clip_seeds[index] if index < len(request.clip_seeds) else request.seed + index,
            shot=shot,
        )
        at += frames


def _clip_sizes(request: Request, sampled: int, equal_clips: bool) -> list[int]:
    """Sizes in frames of the smallest number of clips that cover `sampled` frames."""
    latents = math.ceil(sampled / FRAMES_PER_LATENT)
    longest = request.sampling.infer_frames // FRAMES_PER_LATENT
    count = math.ceil(latents / longest)
    if request.sampling.clip_split is ClipSplit.FULL or (equal_clips and count > 1):
        return [request.sampling.infer_frames] * count
    shorter, longer_count = divmod(latents, count)
    return [(shorter + (k < longer_count)) * FRAMES_PER_LATENT for k in range(count)]


def _scale_range(height: int, width: int, area: int) -> tuple[float, float]:
    """The smallest and largest scale to try, so that both sides, rounded up to 64, may fit into `area`.

    The largest ignores the rounding.
    """
    if height * width <= area:
        return _SMALLEST_SCALE, 1.0
    most = AREA_MULTIPLE - 1  # pixels that rounding up may add
    a, b, c = height * width, most * (height + width), most**2 - area
    # (h·s + 63)·(w·s + 63) = area solved for s, with the reference's 2 in place of 4 under the root
    return (-b + math.sqrt(b**2 - 2 * a * c)) / (2 * a), math.sqrt(area / a)


def _round_up(side: int) -> int:
    return -(-side // AREA_MULTIPLE) * AREA_MULTIPLE


def _size_without_padding(height: int, width: int, area: int) -> tuple[int, int]:
    """The reference's fallback: the sides of `area` at the image's proportions, rounded down to 64."""
    aspect = width / height
    rows = int((area / aspect) ** 0.5 // AREA_MULTIPLE * AREA_MULTIPLE)
    columns = int((area * aspect) ** 0.5 // AREA_MULTIPLE * AREA_MULTIPLE)
    if columns >= width or rows >= height:
        return height // AREA_MULTIPLE * AREA_MULTIPLE, width // AREA_MULTIPLE * AREA_MULTIPLE
    return rows, columns
