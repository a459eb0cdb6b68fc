"""How clips continue each other: the motion frames before a clip, kept or printed again from negatives before it."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from soundreel.engines.base import KeptBytes, Start
from soundreel.engines.native.clips import ClipDecoder, Negative, first_motion, next_motion
from soundreel.engines.native.scene import read_reference
from soundreel.models.frame_packing import MOTION_FRAMES
from soundreel.models.vae import OnFrames
from soundreel.types import Carry, Clip, Plan
from soundreel.units import FRAMES_PER_LATENT, Frames

MOTION: Final = "motion"
"""Name of the carry's tensor: the motion frames for the next clip, float32 [3, 73, H, W]."""

LATENTS, MOTION_LATENTS = "latents", "motion latents"
"""Names of a stored negative's tensors."""


FLOAT32_BYTES: Final = 4
RGB_CHANNELS: Final = 3
LATENT_CHANNELS: Final = 16
LATENT_STRIDE: Final = 8
"""Pixels to a latent, each way."""


def kept_bytes(plan: Plan) -> KeptBytes:
    """What negatives and carries of a plan take: all in float32."""
    request = plan.request
    pixels = request.width * request.height
    latent_frame = (
        LATENT_CHANNELS * (request.height // LATENT_STRIDE) * (request.width // LATENT_STRIDE) * FLOAT32_BYTES
    )
    motion_frames = 1 + (MOTION_FRAMES - 1) // FRAMES_PER_LATENT

    def negative(clip: Clip) -> int:
        has_motion = plan.continues(clip) or request.guide.start_from_ref
        return (clip.size // FRAMES_PER_LATENT + (motion_frames if has_motion else 0)) * latent_frame

    return KeptBytes(
        negatives=tuple(map(negative, plan.clips)), carry=RGB_CHANNELS * MOTION_FRAMES * pixels * FLOAT32_BYTES
    )


@dataclass
class Chain:
    """The clips of a plan as they are sampled and printed, those of a chain in order.

    Args:
        start: of the clip in hand.
        reference: the request's reference image, pixels [3, 1, H, W].
    """

    plan: Plan
    start: Start
    decoder: ClipDecoder
    reference: Tensor | None
    _motion: tuple[int, Tensor] | None = None  # index of a clip, and the frames before it

    def find(self, clip: Clip) -> Negative | None:
        """The stored negative of a clip; None: it has to be sampled."""
        found = self.start.negatives.find(clip.index)
        return None if found is None else from_stored(found)

    def keep(self, clip: Clip, negative: Negative, facts: Mapping[str, Any]) -> None:
        """Store a negative; it is on the disk when this returns."""
        self.start.negatives.keep(clip, to_stored(negative), facts)

    def motion_before(self, clip: Clip) -> Tensor | None:
        """Pixels [3, 73, H, W] of the frames before `clip`; None: it begins a shot, and nothing comes before."""
        if not self.plan.continues(clip):
            return first_motion(self._picture_of(clip)) if self.plan.request.guide.start_from_ref else None
        if self._motion is None or self._motion[0] != clip.index:
            self._motion = clip.index, self._kept_or_printed(clip)
        return self._motion[1]

    def pictures_for(self, clip: Clip) -> Frames:
        """Room for all that is decoded of a clip, of which the first `clip.frames` are its own."""
        request = self.plan.request
        return np.empty((clip.size - clip.lead_in, request.height, request.width, RGB_CHANNELS), np.uint8)

    def print(self, clip: Clip, negative: Negative, pictures: Frames) -> Carry:
        """Fill `pictures_for` a sampled clip; returns what the clip after it continues."""
        pixels = self.decoder.decode(negative, clip, torch.from_numpy(pictures))
        return self._handed_on(clip, pixels[:, : clip.frames])

    def print_last(self, clip: Clip, negative: Negative, pictures: Frames, on_frames: OnFrames) -> None:
        """Fill `pictures_for` the last clip of a chain; `on_frames` hears how many are there."""
        self.decoder.decode(negative, clip, torch.from_numpy(pictures), only_pictures=True, on_frames=on_frames)
        self._motion = None

    def _handed_on(self, clip: Clip, pixels: Tensor) -> Carry:
        """What the clip after `clip` continues; `pixels` are the clip's own frames."""
        enough = pixels.shape[1] >= MOTION_FRAMES
        motion = next_motion(None if enough else self.motion_before(clip), pixels)
        self._motion = clip.index + 1, motion
        return Carry(tensors={MOTION: motion.numpy()})

    def _kept_or_printed(self, clip: Clip) -> Tensor:
        """The frames before `clip`, from the carry where it is kept, else from as many clips before as they reach."""
        if self.start.index == clip.index and self.start.carry is not None:
            return torch.from_numpy(self.start.carry.tensors[MOTION])
        before = self.plan.clips[clip.index - 1]
        negative = self.find(before)
        assert negative is not None, "the work folder begins where the negatives before are there"
        pixels = self.decoder.decode(negative, before)[:, : before.frames]
        earlier = None if pixels.shape[1] >= MOTION_FRAMES else self.motion_before(before)
        return next_motion(earlier, pixels)

    def _picture_of(self, clip: Clip) -> Tensor:
        """The reference image of a clip's shot."""
        shot = self.plan.shot_of(clip)
        if shot.asked.ref_image is not None:
            return read_reference(self.plan.request_of(shot))
        assert self.reference is not None, "a request that starts from the reference image has one"
        return self.reference


def to_stored(negative: Negative) -> dict[str, NDArray[Any]]:
    """A negative as arrays by name."""
    stored = {LATENTS: negative.latents.float().cpu().numpy()}
    if negative.motion is not None:
        stored[MOTION_LATENTS] = negative.motion.float().cpu().numpy()
    return stored


def from_stored(stored: Mapping[str, NDArray[Any]]) -> Negative:
    """What `to_stored` made arrays of."""
    motion = stored.get(MOTION_LATENTS)
    return Negative(
        latents=torch.from_numpy(stored[LATENTS]), motion=None if motion is None else torch.from_numpy(motion)
    )
