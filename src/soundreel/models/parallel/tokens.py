"""A transformer whose tokens are divided among ranks: the single-device network, computing on this rank's strip."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import torch
from torch import Tensor

from soundreel.errors import InputError
from soundreel.models.attention import Exchange, SelfAttention
from soundreel.models.conditioning import Conditioning
from soundreel.models.parallel.exchange import Agreed, HeadExchange
from soundreel.models.parallel.ranks import Ranks
from soundreel.models.parallel.shares import TokenShares, from_strips, to_strip
from soundreel.models.transformer import WanS2VTransformer3DModel

EVEN_ON: Final[Mapping[str, int]] = {"cuda": 8}
"""By the kind of device, what the number of a rank's tokens is a multiple of. cuBLAS has faster products with a bias
then: on an H200 707 TFLOP/s for 17,544 tokens and 640 for 17,537, half of a clip of 80 frames at 480×832."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SharedConditioning:
    """A clip's conditioning as one rank has it."""

    own: Conditioning
    shares: TokenShares
    in_frame: Tensor  # which tokens of every frame the rank has
    attended: slice | Tensor  # which of all ranks' tokens are no padding


class TokenParallel:
    """Computes what `model` computes, its tokens divided among `ranks`.

    `model`'s self-attention exchanges tokens for heads from now on: by itself it is of no use until `undivided`. Every
    rank has to make the same calls.

    Args:
        model: the same weights on all ranks.
        ranks: at most as many as there are heads.

    Raises:
        InputError: there are more ranks than heads.
    """

    def __init__(self, model: WanS2VTransformer3DModel, ranks: Ranks) -> None:
        heads = int(model.config["num_attention_heads"])
        if ranks.size > heads:
            raise InputError(f"the model has {heads} attention heads: {ranks.size} ranks cannot share its tokens")
        self.model, self._ranks, self._agreed = model, ranks, Agreed(ranks)
        for number, layer in _self_attentions(model):
            layer.exchange = HeadExchange(ranks, heads, f"attention of block {number}", self._agreed)

    def condition(self, *, frames: int, height: int, width: int, **inputs: Any) -> SharedConditioning:
        """This rank's part of the model's `condition`, whose arguments it takes."""
        whole = self.model.condition(frames=frames, height=height, width=width, **inputs)
        device = whole.clean_tokens.device
        steps = self.model.patch_size
        shares = TokenShares(
            ranks=self._ranks.size,
            frames=frames // steps[0],
            frame_tokens=(height // steps[1]) * (width // steps[2]),
            clean=whole.clean_tokens.shape[1],
            even=EVEN_ON.get(device.type, 1),
        )
        return SharedConditioning(
            own=shares.conditioning(whole, self._ranks.rank),
            shares=shares,
            in_frame=shares.in_frame(self._ranks.rank, device),
            attended=shares.attended(device),
        )

    def __call__(self, latents: Tensor, t: Tensor, conditioning: SharedConditioning) -> Tensor:
        """The model's `forward`: every rank gets the velocity of all tokens, [1, 16, F, h, w]."""
        return self.forward_branches(latents, t, [conditioning])[0]

    def forward_branches(self, latents: Tensor, t: Tensor, branches: Sequence[SharedConditioning]) -> list[Tensor]:
        """The model's `forward_branches`, likewise."""
        patch, (height, width) = self.model.patch_size, latents.shape[3:]
        first = branches[0]
        assert all(known.shares == first.shares for known in branches)
        self._agreed.tokens = first.attended
        strip = to_strip(latents, patch, first.in_frame)
        made = self.model.forward_branches(strip, t, [known.own for known in branches])
        self._ranks.place.enter("the velocity")
        strips = self._ranks.all_gather(torch.stack(made))
        return [from_strips([strip[k] for strip in strips], patch, height, width) for k in range(len(branches))]


def undivided(model: WanS2VTransformer3DModel) -> WanS2VTransformer3DModel:
    """The model itself, computing alone again."""
    for _, layer in _self_attentions(model):
        layer.exchange = Exchange()
    return model


def _self_attentions(model: WanS2VTransformer3DModel) -> Iterator[tuple[int, SelfAttention]]:
    """Each with the number of its block, from 1."""
    for number, block in enumerate(model.blocks, start=1):
        yield from ((number, module) for module in block.modules() if isinstance(module, SelfAttention))
