"""Chooses which layers of a loaded transformer compute in float8."""

from collections.abc import Iterator

import torch
from torch import nn

from soundreel.errors import InputError
from soundreel.models.attention import Attention
from soundreel.models.block import WanS2VTransformerBlock
from soundreel.models.transformer import WanS2VTransformer3DModel
from soundreel.request import Precision
from soundreel.weights.quantized import SIDE_MULTIPLE, Fp8Linear, has_float8_products, round_linear


def set_precision(model: WanS2VTransformer3DModel, wanted: Precision, device: torch.device) -> bool:
    """Let large products of `model` run in float8 (W8A8) on `device`; returns whether any do.

    With "auto" those whose weights are stored in float8, with "fp8" all of `step_layers`, whose weights are rounded.
    Embeddings, keys and values of text and audio, modulation and head keep their type, and so do layers with a PEFT
    adapter.

    Raises:
        InputError: as `check_precision`.
    """
    check_precision(wanted, device)
    if wanted is Precision.BF16 or not has_float8_products(device):
        return False
    if wanted is Precision.FP8:
        round_layers(model)
    switched = [layer for holder, name in step_layers(model) if isinstance(layer := getattr(holder, name), Fp8Linear)]
    for layer in switched:
        layer.takes_float8 = layer.in_features % SIDE_MULTIPLE == layer.out_features % SIDE_MULTIPLE == 0
    return any(layer.takes_float8 for layer in switched)


def check_precision(wanted: Precision, device: torch.device) -> None:
    """Raise `InputError` for "fp8" on a device that cannot multiply float8."""
    if wanted is Precision.FP8 and not has_float8_products(device):
        raise InputError(f"--precision fp8 needs a GPU with float8 products (Ada, Hopper or newer), {device} has none")


def round_layers(model: WanS2VTransformer3DModel) -> None:
    """Round the weights of `step_layers` to float8, layer by layer; quantized ones stay as they are."""
    for block in model.blocks:
        round_block(block)


def round_block(block: nn.Module) -> None:
    """`round_layers` of one block."""
    for holder, name in block_layers(block):
        layer = getattr(holder, name)
        if type(layer) is nn.Linear:
            setattr(holder, name, round_linear(layer))
            layer.register_parameter("weight", None)  # the loader still holds the layer, and 16 bits of it otherwise


def step_layers(model: WanS2VTransformer3DModel) -> Iterator[tuple[nn.Module, str]]:
    """Linear layers that process all tokens in every step, each as (parent module, attribute name)."""
    for block in model.blocks:
        yield from block_layers(block)


def block_layers(block: nn.Module) -> Iterator[tuple[nn.Module, str]]:
    """`step_layers` of one block."""
    assert isinstance(block, WanS2VTransformerBlock)
    yield from ((block.attn1, name) for name in ("to_k", "to_v"))
    for attention in (block.attn1, block.attn2, block.audio_attn):
        if isinstance(attention, Attention):
            yield attention, "to_q"
            yield attention.to_out, "0"
    yield block.ffn.net[0], "proj"
    yield block.ffn.net, "2"


def clip_layers(block: nn.Module) -> Iterator[nn.Module]:
    """Linear layers of a block that only `condition` uses, once per clip: keys and values of text and audio."""
    assert isinstance(block, WanS2VTransformerBlock)
    for attention in (block.attn2, block.audio_attn):
        if isinstance(attention, Attention):
            yield attention.to_k
            yield attention.to_v
    if block.audio_norm is not None and block.audio_norm.linear is not None:
        yield block.audio_norm.linear
