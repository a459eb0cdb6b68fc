"""What all clips of a render share, and what each is rendered from: words, sound, reference, poses, motion frames."""

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from soundreel.engines.native.clips import ClipInput, Scene, first_motion
from soundreel.engines.native.device import (
    compute_dtype,
    release_memory,
)
from soundreel.engines.native.inputs import (
    fit_reference,
    pose_windows,
    to_pixels,
)
from soundreel.engines.native.long_sound import encode_columns, survey
from soundreel.engines.native.memory import EVERYTHING, MemoryPlan
from soundreel.engines.native.sound import SoundEncoder, lead_in_shift
from soundreel.engines.native.sound_store import StoredSound, cached_features, features_key
from soundreel.engines.native.text import TextEncoder
from soundreel.media.audio import model_sound_blocks
from soundreel.media.image import cover, load_image, load_plain_image
from soundreel.media.pose import PoseMatch
from soundreel.presets import DEFAULT_NEGATIVE_PROMPT, DEFAULT_PROMPT
from soundreel.request import AvAlign, RefFit, Request
from soundreel.types import Carry, Clip, Plan
from soundreel.weights.catalog import Component
from soundreel.weights.find import ModelFiles
from soundreel.weights.load import OnLoad

AFTERSOUND_SECONDS = 0.04
"""Sound heard after the window: features are rounded to 1/30 s, and the last frame's own must not be missing."""


MOTION = "motion"
"""Name of the carry's tensor: the motion frames for the next clip, float32 [3, 73, H, W]."""


def prepare_scene(
    plan: Plan,
    files: ModelFiles,
    device: torch.device,
    on_load: OnLoad | None = None,
    memory: MemoryPlan = EVERYTHING,
) -> Scene:
    """Encode words and sound; each encoder has the device to itself and leaves it."""
    request = plan.request
    prompt = request.prompt or DEFAULT_PROMPT
    negative = request.negative_prompt or DEFAULT_NEGATIVE_PROMPT
    prompts = [prompt, negative] if request.guide_scale > 1 else [prompt]
    encoder = TextEncoder.load(
        files, device=device, dtype=compute_dtype(device), on_load=on_load, streamed=memory.text_streamed
    )
    texts = [encoder.encode(text) for text in prompts]
    del encoder
    release_memory(device)
    sound = encode_sound(plan, files, device, on_load)
    release_memory(device)
    reference = None if request.ref_image is None else read_reference(request)
    return Scene(
        prompt=texts[0],
        negative=texts[1] if len(texts) > 1 else None,
        sound=sound,
        reference=reference,
    )


def encode_sound(
    plan: Plan, files: ModelFiles, device: torch.device, on_load: OnLoad | None = None
) -> Tensor | StoredSound:
    """wav2vec2 features, [S, C, sampled frames of the plan], one column per frame; on disk where they are many.

    The reference hears the whole file, whatever part of it is rendered; otherwise the window is heard.
    """
    request = plan.request
    as_reference = request.av_align is AvAlign.REFERENCE
    seconds = request.audio_duration if as_reference else plan.audio_seconds + AFTERSOUND_SECONDS
    blocks = partial(model_sound_blocks, request.audio, start=request.audio_start, seconds=seconds)
    found = survey(blocks())
    frames = sum(clip.size for clip in plan.clips)
    shift = lead_in_shift(plan.clips[0].lead_in, request.av_align)

    def encode() -> Iterator[Tensor]:
        encoder = SoundEncoder.load(files, device=device, on_load=on_load)
        yield from encode_columns(encoder, found, blocks, frames, shift)

    key = features_key(found, files[Component.AUDIO_ENCODER].files, device, frames, shift)
    return cached_features(key, encode(), frames=frames, in_memory=found.samples is not None)


def read_reference(request: Request) -> Tensor:
    """The reference image as pixels [3, 1, H, W]."""
    path, size = request.ref_image, (request.width, request.height)
    assert path is not None
    if request.ref_fit is RefFit.REFERENCE:
        picture = fit_reference(load_plain_image(path), *size)
    else:
        picture = cover(load_image(path), *size)
    return to_pixels(picture[None])


def motion_before(plan: Plan, start: int, carry: Carry | None, scene: Scene) -> Tensor | None:
    """Motion frames for the clip with index `start`, pixels [3, 73, H, W]; None: nothing comes before it."""
    if start > 0:
        assert carry is not None, "clips after the first need the carry of the one before"
        return torch.from_numpy(carry.tensors[MOTION])
    if plan.request.start_from_ref:
        assert scene.reference is not None
        return first_motion(scene.reference)
    return None


def poses(plan: Plan, start: int) -> Iterator[Tensor | None]:
    """The pose video's window for each clip from index `start` on; None without a pose video."""
    request = plan.request
    if request.pose_video is None:
        yield from (None for _ in plan.clips[start:])
        return
    yield from pose_windows(
        request.pose_video,
        [clip.size for clip in plan.clips],
        width=request.width,
        height=request.height,
        match=pose_match(request),
        lead_in=plan.clips[0].lead_in,
        first=start,
    )


def pose_match(request: Request) -> PoseMatch:
    return PoseMatch.REFERENCE if request.av_align is AvAlign.REFERENCE else PoseMatch.TIME


def next_input(plan: Plan, upcoming: Iterator[tuple[Clip, Tensor | None]], motion: Tensor | None) -> ClipInput | None:
    """What the next clip is rendered from; None: there is none."""
    clip, pose = next(upcoming, (None, None))
    if clip is None:
        return None
    return ClipInput(clip=clip, first_sampled=plan.first_sampled(clip), motion=motion, pose=pose)
