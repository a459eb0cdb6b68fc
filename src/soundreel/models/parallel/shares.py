"""Which rank has which tokens and heads: arithmetic and indexing, without communication.

Every rank has the same stretch of every latent frame, and a stretch of the clean tokens: all have equally many of each.
What follows a token's frame (audio injection, its own keys and its own norm) then needs no other rank. Where a frame or
the clean tokens do not divide evenly, the last ranks get padding: copies of the last token, which nothing attends to.
Clean tokens are padded so that a rank's tokens are a multiple of `even`, too.

A stretch of every frame is to the network what latents of one row of patches are, a *strip*: its forward pass computes
on a strip as on any latents, since positions are in the conditioning.

Legend: R ranks, F latent frames, G tokens per latent frame, g = ⌈G/R⌉ of them on a rank, C clean tokens, c of them on a
rank, h × w latent size, p × q latents per token, D model width, H heads.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, pairwise

import torch
from torch import Tensor

from soundreel.models.conditioning import Conditioning
from soundreel.models.rope import Rotary


def head_counts(heads: int, ranks: int) -> list[int]:
    """Heads of each rank, at most one more than of any other."""
    return [heads // ranks + (rank < heads % ranks) for rank in range(ranks)]


def head_spans(heads: int, ranks: int) -> list[slice]:
    """Which heads each rank has."""
    return [slice(first, end) for first, end in pairwise(accumulate(head_counts(heads, ranks), initial=0))]


@dataclass(frozen=True, kw_only=True)
class TokenShares:
    """How the tokens of a clip are divided."""

    ranks: int  # R
    frames: int  # F
    frame_tokens: int  # G
    clean: int  # C
    even: int = 1

    @property
    def own_frame_tokens(self) -> int:
        """g."""
        return -(-self.frame_tokens // self.ranks)

    @property
    def own_clean(self) -> int:
        """c: the first from ⌈C/R⌉ on that makes F·g + c a multiple of `even`."""
        least = -(-self.clean // self.ranks)
        return least + -(self.frames * self.own_frame_tokens + least) % self.even

    def in_frame(self, rank: int, device: torch.device | None = None) -> Tensor:
        """Which tokens of every frame a rank has, [g]."""
        return _stretch(rank, self.own_frame_tokens, self.frame_tokens, device)

    def of_noise(self, rank: int, device: torch.device | None = None) -> Tensor:
        """Which of all noise tokens a rank has, [F·g]."""
        begins = self.frame_tokens * torch.arange(self.frames, device=device)
        return (begins[:, None] + self.in_frame(rank, device)).flatten()

    def of_clean(self, rank: int, device: torch.device | None = None) -> Tensor:
        """Which of the clean tokens a rank has, [c]."""
        return _stretch(rank, self.own_clean, self.clean, device)

    def attended(self, device: torch.device | None = None) -> slice | Tensor:
        """Which are no padding, of all ranks' tokens, one rank after the other: its noise, then its clean ones."""
        places = [self._no_padding(rank) for rank in range(self.ranks)]
        real = torch.cat(places).nonzero().flatten()
        if bool((real == torch.arange(len(real))).all()):
            return slice(0, len(real))  # no copy
        return real.to(device)

    def _no_padding(self, rank: int) -> Tensor:
        noise = rank * self.own_frame_tokens + torch.arange(self.own_frame_tokens) < self.frame_tokens
        clean = rank * self.own_clean + torch.arange(self.own_clean) < self.clean
        return torch.cat([noise.repeat(self.frames), clean])

    def conditioning(self, whole: Conditioning, rank: int) -> Conditioning:
        """What of a clip's conditioning a rank needs: the sound of all frames, and what belongs to its own tokens."""
        device, noise_tokens = whole.clean_tokens.device, self.frames * self.frame_tokens
        noise, clean = self.of_noise(rank, device), self.of_clean(rank, device)
        own = torch.cat([noise, noise_tokens + clean])
        offset = whole.noise_offset if whole.noise_offset.shape[1] == 1 else whole.noise_offset[:, noise]
        rotary = Rotary(whole.rotary.cos[own], whole.rotary.sin[own])
        return replace(whole, noise_offset=offset, clean_tokens=whole.clean_tokens[:, clean], rotary=rotary)


def _stretch(rank: int, length: int, total: int, device: torch.device | None) -> Tensor:
    return (rank * length + torch.arange(length, device=device)).clamp(max=total - 1)


def to_strip(latents: Tensor, patch: Sequence[int], tokens: Tensor) -> Tensor:
    """The patches of `tokens` [g] of every frame: [B, 16, F, h, w] → [B, 16, F, p, g·q]."""
    _, rows, columns = patch
    patches = torch.unflatten(torch.unflatten(latents, 4, (-1, columns)), 3, (-1, rows))
    return patches.transpose(3, 4).flatten(4, 5).index_select(4, tokens).flatten(4)


def from_strips(strips: Sequence[Tensor], patch: Sequence[int], height: int, width: int) -> Tensor:
    """All ranks' strips, each [B, 16, F, p, g·q], in order → [B, 16, F, h, w]."""
    _, rows, columns = patch
    grid = height // rows, width // columns
    patches = torch.unflatten(torch.cat(list(strips), dim=-1), 4, (-1, columns))[:, :, :, :, : grid[0] * grid[1]]
    return torch.unflatten(patches, 4, grid).transpose(3, 4).flatten(5, 6).flatten(3, 4)
