"""What all clips of a render share, and what each is rendered from: words, sound, reference, poses, motion frames."""

from collections.abc import Iterator
from functools import partial

import torch
from torch import Tensor

from soundreel.driving_sound import driving_sound
from soundreel.engines.base import Prepared
from soundreel.engines.native.clips import Scene
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
from soundreel.engines.native.prepared import pose_match
from soundreel.engines.native.sound import SoundEncoder, lead_in_shift
from soundreel.engines.native.sound_store import StoredSound, cached_features, features_key
from soundreel.engines.native.text import TextEncoder
from soundreel.media.image import cover, load_image, load_plain_image
from soundreel.presets import DEFAULT_NEGATIVE_PROMPT, DEFAULT_PROMPT
from soundreel.request import RefFit, Request
from soundreel.types import Check, Plan, go_on
from soundreel.weights.catalog import Component
from soundreel.weights.find import ModelFiles
from soundreel.weights.load import OnLoad


def prepare_scene(prepared: Prepared, on_load: OnLoad | None = None, check: Check = go_on) -> Scene:
    """Encode words and sound; each encoder has the device to itself and leaves it. `check` may raise to stop."""
    plan, placement = prepared.plan, prepared.placement
    files, device, request = placement.files, placement.device, plan.request
    prompt = request.prompt or DEFAULT_PROMPT
    negative = request.negative_prompt or DEFAULT_NEGATIVE_PROMPT
    prompts = [prompt, negative] if request.sampling.guide_scale > 1 else [prompt]
    streamed = placement.memory.text_streamed
    encoder = TextEncoder.load(
        files, device="cpu" if streamed else device, dtype=compute_dtype(device), on_load=on_load
    )
    if streamed:
        encoder.stream_to(device)
    texts = [encoder.encode(text) for text in prompts]
    del encoder
    release_memory(device)
    sound = encode_sound(plan, files, device, on_load, check)
    release_memory(device)
    return Scene(prompt=texts[0], negative=texts[1] if len(texts) > 1 else None, sound=sound)


def encode_sound(
    plan: Plan, files: ModelFiles, device: torch.device, on_load: OnLoad | None = None, check: Check = go_on
) -> Tensor | StoredSound:
    """wav2vec2 features, [S, C, sampled frames of the plan], one column per frame; on disk where they are many.

    The reference hears the whole file, whatever part of it is rendered; otherwise the window is heard. `check` is
    called before each block of it, and may raise to stop.
    """
    blocks = partial(driving_sound(plan).blocks, check)
    found = survey(blocks())
    frames = plan.sampled_frames
    shift = lead_in_shift(plan.lead_in, plan.request.guide.av_align)

    def encode() -> Iterator[Tensor]:
        encoder = SoundEncoder.load(files, device=device, on_load=on_load)
        yield from encode_columns(encoder, found, blocks, frames, shift)

    key = features_key(found, files[Component.AUDIO_ENCODER].files, device, frames, shift)
    return cached_features(key, encode(), frames=frames, in_memory=found.samples is not None)


def read_reference(request: Request) -> Tensor:
    """The reference image as pixels [3, 1, H, W]."""
    path, size = request.ref_image, (request.width, request.height)
    assert path is not None
    if request.guide.ref_fit is RefFit.REFERENCE:
        picture = fit_reference(load_plain_image(path), *size)
    else:
        picture = cover(load_image(path), *size)
    return to_pixels(picture[None])


def poses(plan: Plan, start: int, check: Check = go_on) -> Iterator[Tensor | None]:
    """The pose video's window for each clip from index `start` on; None without a pose video.

    `check` is called before each of its frames, and may raise to stop.
    """
    request = plan.request
    if request.guide.pose_video is None:
        yield from (None for _ in plan.clips[start:])
        return
    yield from pose_windows(
        request.guide.pose_video,
        [(plan.first_sampled(clip), clip.size) for clip in plan.clips[start:]],
        width=request.width,
        height=request.height,
        match=pose_match(request),
        lead_in=plan.lead_in,
        check=check,
    )
