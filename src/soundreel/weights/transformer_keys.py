"""Names of the S2V transformer's tensors in the official layout (ComfyUI's too) and in ours, and its config.

A rename applies to a whole dotted prefix, so modules, parameters and what quantizers and LoRAs hang on them
(`….q.scale_weight`, `….q.lora_A.weight`) are renamed alike. `casual` is the official spelling of causal.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from soundreel.errors import WeightsError
from soundreel.weights.keys import Table, rename_prefix, without_prefix

TOP: Table = (
    ("patch_embedding", "patch_embedding"),
    ("cond_encoder", "pose_embedding"),
    ("trainable_cond_mask", "segment_embedding"),
    ("text_embedding.0", "condition_embedder.text_embedder.linear_1"),
    ("text_embedding.2", "condition_embedder.text_embedder.linear_2"),
    ("time_embedding.0", "condition_embedder.time_embedder.linear_1"),
    ("time_embedding.2", "condition_embedder.time_embedder.linear_2"),
    ("time_projection.1", "condition_embedder.time_proj"),
    ("frame_packer", "frame_packer"),
    ("casual_audio_encoder.weights", "audio_encoder.state_weights"),
    ("casual_audio_encoder.encoder.padding_tokens", "audio_encoder.padding_token"),
    ("casual_audio_encoder.encoder.conv1_local.conv", "audio_encoder.conv1_local"),
    ("casual_audio_encoder.encoder.conv1_global.conv", "audio_encoder.conv1_global"),
    ("casual_audio_encoder.encoder.conv2.conv", "audio_encoder.conv2"),
    ("casual_audio_encoder.encoder.conv3.conv", "audio_encoder.conv3"),
    ("casual_audio_encoder.encoder.final_linear", "audio_encoder.final_linear"),
    ("head.modulation", "scale_shift_table"),
    ("head.head", "proj_out"),
)

ATTENTION: Table = (
    ("q", "to_q"),
    ("k", "to_k"),
    ("v", "to_v"),
    ("o", "to_out.0"),
    ("norm_q", "norm_q"),
    ("norm_k", "norm_k"),
)

BLOCK: Table = (
    ("modulation", "scale_shift_table"),
    *((f"self_attn.{official}", f"attn1.{ours}") for official, ours in ATTENTION),
    *((f"cross_attn.{official}", f"attn2.{ours}") for official, ours in ATTENTION),
    ("norm3", "norm2"),
    ("ffn.0", "ffn.net.0.proj"),
    ("ffn.2", "ffn.net.2"),
)
"""Below `blocks.{block}.` on both sides."""

INJECTOR: Table = (
    *((f"injector.{{}}.{official}", f"audio_attn.{ours}") for official, ours in ATTENTION),
    ("injector_adain_layers.{}.linear", "audio_norm.linear"),
)
"""Below `audio_injector.` there, below `blocks.{block}.` here: injector i belongs to inject layer i."""

PREFIXES = ("model.diffusion_model.", "diffusion_model.", "model.")
"""Prefixes that some files put before the official names."""

KNOWN_INJECT_LAYERS = {(40, 12): (0, 4, 8, 12, 16, 20, 24, 27, 30, 33, 36, 39)}
"""(blocks, injectors) of published models, for files without a config."""

HEAD_WIDTH = 128
"""Of all published Wan models, for files without a config."""


def official_name(key: str) -> str:
    """The official name in a key of a file: the key without the prefix that it may have."""
    return without_prefix(key, PREFIXES)


def to_ours(key: str, inject_layers: Sequence[int]) -> str:
    """Our name for an official one (without prefix); an unknown one is returned unchanged."""
    if block := re.match(r"blocks\.(\d+)\.", key):
        return rename_prefix(key, _within(BLOCK, block[0], block[0]))
    if injector := re.match(r"audio_injector\.\w+\.(\d+)\.", key):
        number = int(injector[1])
        return rename_prefix(key, _injector(number, inject_layers[number])) if number < len(inject_layers) else key
    return rename_prefix(key, TOP)


def to_official(key: str, inject_layers: Sequence[int]) -> str:
    """The inverse of `to_ours`."""
    if block := re.match(r"blocks\.(\d+)\.(audio_)?", key):
        number = int(block[1])
        if block[2] is None:
            return rename_prefix(key, _inverse(_within(BLOCK, f"blocks.{number}.", f"blocks.{number}.")))
        if number in inject_layers:
            return rename_prefix(key, _inverse(_injector(inject_layers.index(number), number)))
        return key
    return rename_prefix(key, _inverse(TOP))


def config_from_official(config: Mapping[str, Any] | None, shapes: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """Arguments of `WanS2VTransformer3DModel` for a checkpoint with official names.

    Args:
        config: the checkpoint's config.json; None for a single file, which has none.
        shapes: of its tensors, by official name without prefix; they decide whatever they show.

    Raises:
        WeightsError: a tensor that tells a size is missing, config and tensors disagree, or the config has settings
            that no published S2V checkpoint has.
    """
    config = config or {}
    _refuse_other_kinds(config)
    width, in_channels, *patch = _shape(shapes, "patch_embedding.weight", 5)
    heads = config.get("num_heads", max(1, width // HEAD_WIDTH))
    layers = _count(shapes, "blocks")
    pose_shape = shapes.get("cond_encoder.weight")
    return {
        "patch_size": tuple(patch),
        "num_attention_heads": heads,
        "attention_head_dim": width // heads,
        "in_channels": in_channels,
        "out_channels": _shape(shapes, "head.head.weight", 2)[0] // math.prod(patch),
        "text_dim": _shape(shapes, "text_embedding.0.weight", 2)[1],
        "text_len": config.get("text_len", 512),
        "freq_dim": _shape(shapes, "time_embedding.0.weight", 2)[1],
        "ffn_dim": _shape(shapes, "blocks.0.ffn.0.weight", 2)[0],
        "num_layers": layers,
        "eps": config.get("eps", 1e-6),
        "audio_dim": _shape(shapes, "casual_audio_encoder.encoder.conv1_local.conv.weight", 3)[1],
        "num_audio_states": _shape(shapes, "casual_audio_encoder.weights", 4)[1],
        "num_audio_tokens": _shape(shapes, "casual_audio_encoder.encoder.conv1_local.conv.weight", 3)[0]
        // (width // 4),
        "audio_inject_layers": _inject_layers(
            config.get("audio_inject_layers"), layers, _count(shapes, "audio_injector.injector")
        ),
        "adaptive_audio_norm": _count(shapes, "audio_injector.injector_adain_layers") > 0,
        "pose_channels": pose_shape[1] if pose_shape else 0,
        "zero_timestep": config.get("zero_timestep", True),
        "frame_pack_drop_mode": config.get("framepack_drop_mode", "padd"),
        "frame_pack_level": 2 * int(config.get("add_last_motion", True)),
    }


def spread_inject_layers(layers: int, injectors: int) -> tuple[int, ...]:
    """Blocks with audio injection where nothing says which: from the first to the last, wider gaps first.

    The published lists are of this form: 12 of 40 gives 0, 4, …, 24, 27, …, 39.
    """
    if injectors < 2:
        return tuple(range(injectors))
    gap, wider = divmod(layers - 1, injectors - 1)
    return tuple(index * gap + min(index, wider) for index in range(injectors))


def _inject_layers(configured: Iterable[int] | None, layers: int, injectors: int) -> tuple[int, ...]:
    if configured is None:
        return KNOWN_INJECT_LAYERS.get((layers, injectors), spread_inject_layers(layers, injectors))
    present = tuple(sorted({layer for layer in configured if layer < layers}))
    if len(present) != injectors:
        raise WeightsError(
            f"config.json names {len(present)} blocks with audio injection {present}, but the weights hold "
            f"{injectors} injectors: they are of different models"
        )
    return present


def _refuse_other_kinds(config: Mapping[str, Any]) -> None:
    expected = {
        "model_type": "s2v",
        "enable_framepack": True,
        "enable_motioner": False,
        "adain_mode": "attn_norm",
    }
    for name, value in expected.items():
        if config.get(name, value) != value:
            raise WeightsError(f"config.json has {name} = {config[name]!r}: only {value!r} is supported")


def _shape(shapes: Mapping[str, Sequence[int]], name: str, axes: int) -> tuple[int, ...]:
    shape = shapes.get(name)
    if shape is None or len(shape) != axes:
        found = "is missing" if shape is None else f"has shape {tuple(shape)}, expected {axes} axes"
        raise WeightsError(f"{name!r} {found}: these are not the weights of a Wan S2V transformer")
    return tuple(shape)


def _count(shapes: Iterable[str], prefix: str) -> int:
    """How many numbered modules are below `prefix`."""
    pattern = re.compile(rf"{re.escape(prefix)}\.(\d+)\.")
    return len({match[1] for match in map(pattern.match, shapes) if match})


def _injector(number: int, block: int) -> Table:
    return tuple((f"audio_injector.{official.format(number)}", f"blocks.{block}.{ours}") for official, ours in INJECTOR)


def _within(table: Table, official_prefix: str, our_prefix: str) -> Table:
    return tuple((official_prefix + official, our_prefix + ours) for official, ours in table)


def _inverse(table: Table) -> Table:
    return tuple((ours, official) for official, ours in table)
