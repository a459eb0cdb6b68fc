"""Wan 2.1 VAE: the official names (ComfyUI's too) → diffusers' `AutoencoderKLWan`.

The official decoder numbers its layers in one list: in each of four stages three residual blocks, then (but in the
last stage) an upsampler. Diffusers groups them as `up_blocks.s.resnets.r` and `up_blocks.s.upsamplers.0`.
"""

from collections.abc import Mapping
from typing import Any

from soundreel.weights.keys import Shapes

STAGES = 4
DOWN_LAYERS = 3  # per stage: two residual blocks, one downsampler
UP_LAYERS = 4  # per stage: three residual blocks, one upsampler


def _up_layer(index: int) -> str:
    stage, layer = divmod(index, UP_LAYERS)
    return f"decoder.up_blocks.{stage}." + ("upsamplers.0" if layer == UP_LAYERS - 1 else f"resnets.{layer}")


def _ends_and_middle(half: str) -> dict[str, str]:
    return {
        f"{half}.conv1": f"{half}.conv_in",
        f"{half}.middle.0": f"{half}.mid_block.resnets.0",
        f"{half}.middle.1": f"{half}.mid_block.attentions.0",
        f"{half}.middle.2": f"{half}.mid_block.resnets.1",
        f"{half}.head.0": f"{half}.norm_out",
        f"{half}.head.2": f"{half}.conv_out",
    }


_PLACES: Mapping[str, str] = {
    "conv1": "quant_conv",
    "conv2": "post_quant_conv",
    **_ends_and_middle("encoder"),
    **_ends_and_middle("decoder"),
    **{f"encoder.downsamples.{i}": f"encoder.down_blocks.{i}" for i in range(STAGES * DOWN_LAYERS - 1)},
    **{f"decoder.upsamples.{i}": _up_layer(i) for i in range(STAGES * UP_LAYERS - 1)},
}

_PARTS: Mapping[str, str] = {
    "residual.0": "norm1",
    "residual.2": "conv1",
    "residual.3": "norm2",
    "residual.6": "conv2",
    "shortcut": "conv_shortcut",
}


def rename(name: str) -> str:
    """Official or ComfyUI name → diffusers name; diffusers names stay."""
    words = name.split(".")
    for length in (3, 2, 1):
        place = _PLACES.get(".".join(words[:length]))
        if place is not None:
            return f"{place}.{_rename_part(words[length:])}"
    return name


def _rename_part(words: list[str]) -> str:
    *part, leaf = words
    within = ".".join(part)
    return ".".join(filter(None, (_PARTS.get(within, within), leaf)))


def config_from_shapes(shapes: Shapes) -> dict[str, Any]:
    """Arguments of `WanVae`, from tensors under our names; `KeyError` if one is missing."""
    base = shapes["encoder.conv_in.weight"][0]
    stages = [shapes[f"encoder.down_blocks.{stage * DOWN_LAYERS}.conv2.weight"][0] for stage in range(STAGES)]
    return {
        "base_dim": base,
        "decoder_base_dim": shapes["decoder.conv_out.weight"][1],
        "z_dim": shapes["post_quant_conv.weight"][0],
        "dim_mult": [width // base for width in stages],
        "temperal_downsample": [  # the library's spelling
            f"encoder.down_blocks.{stage * DOWN_LAYERS + DOWN_LAYERS - 1}.time_conv.weight" in shapes
            for stage in range(STAGES - 1)
        ],
    }
