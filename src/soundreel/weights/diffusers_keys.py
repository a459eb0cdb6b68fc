"""Names of the S2V transformer's tensors in the layout of diffusers' pull request, and in ours.

Diffusers itself has no S2V model yet. The author of its pull request published the weights as
tolgacangoz/Wan2.2-S2V-14B-Diffusers. There the blocks, the embeddings of text and time and the head are named as ours;
what S2V adds to them is not. Some tensors of the audio encoder have been renamed since: both kinds of names are known.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from soundreel.weights import transformer_keys
from soundreel.weights.keys import Shapes, Table, rename_prefix

AUDIO = "condition_embedder.causal_audio_encoder"
"""What only this layout has a tensor below."""

AUDIO_STATES = (f"{AUDIO}.weighted_avg.weights", f"{AUDIO}.weights")
"""The weight of every state of wav2vec2, by its newer and its older name."""

AUDIO_CONV = f"{AUDIO}.encoder.conv1_local.conv.weight"

TOP: Table = (
    ("trainable_condition_mask", "segment_embedding"),
    ("condition_embedder.pose_embedder", "pose_embedding"),
    *((states, "audio_encoder.state_weights") for states in AUDIO_STATES),
    (f"{AUDIO}.encoder.padding_tokens", "audio_encoder.padding_token"),
    (f"{AUDIO}.encoder.conv1_local.conv", "audio_encoder.conv1_local"),
    (f"{AUDIO}.encoder.conv1_global.conv", "audio_encoder.conv1_global"),
    (f"{AUDIO}.encoder.conv2.conv.conv", "audio_encoder.conv2"),
    (f"{AUDIO}.encoder.conv2.conv", "audio_encoder.conv2"),
    (f"{AUDIO}.encoder.conv3.conv.conv", "audio_encoder.conv3"),
    (f"{AUDIO}.encoder.conv3.conv", "audio_encoder.conv3"),
    (f"{AUDIO}.encoder.final_linear", "audio_encoder.final_linear"),
)
"""The first that fits applies: newer names before older ones that they begin with."""

INJECTOR_PARTS = {"injector": "audio_attn", "injector_adain_layers": "audio_norm"}
"""Below `audio_injector.` there, below `blocks.{block}.` here."""


def is_diffusers_layout(names: Iterable[str]) -> bool:
    """Whether tensors of these names are in this layout."""
    return any(name.startswith(f"{AUDIO}.") for name in names)


def to_ours(key: str, inject_layers: Sequence[int]) -> str:
    """Our name for one of this layout; one that we have too, or an unknown one, is returned unchanged."""
    injector = re.match(r"audio_injector\.(\w+)\.(\d+)\.", key)
    if injector is None:
        return rename_prefix(key, TOP)
    part, number = INJECTOR_PARTS.get(injector[1]), int(injector[2])
    if part is None or number >= len(inject_layers):
        return key
    return f"blocks.{inject_layers[number]}.{part}.{key[injector.end() :]}"


def config_from_diffusers(config: Mapping[str, Any] | None, shapes: Shapes) -> dict[str, Any]:
    """Arguments of `WanS2VTransformer3DModel` for a checkpoint in this layout.

    Args:
        config: the checkpoint's config.json, if there is one: it names its settings as the official one does, but the
            number of heads.
        shapes: of its tensors, by the names of this layout.

    Raises:
        WeightsError: as `config_from_official`.
    """
    settings = dict(config or {})
    if "num_attention_heads" in settings:
        settings["num_heads"] = settings["num_attention_heads"]
    return transformer_keys.config_from_official(settings, _by_official_names(shapes))


def _by_official_names(shapes: Shapes) -> Shapes:
    any_layers = range(len(shapes))  # they need only be the same on the way to our names and on
    return {transformer_keys.to_official(to_ours(name, any_layers), any_layers): shapes[name] for name in shapes}
