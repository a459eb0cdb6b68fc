"""What all clips of a render share, and what each is rendered from: words, sound, reference, poses, motion frames."""

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import torch
from torch import Tensor

from soundreel.driving_sound import drive_of, driving_sound
from soundreel.engines.base import Prepared
from soundreel.engines.native.clips import ClipDecoder, Scene, Words
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
from soundreel.engines.native.sound_store import Columns, cached_features, features_key
from soundreel.engines.shot_poses import pose_runs
from soundreel.media.image import cover, load_image, load_plain_image
from soundreel.request import RefFit, Request
from soundreel.request.presets import DEFAULT_NEGATIVE_PROMPT, DEFAULT_PROMPT
from soundreel.types import Check, Clip, Plan, Shot, go_on
from soundreel.units import StrPath
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
    device, encoders = placement.device, placement.memory.encoders
    loads_beside = placement.memory.loads_beside
    if not loads_beside and (encoders is Encoders.ALONE or not networks.has_transformer_of(placement)):
        networks.let_go(Component.TRANSFORMER)

    def encode(texts: Sequence[str]) -> list[Tensor]:
        beside = encoders is Encoders.STREAMED and (loads_beside or networks.has(Component.TRANSFORMER))
        streamed = placement.memory.text_streamed or beside
        encoder = networks.text_encoder(placement, streamed=streamed, on_load=on_load)
        return [encoder.encode(text) for text in texts]

    of_shots = [_texts(plan.request_of(shot)) for shot in plan.shots]
    texts = list(dict.fromkeys(text for own in of_shots for text in own))
    encoded = dict(zip(texts, networks.prompts(placement, texts, encode), strict=True))
    if encoders is not Encoders.STAY:
        networks.let_go(Component.TEXT_ENCODER)
    load = partial(networks.sound_encoder, placement, on_load)
    sounds = _by_shot(plan, partial(encode_sound, plan, placement.files, device, on_load, check, load))
    if encoders is not Encoders.STAY:
        networks.let_go(Component.AUDIO_ENCODER)
    words = (Words(prompt=encoded[own[0]], negative=encoded[own[1]] if len(own) > 1 else None) for own in of_shots)
    return Scene(words=tuple(words), sounds=sounds)


def _texts(request: Request) -> tuple[str, ...]:
    """The prompt, and with guidance the negative one."""
    prompt, negative = request.prompt or DEFAULT_PROMPT, request.negative_prompt or DEFAULT_NEGATIVE_PROMPT
    return (prompt, negative) if request.sampling.guide_scale > 1 else (prompt,)


def _by_shot(plan: Plan, encode: Callable[[StrPath], Columns]) -> tuple[Columns, ...]:
    """The columns that each shot takes its own from, computed once for each drive."""
    drives = [drive_of(plan, shot) for shot in plan.shots]
    of_drive = {drive: encode(drive) for drive in dict.fromkeys(drives)}
    return tuple(of_drive[drive] for drive in drives)


def encode_sound(
    plan: Plan,
    files: ModelFiles,
    device: torch.device,
    on_load: OnLoad | None = None,
    check: Check = go_on,
    load: Callable[[], SoundEncoder] | None = None,
    drive: StrPath | None = None,
) -> Columns:
    """wav2vec2 features, [S, C, sampled frames of the plan], one column per frame; on disk where they are many.

    The reference hears the whole file, whatever part of it is rendered; otherwise the window is heard. `check` is
    called before each block of it, and may raise to stop. `load` gives the encoder where it is loaded already. `drive`
    says what is heard; None: what the request says.
    """
    blocks = partial(driving_sound(plan, drive, check).blocks, check)
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


class ShotReferences:
    """The reference images that shots have of their own: each is encoded once, for the first clip that sees it."""

    def __init__(self, plan: Plan, decoder: ClipDecoder) -> None:
        self._plan, self._decoder = plan, decoder
        self._how_of_all = decoder.vae.take_fallback()  # of the request's
        self._how: dict[int, str] = {}  # of the shots whose own is encoded

    def see(self, clip: Clip) -> str:
        """Have what `clip` sees encoded; returns how, where that was not as planned."""
        shot = self._plan.shot_of(clip)
        picture = _picture_of(shot)
        if picture is None:
            return self._how_of_all
        if shot.index not in self._how:
            shots = [other.index for other in self._plan.shots if _picture_of(other) == picture]
            self._decoder.add_reference(shots, read_reference(self._plan.request_of(shot)))
            self._how |= dict.fromkeys(shots, self._decoder.vae.take_fallback())
        return self._how[shot.index]


def _picture_of(shot: Shot) -> str | None:
    """The reference image of its own."""
    return None if shot.asked.ref_image is None else os.fspath(shot.asked.ref_image)


def poses(plan: Plan, start: int, check: Check = go_on) -> Iterator[Tensor | None]:
    """The window of its pose video for each clip from index `start` on; None without one.

    `check` is called before each of its frames, and may raise to stop.
    """
    request = plan.request
    for run in pose_runs(plan, start):
        if run.path is None:
            yield from (None for _ in run.clips)
            continue
        yield from pose_windows(
            run.path,
            [(run.first_sampled(plan, clip), clip.size) for clip in run.clips],
            width=request.width,
            height=request.height,
            match=pose_match(request),
            lead_in=plan.lead_in,
            check=check,
        )
