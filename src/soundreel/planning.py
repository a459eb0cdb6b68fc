"""From a request and the length of a sound to clips. Pure arithmetic: no files, no clock, no chance.

N output frames and a lead-in of 3 are spread over clips whose sizes are multiples of 4:

    161 frames, clips of at most 80:   56 + 56 + 52 sampled  →  53 + 56 + 52 frames
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

from soundreel.errors import InputError
from soundreel.presets import DEFAULT_FRAMES
from soundreel.request import ClipSplit, Request
from soundreel.types import Clip, Plan
from soundreel.units import FRAMES_PER_LATENT, LEAD_IN_FRAMES, MODEL_FPS

MIN_SOUND_SECONDS = 1e-6
"""Less sound than this is rounding, not sound: well under one sample at any rate."""

PIXELS_PER_TOKEN_SIDE = 16
"""VAE stride 8 × patch 2."""

AREA_MULTIPLE = 64
"""Pixels: the reference's size rule gives multiples of this."""

_TRIED_SCALES = 100
_SMALLEST_SCALE = 0.1


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """Tokens that the transformer attends over in one clip."""

    noise: int
    reference: int
    motion: int

    @property
    def total(self) -> int:
        """Sequence length of one forward pass."""
        return self.noise + self.reference + self.motion


def plan(request: Request, audio_seconds: float, *, equal_clips: bool = False) -> Plan:
    """Plan the clips for `request` on a sound of `audio_seconds`.

    With `equal_clips`, for engines that need it, several clips are all `infer_frames` long and the surplus of the
    last is cut. Raises `InputError` where the window holds no sound.
    """
    available = _sound_after_start(request, audio_seconds)
    frames = _count_frames(request, available)
    window = min(available, frames / MODEL_FPS, request.audio_duration or math.inf)
    return Plan(request=request, clips=_split(request, frames, equal_clips), audio_seconds=window)


def with_seeds(plan: Plan, seeds: Sequence[int]) -> Plan:
    """The same clips, each drawn with the seed given for it."""
    clips = tuple(replace(clip, seed=seed) for clip, seed in zip(plan.clips, seeds, strict=True))
    return replace(plan, request=replace(plan.request, clip_seeds=tuple(seeds)), clips=clips)


def count_tokens(plan: Plan, clip: Clip) -> Tokens:
    """Tokens of `clip`: noise, reference image and, from the second clip on, packed motion frames.

    Motion frames are packed at three strides (Wan 2.2 S2V's frame packer): the newest latent frame
    in full, the two before it at half and the sixteen before those at a quarter of the resolution.
    """
    request = plan.request
    per_frame = (request.height // PIXELS_PER_TOKEN_SIDE) * (request.width // PIXELS_PER_TOKEN_SIDE)
    rows, columns = request.height // 8, request.width // 8
    packed = per_frame + (rows // 4) * (columns // 4) + 4 * (rows // 8) * (columns // 8)
    return Tokens(
        noise=clip.size // FRAMES_PER_LATENT * per_frame,
        reference=per_frame if request.ref_image is not None else 0,
        motion=packed if clip.index > 0 or request.start_from_ref else 0,
    )


def size_for_area(height: int, width: int, area: int) -> tuple[int, int]:
    """Height and width of the video for a picture of `height` × `width`, by the reference's size rule.

    Multiples of 64 whose product is at most `area` pixels, near the picture's own proportions; never larger
    than the picture except for rounding up. Source: `get_size_less_than_area` of the official pipeline.

    Raises:
        InputError: no such size; the picture is a thin strip or the area is under 64 × 64.
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
    available = audio_seconds - request.audio_start
    if available < MIN_SOUND_SECONDS:
        raise InputError(
            f"--audio-start is {request.audio_start:g} s, but the sound is {audio_seconds:.3f} s long: "
            "start before its end"
        )
    return available


def _count_frames(request: Request, available: float) -> int:
    in_sound = math.ceil((available - MIN_SOUND_SECONDS) * MODEL_FPS)
    if request.frames is not None:
        wanted = request.frames
    elif request.audio_duration is not None:
        wanted = math.ceil(request.audio_duration * MODEL_FPS)
    elif request.full:
        wanted = in_sound
    else:
        wanted = min(DEFAULT_FRAMES, in_sound)
    if request.num_clip is not None:
        wanted = min(wanted, request.num_clip * request.infer_frames - _lead_in(request))
    return max(1, wanted)


def _lead_in(request: Request) -> int:
    """A clip that starts from the reference image has motion frames before it, and drops nothing."""
    return 0 if request.start_from_ref else LEAD_IN_FRAMES


def _split(request: Request, frames: int, equal_clips: bool) -> tuple[Clip, ...]:
    lead_in = _lead_in(request)
    sizes = _clip_sizes(request, frames + lead_in, equal_clips)
    stops = [min(sampled - lead_in, frames) for sampled in accumulate(sizes)]
    starts = [0, *stops[:-1]]
    return tuple(
        Clip(
            index=k,
            start=start,
            frames=stop - start,
            size=size,
            lead_in=lead_in if k == 0 else 0,
            seed=request.clip_seeds[k] if k < len(request.clip_seeds) else request.seed + k,
        )
        for k, (start, stop, size) in enumerate(zip(starts, stops, sizes, strict=True))
    )


def _clip_sizes(request: Request, sampled: int, equal_clips: bool) -> list[int]:
    """Sizes in frames that cover `sampled` frames, in the least number of clips."""
    latents = math.ceil(sampled / FRAMES_PER_LATENT)
    longest = request.infer_frames // FRAMES_PER_LATENT
    count = math.ceil(latents / longest)
    if request.clip_split is ClipSplit.FULL or (equal_clips and count > 1):
        return [request.infer_frames] * count
    shorter, longer_count = divmod(latents, count)
    return [(shorter + (k < longer_count)) * FRAMES_PER_LATENT for k in range(count)]


def _scale_range(height: int, width: int, area: int) -> tuple[float, float]:
    """Scales between which both sides rounded up to 64 can fit `area`; the largest ignores the rounding."""
    if height * width <= area:
        return _SMALLEST_SCALE, 1.0
    most = AREA_MULTIPLE - 1  # pixels that rounding up may add
    a, b, c = height * width, most * (height + width), most**2 - area
    # (h·s + 63)·(w·s + 63) = area solved for s, with the reference's 2 in place of 4 under the root
    return (-b + math.sqrt(b**2 - 2 * a * c)) / (2 * a), math.sqrt(area / a)


def _round_up(side: int) -> int:
    return -(-side // AREA_MULTIPLE) * AREA_MULTIPLE


def _size_without_padding(height: int, width: int, area: int) -> tuple[int, int]:
    """The reference's last resort: the sides of `area` at the picture's proportions, rounded down to 64."""
    aspect = width / height
    rows = int((area / aspect) ** 0.5 // AREA_MULTIPLE * AREA_MULTIPLE)
    columns = int((area * aspect) ** 0.5 // AREA_MULTIPLE * AREA_MULTIPLE)
    if columns >= width or rows >= height:
        return height // AREA_MULTIPLE * AREA_MULTIPLE, width // AREA_MULTIPLE * AREA_MULTIPLE
    return rows, columns
