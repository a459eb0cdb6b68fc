"""LoRAs on the transformer: checked by their headers, then fused into the weights or computed beside them.

Legend: O outputs and I inputs of a layer, r rank of its change.
"""

import math
import warnings
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from soundreel.errors import WeightsError
from soundreel.models.transformer import WanS2VTransformer3DModel
from soundreel.weights.headers import FileHeader
from soundreel.weights.keys import name_some
from soundreel.weights.lora_files import (
    LIVE_AVATAR,
    PEFT_PREFIX,
    LoraSource,
    LoraTensor,
    Scaling,
    group_tensors,
    has_layout,
    is_of_images,
    layer_aliases,
    lora_file,
    refuse_second,
    stated_scaling,
    without_prefixes,
)
from soundreel.weights.read import TensorFile, open_tensors
from soundreel.weights.transformer_keys import to_official

MODULATION_TABLE = "scale_shift_table"

CPU = torch.device("cpu")


@dataclass(frozen=True, kw_only=True)
class LayerChange:
    """A LoRA's change of one layer, or of a modulation table."""

    names: Mapping[LoraTensor, str]  # names of the tensors in the file
    rank: int  # 0: no low-rank product
    scale: float  # of the product, without the strength


@dataclass(frozen=True, kw_only=True)
class Lora:
    """A LoRA file that was checked against the model; its tensors are read when it is applied."""

    source: LoraSource
    file: TensorFile
    layers: Mapping[str, LayerChange]  # by our names
    tables: Mapping[str, LayerChange]  # modulation tables, by our names
    notes: tuple[str, ...]  # what the user should know

    def read(self, layer: str, kind: LoraTensor, device: torch.device) -> Tensor | None:
        """A tensor of the change of a layer or table, in float32; None if there is none."""
        change = self.tables[layer] if layer in self.tables else self.layers[layer]
        name = change.names.get(kind)
        return None if name is None else self.file.read(name, device).float()

    def product(self, layer: str, device: torch.device) -> Tensor | None:
        """strength·scale·up·down as a matrix [O, I]; None where the change has no product."""
        down, up = self.read(layer, LoraTensor.DOWN, device), self.read(layer, LoraTensor.UP, device)
        if down is None or up is None:
            return None
        return self.source.strength * self.layers[layer].scale * (up.flatten(1) @ down.flatten(1))

    def differences(self, layer: str, device: torch.device) -> Iterator[tuple[str, Tensor]]:
        """Names of the layer's parameters that get a whole difference, and that difference times strength."""
        scale = self.layers[layer].scale
        for kind, leaf, factor in (
            (LoraTensor.WEIGHT, "weight", 1.0),
            (LoraTensor.BIAS, "bias", 1.0),
            (LoraTensor.UP_BIAS, "bias", scale),
        ):
            difference = self.read(layer, kind, device)
            if difference is not None:
                yield leaf, self.source.strength * factor * difference


def open_lora(source: LoraSource, model: WanS2VTransformer3DModel) -> Lora:
    """Read a LoRA's header and match it to `model`, which may be on the meta device.

    All of its layers must be found in the model, except those of images, which LoRAs for image-to-video have and S2V
    has not: they are left out. The note says how many layers are changed.

    Raises:
        WeightsError: the file is missing, damaged, of another method than LoRA, for a model of another size, or
            changes layers that this one does not have, or none of it.
    """
    file = open_tensors(lora_file(source.path))
    header = file.header
    found, strangers = group_tensors(header)
    targets = _targets(model)
    aliases = layer_aliases(targets, model.config["audio_inject_layers"])
    named: dict[str, str] = {}  # ours → in the file
    images = 0
    for name, names in found.items():
        bare = without_prefixes(name)
        ours = aliases.get(bare)
        if ours is not None and _takes(targets[ours], names):
            refuse_second(header.path, named.get(ours), name)
            _check_shapes(header, names, targets[ours])
            named[ours] = name
        elif is_of_images(bare):
            images += 1
        else:
            strangers.extend(names.values())
    _check_fits(header, found, named, strangers)
    scaling, remark = _scaling(header, found, model)
    changes = {ours: _layer_change(file, found[name], scaling, without_prefixes(name)) for ours, name in named.items()}
    tables = {name for name in changes if isinstance(targets[name], nn.Parameter)}
    return Lora(
        source=source,
        file=file,
        layers={name: change for name, change in changes.items() if name not in tables},
        tables={name: changes[name] for name in tables},
        notes=(_summary(header, len(named), images, remark),),
    )


@torch.no_grad()
def apply_loras(model: WanS2VTransformer3DModel, loras: Sequence[Lora], *, done: Container[str] = ()) -> None:
    """Apply all `loras` to `model`; layers in `done` have been changed by `fuse_loras` already.

    Products are added to the weights (fused) and cost nothing per step; sums are formed in float32 and rounded once.
    For linear layers with quantized weights they become PEFT adapters beside the weight.

    Raises:
        WeightsError: a LoRA has a whole difference for a quantized weight or a missing bias, or a file ends early.
    """
    beside: list[str] = []
    for name in dict.fromkeys(name for lora in loras for name in lora.layers if name not in done):
        layer = model.get_submodule(name)
        changing = [lora for lora in loras if name in lora.layers]
        _add_differences(layer, name, changing)
        if _weight(layer).is_floating_point():
            _add_products(layer, name, changing)
        else:
            beside.append(name)
    for lora in loras:
        for name in lora.tables:
            _add_to_table(model.get_parameter(name), name, lora)
    _attach(model, loras, beside)


@torch.no_grad()
def fuse_loras(part: nn.Module, part_name: str, loras: Sequence[Lora]) -> set[str]:
    """Fuse `loras` into the weights of one block that are not quantized; returns the full names of these layers.

    For blocks that are changed while they are loaded, before their weights are rounded. Raises as `apply_loras`.
    """
    prefix = f"{part_name}."
    inside = {name for lora in loras for name in lora.layers if name.startswith(prefix)}
    layers = {name: part.get_submodule(name.removeprefix(prefix)) for name in sorted(inside)}
    fusable = {name: layer for name, layer in layers.items() if _weight(layer).is_floating_point()}
    for name, layer in fusable.items():
        changing = [lora for lora in loras if name in lora.layers]
        _add_differences(layer, name, changing)
        _add_products(layer, name, changing)
    return set(fusable)


def _scaling(
    header: FileHeader, found: Mapping[str, Mapping[LoraTensor, str]], model: WanS2VTransformer3DModel
) -> tuple[Scaling, str | None]:
    """Scaling of products without an alpha tensor, and what is to be said of it."""
    stated = stated_scaling(header)
    if stated is not None:
        return stated, None
    ranks = {name: _rank(header, names) for name, names in found.items() if LoraTensor.ALPHA not in names}
    inject_layers = model.config["audio_inject_layers"]
    if has_layout(LIVE_AVATAR, ranks, (to_official(name, inject_layers) for name in _targets(model))):
        alpha = f"{LIVE_AVATAR.alpha:g}, as its layout is that of {LIVE_AVATAR.name}"
        return Scaling(alpha=LIVE_AVATAR.alpha), f"it does not say its alpha: taken as {alpha}"
    if any(rank and name.removeprefix(PEFT_PREFIX) == without_prefixes(name) for name, rank in ranks.items()):
        return Scaling(), "it does not say its alpha: taken as its rank"
    return Scaling(), None


def _summary(header: FileHeader, changed: int, images: int, remark: str | None) -> str:
    """What a LoRA does, in one line."""
    parts = [f"LoRA {header.path.name!r} changes {_layers(changed)}"]
    if images:
        parts.append(f"{_layers(images)} for images have no place in Wan S2V and are left out")
    return "; ".join([*parts, *([remark] if remark else [])])


def _layers(count: int) -> str:
    return f"{count} layer{'s' * (count != 1)}"


def _layer_change(file: TensorFile, names: Mapping[LoraTensor, str], scaling: Scaling, bare: str) -> LayerChange:
    rank = _rank(file.header, names)
    if rank and LoraTensor.ALPHA in names:
        scale = file.read(names[LoraTensor.ALPHA], CPU).item() / rank
    else:
        scale = scaling.scale(bare, rank) if rank else 1.0
    return LayerChange(names=names, rank=rank, scale=scale)


def _rank(header: FileHeader, names: Mapping[LoraTensor, str]) -> int:
    """Rank of the product (rows of `down`); 0 without a product."""
    return header.tensors[names[LoraTensor.DOWN]].shape[0] if LoraTensor.DOWN in names else 0


def _targets(model: nn.Module) -> dict[str, nn.Module | nn.Parameter]:
    """What a LoRA may change, by name: layers that have a weight, and modulation tables."""
    layers = {
        name: layer for name, layer in model.named_modules() if isinstance(getattr(layer, "weight", None), Tensor)
    }
    tables = {name: table for name, table in model.named_parameters() if name.rpartition(".")[2] == MODULATION_TABLE}
    return {**layers, **tables}


def _takes(target: nn.Module | nn.Parameter, names: Mapping[LoraTensor, str]) -> bool:
    """Whether a change can be made: a table takes a whole difference only."""
    return isinstance(target, nn.Module) or names.keys() == {LoraTensor.WEIGHT}


def _check_fits(
    header: FileHeader, found: Mapping[str, object], named: Mapping[str, str], strangers: Sequence[str]
) -> None:
    """Raise `WeightsError` if a LoRA changes nothing, or has something that is not in the model."""
    file_name = header.path.name
    if not named:
        raise WeightsError(f"{file_name!r} changes no layer of Wan S2V: it has {_in_brief(list(header.tensors))}")
    if strangers:
        raise WeightsError(
            f"{file_name!r} is not a LoRA for Wan S2V: of its {_layers(len(found))} {len(named)} are in this model, "
            f"{_in_brief(strangers)} have no place"
        )


def _check_shapes(header: FileHeader, names: Mapping[LoraTensor, str], target: nn.Module | nn.Parameter) -> None:
    """Raise `WeightsError` if a tensor does not fit the layer or table."""
    expected = _weight_shape(target)
    outputs, inputs, rank = expected[0], math.prod(expected[1:]), _rank(header, names)
    matrices = {LoraTensor.DOWN: (rank, inputs), LoraTensor.UP: (outputs, rank), LoraTensor.WEIGHT: (outputs, inputs)}
    for kind, name in names.items():
        shape = header.tensors[name].shape
        matrix = (shape[0], math.prod(shape[1:])) if shape else (1, 1)
        if kind is not LoraTensor.ALPHA and matrix != matrices.get(kind, (outputs, 1)):
            raise WeightsError(
                f"{header.path.name!r} is a LoRA for a model of another size: {name} has shape "
                f"{list(shape)}, the layer {list(expected)}"
            )


def _weight_shape(target: nn.Module | nn.Parameter) -> tuple[int, ...]:
    """Logical shape of the weight; quantized weights are stored in another."""
    if isinstance(target, nn.Linear):
        return target.out_features, target.in_features
    return tuple(target.shape if isinstance(target, nn.Parameter) else _weight(target).shape)


def _weight(layer: nn.Module) -> Tensor:
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return weight


def _add_differences(layer: nn.Module, name: str, loras: Iterable[Lora]) -> None:
    for lora in loras:
        for leaf, difference in lora.differences(name, _weight(layer).device):
            value = getattr(layer, leaf, None)
            if value is None or not value.is_floating_point():
                reason = "is quantized: take 16-bit weights" if value is not None else "is not there"
                raise WeightsError(f"{lora.file.header.path.name!r} changes {name}.{leaf} as a whole, which {reason}")
            value.copy_(value.float() + difference.reshape(value.shape))


def _add_to_table(table: nn.Parameter, name: str, lora: Lora) -> None:
    difference = lora.read(name, LoraTensor.WEIGHT, table.device)
    assert difference is not None
    table.copy_(table.float() + lora.source.strength * difference.reshape(table.shape))


def _add_products(layer: nn.Module, name: str, loras: Iterable[Lora]) -> None:
    weight = _weight(layer)
    changed = weight.float()
    for lora in loras:
        product = lora.product(name, weight.device)
        if product is not None:
            changed = changed + product.reshape(weight.shape)
    weight.copy_(changed)


def _attach(model: WanS2VTransformer3DModel, loras: Sequence[Lora], layers: Sequence[str]) -> None:
    """Add the products of the named linear layers as PEFT adapters, one for each LoRA that has any."""
    strengths: dict[str, float] = {}
    for number, lora in enumerate(loras):
        targets = {name: lora.layers[name] for name in layers if name in lora.layers and lora.layers[name].rank}
        if targets:
            adapter = f"lora_{number}"
            _attach_one(model, lora, targets, adapter)
            strengths[adapter] = lora.source.strength
    if strengths:
        _set_strengths(model, strengths)
        model.requires_grad_(requires_grad=False)


def _attach_one(model: WanS2VTransformer3DModel, lora: Lora, targets: Mapping[str, LayerChange], adapter: str) -> None:
    from peft import LoraConfig, inject_adapter_in_model, set_peft_model_state_dict  # noqa: PLC0415 - takes seconds

    as_they_are: dict[str, Any] = {"adapter_name": adapter, "low_cpu_mem_usage": True}  # draws no random ones first
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Already found a `peft_config`")  # several LoRAs are meant to be
        inject_adapter_in_model(LoraConfig(**_adapter_config(targets)), model, **as_they_are)
        set_peft_model_state_dict(model, dict(_adapter_tensors(model, lora, targets)), **as_they_are)


def _set_strengths(model: nn.Module, strengths: Mapping[str, float]) -> None:
    """Of each adapter, in all layers that have any."""
    from peft.tuners.tuners_utils import BaseTunerLayer  # noqa: PLC0415 - takes seconds

    for layer in model.modules():
        if isinstance(layer, BaseTunerLayer):
            layer.set_adapter(list(strengths))
            for adapter, strength in strengths.items():
                layer.set_scale(adapter, strength)


def _adapter_tensors(
    model: WanS2VTransformer3DModel, lora: Lora, targets: Iterable[str]
) -> Iterator[tuple[str, Tensor]]:
    for name in targets:
        device = _weight(model.get_submodule(name)).device
        for kind, leaf in ((LoraTensor.DOWN, "lora_A"), (LoraTensor.UP, "lora_B")):
            tensor = lora.read(name, kind, device)
            assert tensor is not None
            yield f"{name}.{leaf}.weight", tensor.flatten(1).to(model.compute_dtype)


def _adapter_config(targets: Mapping[str, LayerChange]) -> dict[str, object]:
    """Arguments of PEFT's `LoraConfig`: the usual rank and alpha, and the layers with others."""
    ranks = {name: change.rank for name, change in targets.items()}
    alphas = {name: change.rank * change.scale for name, change in targets.items()}
    rank, alpha = (Counter(values.values()).most_common(1)[0][0] for values in (ranks, alphas))
    return {
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {f"^{name}": value for name, value in ranks.items() if value != rank},
        "alpha_pattern": {f"^{name}": value for name, value in alphas.items() if value != alpha},
        "target_modules": list(targets),
    }


def _in_brief(names: Sequence[str]) -> str:
    return f"{len(names)} tensor{'s' * (len(names) != 1)} ({name_some(names)})"
