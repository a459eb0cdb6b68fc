"""Motion frames as tokens, packed (FramePack, arXiv 2504.12626): the older a latent frame, the larger its patches.

Legend: T latent frames of motion, h × w latent size, D model width. Latent frames are in order of time.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from soundreel.models.rope import Positions, past_positions
from soundreel.units import FRAMES_PER_LATENT


class Bucket(NamedTuple):
    """Consecutive latent frames that share a patch size."""

    name: str  # of its projection
    frames: int
    patch: tuple[int, int, int]  # latent frames, rows and columns per token

    def counts(self, height: int, width: int) -> tuple[int, int, int]:
        """Tokens in time, rows and columns; what does not fill a patch is left out."""
        return self.frames // self.patch[0], height // self.patch[1], width // self.patch[2]


BUCKETS = (Bucket("proj", 1, (1, 2, 2)), Bucket("proj_2x", 2, (2, 4, 4)), Bucket("proj_4x", 16, (4, 8, 8)))
"""Newest first."""

MOTION_LATENTS = sum(bucket.frames for bucket in BUCKETS)
"""19: latent frames before a clip that it continues."""

MOTION_FRAMES = 1 + FRAMES_PER_LATENT * (MOTION_LATENTS - 1)
"""73: the frames that they stand for."""

FULL_LEVEL = 2
"""`level` at which all buckets are used; each level below leaves one more out, the newest first."""


class FramePacker(nn.Module):
    """Projects motion latents to tokens, newest bucket first. Source: `FramePackMotioner` of Wan-Video/Wan2.2.

    At a `level` below full the newest buckets are left out: dropped where `drop_mode` is "drop", otherwise
    their latents are zeroed and their tokens stay.
    """

    def __init__(self, *, channels: int, width: int, drop_mode: str, level: int) -> None:
        super().__init__()
        missing = max(0, FULL_LEVEL - level)
        dropped = missing if drop_mode == "drop" else 0
        self.kept = BUCKETS[dropped:]
        self.blank_latents = 0 if dropped else sum(bucket.frames for bucket in BUCKETS[:missing])
        self.width = width
        self.proj, self.proj_2x, self.proj_4x = (
            nn.Conv3d(channels, width, bucket.patch, stride=bucket.patch) for bucket in BUCKETS
        )

    def forward(self, motion: Tensor) -> Tensor:
        """[16, T, h, w], any T → [1, tokens, D]; where T < 19 the oldest are zero."""
        window = motion.new_zeros(motion.shape[0], MOTION_LATENTS, *motion.shape[2:])
        known = min(MOTION_LATENTS, motion.shape[1])
        window[:, MOTION_LATENTS - known :] = motion[:, motion.shape[1] - known :]
        window[:, MOTION_LATENTS - self.blank_latents :] = 0
        filled = [bucket for bucket in self.kept if 0 not in bucket.counts(*motion.shape[2:])]
        tokens = [self._tokens(bucket, window) for bucket in filled]
        return torch.cat([window.new_zeros(1, 0, self.width), *tokens], dim=1)

    def positions(self, height: int, width: int) -> list[Positions]:
        """Positions of the tokens for latents of h × w, bucket by bucket."""
        return [
            past_positions(
                age=_age(bucket),
                span=bucket.frames,
                counts=bucket.counts(height, width),
                rows=height // BUCKETS[0].patch[1],
                columns=width // BUCKETS[0].patch[2],
            )
            for bucket in self.kept
        ]

    def _tokens(self, bucket: Bucket, window: Tensor) -> Tensor:
        project: nn.Conv3d = getattr(self, bucket.name)
        start = MOTION_LATENTS - _age(bucket)
        frames = window[None, :, start : start + bucket.frames].to(project.weight.dtype)
        tokens: Tensor = project(frames)
        return tokens.flatten(2).transpose(1, 2)


def _age(bucket: Bucket) -> int:
    """How many latent frames before the clip the bucket begins."""
    return sum(newer.frames for newer in BUCKETS[: BUCKETS.index(bucket) + 1])
