"""wav2vec2: names with or without `wav2vec2.`, weight norm as `weight_g`/`weight_v` or as parametrization → ours."""

from collections.abc import Mapping
from typing import Any

from soundreel.weights.keys import KeyTable, Shapes, count_layers

CONV_STRIDES = (5, 2, 2, 2, 2, 2, 2)
"""Strides of the feature encoder, which no tensor's shape tells: 320 samples per feature."""

HEADS_OF_WIDTH: Mapping[int, int] = {768: 12, 1024: 16, 1280: 16, 1920: 16}
"""Attention heads of the published wav2vec2 models by width, for files without a config.json beside them."""

SMALL_HEADS = 4
"""Heads assumed for any other width: models made for tests."""

_WEIGHT_NORM = r"encoder.pos_conv_embed.conv.parametrizations.weight"

rename = KeyTable(
    [
        (r"encoder\.pos_conv_embed\.conv\.weight_g", _WEIGHT_NORM + r".original0"),
        (r"encoder\.pos_conv_embed\.conv\.weight_v", _WEIGHT_NORM + r".original1"),
        (r"masked_spec_embed", None),  # training only, like the heads below
        (r"(lm_head|quantizer|project_q|project_hid)\..+", None),
    ],
    prefixes=("wav2vec2.",),
)
"""Official or ComfyUI name → ours, which are those of transformers' `Wav2Vec2Model`."""


def config_from_shapes(shapes: Shapes, config: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of `Wav2Vec2`, from tensors under our names.

    What no shape tells (heads, strides, order of the norms) comes from `config`, the content of config.json, or,
    where that is empty, from the published models. `KeyError` if a tensor is missing.
    """
    convs = count_layers(shapes, r"feature_extractor\.conv_layers\.(\d+)\..*")
    kernels = [shapes[f"feature_extractor.conv_layers.{i}.conv.weight"] for i in range(convs)]
    width, grouped_width, positions = shapes[f"{_WEIGHT_NORM}.original1"]
    normed = convs > 1 and "feature_extractor.conv_layers.1.layer_norm.weight" in shapes
    return {
        "num_attention_heads": HEADS_OF_WIDTH.get(width, SMALL_HEADS),
        "conv_stride": list(CONV_STRIDES[:convs]),
        "do_stable_layer_norm": normed,
        "feat_extract_norm": "layer" if normed else "group",
        "num_hidden_layers": count_layers(shapes, r"encoder\.layers\.(\d+)\..*"),
        **_stated(config),
        "hidden_size": width,
        "intermediate_size": shapes["encoder.layers.0.feed_forward.intermediate_dense.weight"][0],
        "conv_dim": [kernel[0] for kernel in kernels],
        "conv_kernel": [kernel[2] for kernel in kernels],
        "conv_bias": "feature_extractor.conv_layers.0.conv.bias" in shapes,
        "num_conv_pos_embeddings": positions,
        "num_conv_pos_embedding_groups": width // grouped_width,
    }


_FROM_CONFIG = (
    "num_hidden_layers",
    "num_attention_heads",
    "conv_stride",
    "do_stable_layer_norm",
    "feat_extract_norm",
    "feat_extract_activation",
    "hidden_act",
    "layer_norm_eps",
)


def _stated(config: Mapping[str, Any]) -> dict[str, Any]:
    return {name: config[name] for name in _FROM_CONFIG if name in config}
