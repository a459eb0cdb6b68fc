"""LoRA files: their layouts, the meaning of their keys, and their scaling.

A LoRA changes a layer's weight by scale·up·down, with r rows in `down` and r columns in `up`; scale is
alpha/r. Key styles differ before and after the layer's name X:

    PEFT       base_model.model.X.lora_A.default.weight    or X.lora_A.default.weight
    diffusers  transformer.X.lora_A.weight                 X by diffusers' names
    ComfyUI    diffusion_model.X.lora_down.weight          with X.alpha; whole differences in X.diff, X.diff_b
    Kohya      lora_unet_X.lora_down.weight                the dots of X written as underscores

A difference of a modulation table, X.modulation, is called X.diff_m.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final, Self

from soundreel.disk.plain_json import parse_json
from soundreel.errors import InputError, WeightsError
from soundreel.weights.headers import WEIGHT_SUFFIXES, FileHeader
from soundreel.weights.transformer_keys import to_official

PREFIXES: Final = (
    "base_model.model.", "transformer.", "model.diffusion_model.", "diffusion_model.", "model.", "module.",
    "lora_unet_", "lora_transformer_",
)  # fmt: skip
"""Prefixes of layer names; a name may have several."""

PEFT_PREFIX: Final = "base_model.model."
PEFT_CONFIG: Final = "adapter_config.json"
PEFT_WEIGHTS: Final = "adapter_model"
DIFFUSERS_WEIGHTS: Final = "pytorch_lora_weights"
DIFFUSERS_METADATA: Final = "lora_adapter_metadata"


class LoraTensor(StrEnum):
    """Kinds of tensors that change a layer."""

    DOWN = "down"  # [r, in …]
    UP = "up"  # [out, r …]
    UP_BIAS = "up bias"  # [out], scaled like the product
    ALPHA = "alpha"  # scalar
    WEIGHT = "weight difference"  # of the weight's shape
    BIAS = "bias difference"


_ENDINGS: Final = tuple(
    (re.compile(rf"(.+)\.(?:{ending})"), part)
    for ending, part in (
        (r"lora_A(?:\.[^.]+)?\.weight|lora_down\.weight|lora\.down\.weight", LoraTensor.DOWN),
        (r"lora_B(?:\.[^.]+)?\.weight|lora_up\.weight|lora\.up\.weight", LoraTensor.UP),
        (r"lora_B(?:\.[^.]+)?\.bias", LoraTensor.UP_BIAS),
        (r"alpha", LoraTensor.ALPHA),
        (r"diff", LoraTensor.WEIGHT),
        (r"diff_b", LoraTensor.BIAS),
    )
)

_PAIR: Final = {LoraTensor.DOWN, LoraTensor.UP}
_DIFFERENCES: Final = {LoraTensor.WEIGHT, LoraTensor.BIAS}

_MODULATION: Final = re.compile(r"(.+)\.diff_m")

_OF_IMAGES: Final = re.compile(
    r"img_emb[._].+|condition_embedder[._]image_embedder[._].+"
    r"|blocks[._]\d+[._](?:cross_attn[._](?:k_img|v_img|norm_k_img)|attn2[._](?:add_k_proj|add_v_proj|norm_added_k))"
)
"""Layers that only image-to-video models of Wan 2.1 have, by official names and by diffusers'."""

_OTHER_METHODS: Final = {
    "lora_magnitude_vector": "DoRA", "dora_scale": "DoRA", "lokr_": "LoKr", "hada_": "LoHa", "oft_": "OFT",
    "lora_mid": "LoCon in Tucker form", "lora_embedding_": "LoRA of an embedding",
}  # fmt: skip
"""Parts of keys that other methods than plain LoRA have."""


@dataclass(frozen=True, kw_only=True)
class LoraSource:
    """A LoRA as the user names it."""

    path: Path  # a file, or a folder as PEFT and diffusers save it
    strength: float = 1.0

    @classmethod
    def parse(cls, text: str) -> Self:
        """`FILE[:strength]`; `InputError` for a strength that is not finite."""
        path, colon, number = text.rpartition(":")
        strength = _number(number)
        if not colon or not path or strength is None or Path(text).exists():
            return cls(path=Path(text))
        if not math.isfinite(strength):
            raise InputError(f"LoRA {text!r} has strength {number}: expected a finite number, 1 for full strength")
        return cls(path=Path(path), strength=strength)


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """Scaling of the products of a file that have no alpha tensor."""

    alpha: float | None = None  # None: the rank, so that the scale is 1
    patterns: Mapping[str, float] = field(default_factory=dict)  # ends of layer names (regex) → their alpha
    rank_stabilized: bool = False  # alpha/√r

    def scale(self, layer: str, rank: int) -> float:
        """Factor of up·down in `layer`, by its name in the file without prefix."""
        matching = (alpha for end, alpha in self.patterns.items() if re.fullmatch(rf"(.*\.)?({end})", layer))
        alpha = next(matching, self.alpha)
        if alpha is None:
            return 1.0
        return alpha / (math.sqrt(rank) if self.rank_stabilized else rank)


@dataclass(frozen=True, kw_only=True)
class KnownLayout:
    """A published LoRA of PEFT without alpha, recognized by its rank and by changing all of its target layers."""

    name: str
    rank: int
    targets: tuple[str, ...]  # ends of official layer names
    alpha: float


LIVE_AVATAR: Final = KnownLayout(
    name="Live-Avatar",
    rank=128,
    targets=(".q", ".k", ".v", ".o", ".ffn.0", ".ffn.2"),
    alpha=64.0,
)
"""The public few-step S2V weights (Quark-Vision/Live-Avatar); alpha from its inference configuration, whose loader
takes names with `PEFT_PREFIX` and without."""


def lora_file(path: Path) -> Path:
    """The weights of a LoRA given as file or folder; `WeightsError` if there is none."""
    if path.is_file():
        return path
    if not path.is_dir():
        raise WeightsError(f"no such LoRA: {str(path)!r}; expected FILE[:strength], as in style.safetensors:0.8")
    candidates = [entry for entry in sorted(path.iterdir()) if entry.suffix.lower() in WEIGHT_SUFFIXES]
    usual = [entry for entry in candidates if entry.stem in {PEFT_WEIGHTS, DIFFUSERS_WEIGHTS}] or candidates
    if len(usual) != 1:
        found = ", ".join(entry.name for entry in candidates[:5]) or "nothing"
        raise WeightsError(f"folder {str(path)!r} holds {found}: expected one LoRA file; name the file itself")
    return usual[0]


def group_tensors(header: FileHeader) -> tuple[dict[str, dict[LoraTensor, str]], list[str]]:
    """Tensor names by layer (with prefix) and kind; and the names of no known form.

    Raises:
        WeightsError: the file is made by another method than plain LoRA, lacks a part of a pair, or has two of one.
    """
    layers: dict[str, dict[LoraTensor, str]] = {}
    unknown: list[str] = []
    for name in header.tensors:
        _refuse_other_methods(header.path, name)
        match split_key(name):
            case (layer, kind):
                names = layers.setdefault(layer, {})
                refuse_second(header.path, names.get(kind), name)
                names[kind] = name
            case None:
                unknown.append(name)
    for names in layers.values():
        pair = _PAIR & names.keys()
        if pair != _PAIR and (pair or not names.keys() & _DIFFERENCES):
            alone = next(names[kind] for kind in LoraTensor if kind in names and kind not in _DIFFERENCES)
            raise WeightsError(f"{str(header.path)!r} has {alone!r} without its counterpart: download it again")
    return layers, unknown


def split_key(key: str) -> tuple[str, LoraTensor] | None:
    """Layer (with prefix) and kind of tensor of a key in any style; None for one of no known form."""
    if match := _MODULATION.fullmatch(key):
        return f"{match[1]}.modulation", LoraTensor.WEIGHT
    for pattern, kind in _ENDINGS:
        if match := pattern.fullmatch(key):
            return match[1], kind
    return None


def without_prefixes(layer: str) -> str:
    """A layer's name without prefixes: ours or the official one, with underscores for dots in Kohya's style."""
    while prefix := next((prefix for prefix in PREFIXES if layer.startswith(prefix)), None):
        layer = layer.removeprefix(prefix)
    return layer


def is_of_images(bare: str) -> bool:
    """Whether a layer (name without prefixes) is one that only image-to-video models have."""
    return _OF_IMAGES.fullmatch(bare) is not None


def layer_aliases(layers: Iterable[str], inject_layers: Sequence[int]) -> dict[str, str]:
    """All names that LoRA files may use for our layers and tables → our names."""
    aliases: dict[str, str] = {}
    for layer in layers:
        for name in (layer, to_official(layer, inject_layers)):
            aliases[name] = aliases[name.replace(".", "_")] = layer
    return aliases


def stated_scaling(header: FileHeader) -> Scaling | None:
    """Scaling stated in the file's metadata, or in PEFT's configuration beside it; None if in neither."""
    beside = header.path.with_name(PEFT_CONFIG)
    if header.path.stem == PEFT_WEIGHTS and beside.is_file():
        config = _json_object(beside.read_text(encoding="utf-8", errors="replace"), str(beside))
    elif DIFFUSERS_METADATA in header.metadata:
        stated = _json_object(header.metadata[DIFFUSERS_METADATA], str(header.path))
        config = {without_prefixes(name): value for name, value in stated.items()}
    else:
        return None
    if config.get("use_dora"):
        raise WeightsError(f"{str(header.path)!r} is made by DoRA: only plain LoRA is supported")
    return Scaling(
        alpha=config.get("lora_alpha"),
        patterns=config.get("alpha_pattern") or {},
        rank_stabilized=bool(config.get("use_rslora")),
    )


def has_layout(layout: KnownLayout, ranks: Mapping[str, int], layers: Iterable[str]) -> bool:
    """Whether a LoRA is a known one.

    Args:
        ranks: of its layers, by their names in the file.
        layers: official names of the model's layers.
    """
    bare = {name.removeprefix(PEFT_PREFIX) for name in ranks}
    return set(ranks.values()) == {layout.rank} and bare == {name for name in layers if name.endswith(layout.targets)}


def refuse_second(path: Path, first: str | None, second: str) -> None:
    """Raise `WeightsError` if there is a `first` change where `second` is another one."""
    if first is not None:
        raise WeightsError(
            f"{str(path)!r} changes one layer twice, by {first} and {second}: expected a file with one of them"
        )


def _refuse_other_methods(path: Path, key: str) -> None:
    method = next((method for sign, method in _OTHER_METHODS.items() if sign in key), None)
    if method is not None:
        raise WeightsError(f"{str(path)!r} is made by {method} ({key!r}): only plain LoRA is supported")


def _json_object(text: str, source: str) -> dict[str, Any]:
    try:
        content = parse_json(text)
    except ValueError as error:
        raise WeightsError(f"the LoRA settings in {source!r} are not readable: {error}") from error
    if not isinstance(content, dict):
        raise WeightsError(f"the LoRA settings in {source!r} are not a table")
    return content


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None
