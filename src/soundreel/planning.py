"""The plan of a render: shots and clips from a request and the length of its sound. Pure functions, without files.

The N frames of a shot and a lead-in of 3 are spread over clips whose sizes are multiples of 4:

    161 frames, clips of at most 80:   56 + 56 + 52 sampled  →  53 + 56 + 52 frames
"""

import math
import zlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from soundreel.errors import InputError
from soundreel.request import ClipSplit, Cut, Request, ShotRequest, Window
from soundreel.request.presets import DEFAULT_FRAMES
from soundreel.types import Chain, Clip, Plan, Shot
from soundreel.units import FRAMES_PER_LATENT, LEAD_IN_FRAMES, MAX_CLIPS, MODEL_FPS, SIZE_MULTIPLE, VAE_STRIDE
from soundreel.wording.durations import exactly

MIN_SOUND_SECONDS = 1e-6
"""Sound shorter than this, well under one sample at any rate, is taken as a rounding error."""

NAMED_SEEDS = 10**6
"""Seeds that a name may give to a shot."""


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
        equal_clips: for engines that chain latents. Where a shot has several clips, all of them sample `infer_frames`
            frames, and the surplus of the last is dropped. A shot that continues another begins on the nearest frame
            where a latent frame ends, and has no surplus before the next. That is at most two frames beside its time;
            three after a shot of one frame that begins a chain without a lead-in.

    Raises:
        InputError: the window holds no sound, a cut lies outside the video or twice on one frame, or there would be
            more clips than a render can have.
    """
    spans, frames = _lay_out(request, audio_seconds)
    if equal_clips:
        spans = _on_latents(request, spans, frames)
    available = audio_seconds - request.window.start
    window = min(available, frames / MODEL_FPS, request.window.duration or math.inf)
    return Plan(request=request, shots=_split(request, spans, frames, equal_clips), audio_seconds=window)


def shot_bounds(request: Request, audio_seconds: float) -> list[int]:
    """The first frame of every shot, and the number of frames of them all. No clip is planned for it.

    Raises:
        InputError: as `plan`.
    """
    spans, frames = _lay_out(request, audio_seconds)
    return [*(span.start for span in spans), frames]


def _lay_out(request: Request, audio_seconds: float) -> tuple[list["_Span"], int]:
    """The shots, and the number of frames of them all."""
    available = _sound_after_start(request, audio_seconds)
    wanted = _count_frames(request, available)
    spans = _spans(request, wanted)
    frames = _within_clips(request, spans, wanted)
    spans = [span for span in spans if span.start < frames]
    _check_count(request, spans, frames)
    return spans, frames


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


def chain_plan(plan: Plan, chain: Chain) -> Plan:
    """The plan of one chain alone, which begins at frame 0 and whose window begins at the chain's first frame."""
    if len(plan.chains) == 1:
        return plan
    begin, first, first_shot = chain.start / MODEL_FPS, chain.clips[0].index, chain.shots[0].index
    seconds = min(max(0.0, plan.audio_seconds - begin), chain.frames / MODEL_FPS)

    def alone(shot: Shot) -> Shot:
        clips = (
            replace(c, index=c.index - first, start=c.start - chain.start, shot=c.shot - first_shot) for c in shot.clips
        )
        return replace(shot, index=shot.index - first_shot, clips=tuple(clips))

    window = Window(start=plan.request.window.start + begin, frames=chain.frames)
    request = plan.request.replace(window=window, cuts=(), shots=())
    return Plan(request=request, shots=tuple(map(alone, chain.shots)), audio_seconds=seconds)


def composition_seeds(plan: Plan) -> list[int]:
    """The seed of each clip, for engines that compose a shot once: one for all its clips, where their own count on.

    A shot that continues another and has no seed of its own goes on with the one that that ends with. A clip that is
    drawn again with another seed gets another here, and so does what goes on with it.
    """
    seeds: list[int] = []
    for shot in plan.shots:
        first = shot.clips[0].index
        goes_on = shot.continues and shot.asked.seed is None
        moved = seeds[-1] - _first_seed(plan.request, shot.asked, first) if goes_on else 0
        counted_from = first if plan.request.shots else shot.index
        seeds += [clip.seed - (clip.index - counted_from) + moved for clip in shot.clips]
    return [seed % 2**64 for seed in seeds]  # one that is drawn again may have a small one


def count_tokens(plan: Plan, clip: Clip) -> Tokens:
    """Tokens of `clip`: noise, reference image, and packed motion frames where it continues another clip.

    Motion frames are packed at three strides (Wan 2.2 S2V's frame packer): the newest latent frame at full resolution,
    the two before it at half, and the sixteen before those at a quarter, four latent frames to a token.
    """
    request = plan.request_of(plan.shot_of(clip))
    per_frame = (request.height // SIZE_MULTIPLE) * (request.width // SIZE_MULTIPLE)
    rows, columns = request.height // VAE_STRIDE, request.width // VAE_STRIDE
    packed = per_frame + (rows // 4) * (columns // 4) + 4 * (rows // 8) * (columns // 8)
    return Tokens(
        noise=clip.size // FRAMES_PER_LATENT * per_frame,
        reference=per_frame if request.ref_image is not None else 0,
        motion=packed if plan.continues(clip) or request.guide.start_from_ref else 0,
    )


def _sound_after_start(request: Request, audio_seconds: float) -> float:
    available = audio_seconds - request.window.start
    if available < MIN_SOUND_SECONDS:
        raise InputError(
            f"--audio-start is {request.window.start:g} s, but the sound is {audio_seconds:.3f} s long: "
            "start before its end",
            field="window.start",
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


@dataclass(frozen=True, kw_only=True)
class _Span:
    """Where a shot begins, and how."""

    start: int  # first output frame
    asked: ShotRequest
    continues: bool = False

    def lead_in(self, request: Request) -> int:
        """Decoded frames that its first clip drops."""
        return 0 if self.continues else _lead_in(request)


def _spans(request: Request, frames: int) -> list[_Span]:
    """The shots of a video of so many frames, each from the frame nearest to its time."""
    if request.shots:
        return _shots_in(request, frames)
    spans = [_Span(start=0, asked=ShotRequest(start=request.window.start))]
    for cut in sorted(request.cuts):
        frame = _nearest_frame(request, cut)
        if not 0 < frame < frames:
            begin, end = request.window.start, request.window.start + frames / MODEL_FPS
            raise InputError(
                f"--cut is {cut:g} s: expected a time inside the video, which shows {begin:g} to {end:g} s of it",
                field="cuts",
            )
        if frame == spans[-1].start:
            raise InputError(
                f"--cut {cut:g} s falls on the same frame as the cut before it: expected one cut a frame (1/16 s)",
                field="cuts",
            )
        spans.append(_Span(start=frame, asked=ShotRequest(start=cut)))
    return spans


def _shots_in(request: Request, frames: int) -> list[_Span]:
    """The shots of a storyboard that lie in the window; the one in which it begins loses what is before."""
    starts = [_nearest_frame(request, shot.start) for shot in request.shots]
    for number, (frame, following) in enumerate(pairwise(starts), start=1):
        if frame == following:
            earlier, later = (says_shot(request.shots[k], k) for k in (number - 1, number))
            raise InputError(
                f"{earlier} and {later} begin on the same frame, at {request.shots[number].start:g} s: a shot has at "
                "least one (1/16 s)",
                field="shots.start",
            )
    if starts[0] > 0:
        raise InputError(
            f"the first shot begins at {request.shots[0].start:g} s, the video at {request.window.start:g} s: expected "
            "a shot for its beginning",
            field="shots.start",
        )
    first = bisect_right(starts, 0) - 1
    return [
        _Span(start=max(0, frame), asked=shot, continues=frame > 0 and shot.cut is Cut.CONTINUE)
        for frame, shot in list(zip(starts, request.shots, strict=True))[first:]
        if frame < frames
    ]


def says_shot(shot: ShotRequest, index: int) -> str:
    """A shot as messages call it: by its name, else by its number."""
    return f"shot {shot.name!r}" if shot.name else f"shot {index + 1}"


def _nearest_frame(request: Request, seconds: float) -> int:
    return round((seconds - request.window.start) * MODEL_FPS)


def _on_latents(request: Request, spans: Sequence[_Span], frames: int) -> list[_Span]:
    """With continued shots on frames where a latent frame ends, the nearest: for engines that chain latents."""
    moved: list[_Span] = []
    begin = 0  # of the chain
    for number, (span, following) in enumerate(zip(spans, [*spans[1:], None], strict=True), start=1):
        if not span.continues:
            begin = span.start
            moved.append(span)
            continue
        latents = max(1, round((span.start - begin + _lead_in(request)) / FRAMES_PER_LATENT))
        start = begin + latents * FRAMES_PER_LATENT - _lead_in(request)
        if start <= moved[-1].start or start >= (frames if following is None else following.start):
            raise InputError(
                f"{says_shot(span.asked, number - 1)} continues another and is too near to the next cut or the one "
                f"before: this engine needs {FRAMES_PER_LATENT} frames for a shot that continues or is continued",
                field="shots.start",
            )
        moved.append(replace(span, start=start))
    return moved


def _within_clips(request: Request, spans: Sequence[_Span], frames: int) -> int:
    """`frames`, limited to what `num_clip` clips yield."""
    left = request.window.num_clip
    if left is None:
        return frames
    for span, stop in _with_stops(spans, frames):
        yielded = left * request.sampling.infer_frames - span.lead_in(request)
        if yielded <= stop - span.start:
            return max(1, span.start + max(0, yielded))
        left -= math.ceil((stop - span.start + span.lead_in(request)) / request.sampling.infer_frames)
        if left == 0:
            return stop
    return frames


def _with_stops(spans: Sequence[_Span], frames: int) -> Iterator[tuple[_Span, int]]:
    """Each shot, and the first frame after it."""
    return zip(spans, [*(span.start for span in spans[1:]), frames], strict=True)


def _check_count(request: Request, spans: Sequence[_Span], frames: int) -> None:
    """Raise `InputError` for a length that no render can have."""
    longest = request.sampling.infer_frames
    clips = sum(
        math.ceil((stop - span.start + span.lead_in(request)) / longest) for span, stop in _with_stops(spans, frames)
    )
    if clips > MAX_CLIPS:
        raise InputError(
            f"{frames:,} frames are {clips:,} clips of {longest}: expected at most {MAX_CLIPS:,}, choose a shorter "
            "length",
            field="window.frames",
        )


def _lead_in(request: Request) -> int:
    """Frames that the first clip of a chain drops: none where it starts from the reference image as motion frames."""
    return 0 if request.guide.start_from_ref else LEAD_IN_FRAMES


def _split(request: Request, spans: Sequence[_Span], frames: int, chains_latents: bool) -> tuple[Shot, ...]:
    shots: list[Shot] = []
    for span, stop in _with_stops(spans, frames):
        number, first = len(shots), shots[-1].clips[-1].index + 1 if shots else 0
        is_continued = stop < frames and spans[number + 1].continues
        sampled = stop - span.start + span.lead_in(request)
        if chains_latents and (span.continues or is_continued):
            sizes = _even_sizes(request, sampled)  # what is sampled ends where the next shot begins
        else:
            sizes = _clip_sizes(request, sampled, chains_latents)
        clips = tuple(_clips(request, span, sizes, shot=number, first=first, stop=stop))
        shots.append(Shot(index=number, clips=clips, continues=span.continues, asked=span.asked))
    return tuple(shots)


def _clips(request: Request, span: _Span, sizes: Sequence[int], *, shot: int, first: int, stop: int) -> Iterator[Clip]:
    """The clips of shot number `shot`, up to frame `stop`; the first clip has index `first`."""
    at, seed = span.start, _first_seed(request, span.asked, first)
    for k, size in enumerate(sizes):
        dropped = span.lead_in(request) if k == 0 else 0
        frames, index = min(size - dropped, stop - at), first + k
        yield Clip(
            index=index,
            start=at,
            frames=frames,
            size=size,
            lead_in=dropped,
            seed=request.clip_seeds[index] if index < len(request.clip_seeds) else seed + k,
            shot=shot,
        )
        at += frames


def _first_seed(request: Request, shot: ShotRequest, first: int) -> int:
    """The seed of a shot's first clip, which has index `first`, unless it is drawn again with another.

    A named shot's follows from its name, so that it stays when a shot before it is made longer, divided or left out.
    """
    if shot.seed is not None:
        return shot.seed
    return request.seed + (zlib.crc32(shot.name.encode()) % NAMED_SEEDS if shot.name else first)


def _clip_sizes(request: Request, sampled: int, equal_clips: bool) -> list[int]:
    """Sizes in frames of the smallest number of clips that cover `sampled` frames."""
    count = math.ceil(sampled / request.sampling.infer_frames)
    if request.sampling.clip_split is ClipSplit.FULL or (equal_clips and count > 1):
        return [request.sampling.infer_frames] * count
    return _even_sizes(request, sampled)


def _even_sizes(request: Request, sampled: int) -> list[int]:
    """The same, as equal as can be."""
    latents = math.ceil(sampled / FRAMES_PER_LATENT)
    count = math.ceil(sampled / request.sampling.infer_frames)
    shorter, longer_count = divmod(latents, count)
    return [(shorter + (k < longer_count)) * FRAMES_PER_LATENT for k in range(count)]
