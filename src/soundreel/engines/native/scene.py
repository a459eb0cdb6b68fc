"""What all clips of a render share, and what each is rendered from: words, sound, reference, poses, motion frames."""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from soundreel.driving_sound import driving_sound
from soundreel.engines.base import Prepared
from soundreel.engines.native.clips import Scene
from soundreel.engines.native.inputs import (
    fit_reference,
    pose_windows,
    to_pixels,
)
from soundreel.engines.native.long_sound import encode_columns, survey
from soundreel.engines.native.memory_plan import Encoders
from soundreel.engines.native.networks import Networks
from soundreel.engines.native.prepared import pose_match
from soundreel.engines.native.sound import SoundEncoder, lead_in_shift
from soundreel.engines.native.sound_store import StoredSound, cached_features, features_key
from soundreel.media.image import cover, load_image, load_plain_image
from soundreel.presets import DEFAULT_NEGATIVE_PROMPT, DEFAULT_PROMPT
from soundreel.request import RefFit, Request
from soundreel.types import Check, Plan, go_on
from soundreel.weights.catalog import Component
from soundreel.weights.find import ModelFiles
from soundreel.weights.load import OnLoad


def prepare_scene(
    prepared: Prepared, networks: Networks | None = None, on_load: OnLoad | None = None, check: Check = go_on
) -> Scene:
    """Encode words and sound. `check` may raise to stop.

    Each encoder has the device to itself and leaves it, unless the placement has room for it beside `networks`.
    """
    plan, placement = prepared.plan, prepared.placement
    networks = Networks() if networks is None else networks
    request, device, encoders = plan.request, placement.device, placement.memory.encoders
    loads_beside = placement.memory.loads_beside
    if not loads_beside and (encoders is Encoders.ALONE or not networks.has_transformer_of(placement)):
        networks.let_go(Component.TRANSFORMER)

    def encode(texts: Sequence[str]) -> list[Tensor]:
        beside = encoders is Encoders.STREAMED and (loads_beside or networks.has(Component.TRANSFORMER))
        streamed = placement.memory.text_streamed or beside
        encoder = networks.text_encoder(placement, streamed=streamed, on_load=on_load)
        return [encoder.encode(text) for text in texts]

    prompt = request.prompt or DEFAULT_PROMPT
    negative = request.negative_prompt or DEFAULT_NEGATIVE_PROMPT
    prompts = [prompt, negative] if request.sampling.guide_scale > 1 else [prompt]
    texts = networks.prompts(placement, prompts, encode)
    if encoders is not Encoders.STAY:
        networks.let_go(Component.TEXT_ENCODER)
    load = partial(networks.sound_encoder, placement, on_load)
    sound = encode_sound(plan, placement.files, device, on_load, check, load)
    if encoders is not Encoders.STAY:
        networks.let_go(Component.AUDIO_ENCODER)
    return Scene(prompt=texts[0], negative=texts[1] if len(texts) > 1 else None, sound=sound)


def encode_sound(
    plan: Plan,
    files: ModelFiles,
    device: torch.device,
    on_load: OnLoad | None = None,
    check: Check = go_on,
    load: Callable[[], SoundEncoder] | None = None,
) -> Tensor | StoredSound:
    """wav2vec2 features, [S, C, sampled frames of the plan], one column per frame; on disk where they are many.

    The reference hears the whole file, whatever part of it is rendered; otherwise the window is heard. `check` is
    called before each block of it, and may raise to stop. `load` gives the encoder where it is loaded already.
    """
    blocks = partial(driving_sound(plan).blocks, check)
    found = survey(blocks())
    frames = plan.sampled_frames
    shift = lead_in_shift(plan.lead_in, plan.request.guide.av_align)

    def encode() -> Iterator[Tensor]:
        encoder = SoundEncoder.load(files, device=device, on_load=on_load) if load is None else load()
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
