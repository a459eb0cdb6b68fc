"""A server's node classes with their inputs, and its model files, as /object_info tells of them."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any, Final

from soundreel.engines.comfyui.answers import NodeClasses
from soundreel.engines.comfyui.client import Graph
from soundreel.errors import EngineError, InputError, WeightsError
from soundreel.request import Request

OLDEST_VERSION: Final = "0.3.64"

DIFFUSION_MODELS: Final = ("wan2.2_s2v_14B_fp8_scaled.safetensors", "wan2.2_s2v_14B_bf16.safetensors")
TEXT_ENCODERS: Final = ("umt5_xxl_fp8_e4m3fn_scaled.safetensors", "umt5_xxl_fp16.safetensors")
VAES: Final = ("wan_2.1_vae.safetensors",)
AUDIO_ENCODERS: Final = ("wav2vec2_large_english_fp16.safetensors",)
TURBO_LORAS: Final = ("wan2.2_t2v_lightx2v_4steps_lora_v1.1_high_noise.safetensors",)
"""Official file names, those that need the least memory first."""


@dataclass(frozen=True, kw_only=True)
class ModelNames:
    """Model files by the server's names."""

    diffusion_model: str
    text_encoder: str
    vae: str
    audio_encoder: str
    loras: tuple[tuple[str, float], ...] = ()  # name, strength


class Inventory:
    """The node classes of one server, which messages call `name`."""

    def __init__(self, name: str, nodes: NodeClasses) -> None:
        self._name, self.nodes = name, nodes

    def node(self, class_type: str) -> dict[str, Any] | None:
        """The server's description of a node class; None where it has no such class."""
        return self.nodes.get(class_type)

    def inputs(self, class_type: str) -> dict[str, Any]:
        """Input name → type and options as the server gives them, of required and optional inputs."""
        described = (self.node(class_type) or {}).get("input", {})
        return {**described.get("required", {}), **described.get("optional", {})}

    def is_output(self, class_type: str) -> bool:
        """Whether a node class is an output node."""
        return bool((self.node(class_type) or {}).get("output_node"))

    def options(self, class_type: str, name: str) -> list[str]:
        """The choices of an input, from the format of any version; [] where it has none."""
        described = self.inputs(class_type).get(name)
        if not described:
            return []
        if isinstance(described[0], list):
            return [str(option) for option in described[0]]
        options = described[1].get("options") if len(described) > 1 else None
        if not isinstance(options, list):
            return []
        return [str(option.get("key")) if isinstance(option, Mapping) else str(option) for option in options]

    def video_format(self) -> dict[str, Any]:
        """Inputs of SaveVideo for H.264 in mp4, at the best quality where the version has a setting for it.

        That setting depends on the version: none in 0.3.64, `codec.encoding.crf` in 0.30, `format.codec.encoding.crf`
        in 0.33, nested in dynamic combos, whose options have inputs of their own.
        """
        return _best_settings(self.inputs("SaveVideo"), "")

    def check_nodes(self, kinds: Iterable[str], version: str) -> None:
        """Raise `EngineError` naming the node classes that the server lacks."""
        missing = sorted(kind for kind in set(kinds) if self.node(kind) is None)
        if missing:
            raise EngineError(
                f"{self._name} (ComfyUI {version}) lacks the node{'s' if len(missing) > 1 else ''} "
                f"{', '.join(missing)}: update it to {OLDEST_VERSION} or newer, or add the nodes that have them"
            )

    def check_graph(self, graph: Graph, version: str) -> None:
        """Check that the server will take a graph.

        Raises:
            EngineError: it lacks node classes, inputs are missing, or numbers are out of range.
            WeightsError: it lacks a model file.
        """
        self.check_nodes((node["class_type"] for node in graph.values()), version)
        faults = [fault for node in graph.values() for fault in self._faults(node)]
        if faults:
            raise EngineError(f"{self._name} (ComfyUI {version}) would refuse the graph: {'; '.join(faults)}")
        for node in graph.values():
            self._check_models(node)

    def complete(self, graph: Graph) -> Graph:
        """The graph with the server's defaults for required inputs that it lacks, as a newer version may have."""
        return {node_id: self._complete(node) for node_id, node in graph.items()}

    def _complete(self, node: dict[str, Any]) -> dict[str, Any]:
        required = (self.node(node["class_type"]) or {}).get("input", {}).get("required", {})
        missing = {name: spec for name, spec in required.items() if name not in node["inputs"]}
        defaults: dict[str, Any] = {}
        for name, spec in missing.items():
            defaults |= _defaults(name, spec)
        return {**node, "inputs": {**node["inputs"], **defaults}} if defaults else node

    def _check_models(self, node: Mapping[str, Any]) -> None:
        kind = node["class_type"]
        for name, value in node["inputs"].items():
            if not isinstance(value, str) or not value.lower().endswith(MODEL_ENDINGS):
                continue
            there = self.options(kind, name)
            if value not in there and (there or kind in LOADER_FOLDERS):
                has = f"it has {', '.join(there)}" if there else "it has none there"
                raise WeightsError(f"{self._name} has no {value} for {kind}: {has}")

    def _faults(self, node: Mapping[str, Any]) -> list[str]:
        kind, given = node["class_type"], node["inputs"]
        required = (self.node(kind) or {}).get("input", {}).get("required", {})
        missing = [f"{kind} needs {name}" for name in required if name not in given]
        limits = ((name, value, _limits(self.inputs(kind).get(name))) for name, value in given.items())
        outside = [
            f"{kind} takes {name} from {low:g} to {high:g}, not {value:g}"
            for name, value, (low, high) in limits
            if isinstance(value, int | float) and not low <= value <= high
        ]
        return missing + outside


def find_models(inventory: Inventory, request: Request) -> ModelNames:
    """The files that `request` names, or the official ones, as the server has them.

    Raises:
        WeightsError: one is missing; the message lists what the server has.
    """
    server = request.server
    return ModelNames(
        diffusion_model=_find(inventory, ("UNETLoader", "unet_name"), server.diffusion_model, DIFFUSION_MODELS),
        text_encoder=_find(inventory, ("CLIPLoader", "clip_name"), server.text_encoder, TEXT_ENCODERS),
        vae=_find(inventory, ("VAELoader", "vae_name"), server.vae, VAES),
        audio_encoder=_find(
            inventory, ("AudioEncoderLoader", "audio_encoder_name"), server.audio_encoder, AUDIO_ENCODERS
        ),
        loras=tuple(
            (_find(inventory, ("LoraLoaderModelOnly", "lora_name"), name, TURBO_LORAS), strength)
            for name, strength in wanted_loras(request)
        ),
    )


def portable_names(models: ModelNames, request: Request) -> ModelNames:
    """The same files by names that are valid on every server: as in `request`, else without the server's folders."""
    server = request.server
    asked = [name for name, _ in wanted_loras(request)]
    return ModelNames(
        diffusion_model=server.diffusion_model or _file_name(models.diffusion_model),
        text_encoder=server.text_encoder or _file_name(models.text_encoder),
        vae=server.vae or _file_name(models.vae),
        audio_encoder=server.audio_encoder or _file_name(models.audio_encoder),
        loras=tuple(
            (name or _file_name(there), strength) for name, (there, strength) in zip(asked, models.loras, strict=True)
        ),
    )


def official_models(request: Request) -> ModelNames:
    """The files that `request` names, or else the official ones, for a server that cannot be reached."""
    server = request.server
    return ModelNames(
        diffusion_model=server.diffusion_model or DIFFUSION_MODELS[0],
        text_encoder=server.text_encoder or TEXT_ENCODERS[0],
        vae=server.vae or VAES[0],
        audio_encoder=server.audio_encoder or AUDIO_ENCODERS[0],
        loras=tuple((name or TURBO_LORAS[0], strength) for name, strength in wanted_loras(request)),
    )


def wanted_loras(request: Request) -> list[tuple[str | None, float]]:
    """Name and strength of each `NAME` or `NAME:strength`; for turbo without any, (None, 1), the official one."""
    if request.sampling.turbo and not request.compute.loras:
        return [(None, 1.0)]
    return [_parse_lora(text) for text in request.compute.loras]


def _parse_lora(text: str) -> tuple[str, float]:
    name, colon, strength = text.rpartition(":")
    if not colon:
        return text, 1.0
    try:
        value = float(strength)
    except ValueError:
        return text, 1.0  # a colon in the name
    if not math.isfinite(value):
        raise InputError(f"--lora is {text!r}: expected NAME:STRENGTH with a finite strength, as in {name}:0.8")
    return name, value


BEST_VIDEO: Final = ("mp4", "h264", "re-encode")
"""Choices for the inputs of SaveVideo, where it offers them."""

PLAIN_VIDEO: Final = MappingProxyType({"format": "mp4", "codec": "h264"})
"""Inputs of SaveVideo that every version accepts."""

MODEL_ENDINGS: Final = (".safetensors", ".gguf", ".sft", ".ckpt", ".pt", ".pth", ".bin")
"""Of files of models, in lower case."""

LOADER_FOLDERS: Final = {
    "UNETLoader": ("diffusion_models", "--diffusion-model"),
    "CLIPLoader": ("text_encoders", "--text-encoder"),
    "VAELoader": ("vae", "--vae"),
    "AudioEncoderLoader": ("audio_encoders", "--audio-encoder"),
    "LoraLoaderModelOnly": ("loras", "--lora"),
}
"""Node class → folder of the server's models, and the command line option that names a file."""


def _find(inventory: Inventory, loader: tuple[str, str], wanted: str | None, official: Sequence[str]) -> str:
    there = inventory.options(*loader)
    names = official if wanted is None else (wanted,)
    for name in names:
        whole = [option for option in there if _with_slashes(option) == _with_slashes(name)]
        matches = whole or [option for option in there if _file_name(option) == name]
        if len(matches) == 1:
            return matches[0]
        if matches:
            raise WeightsError(f"the server has {name} in several folders: name one of {', '.join(matches)}")
    folder, option = LOADER_FOLDERS[loader[0]]
    has = f"it has {', '.join(there)}" if there else "it has none there"
    raise WeightsError(
        f"the server has no {' or '.join(names)} in models/{folder}: {has}; "
        f"put the file there or name another with {option}"
    )


def _file_name(option: str) -> str:
    """`wan\\file.safetensors` or `wan/file.safetensors` → `file.safetensors`."""
    return PurePosixPath(_with_slashes(option)).name


def _with_slashes(option: str) -> str:
    """`option` with the path separators of Linux; a server on Windows has backslashes."""
    return option.replace("\\", "/")


def _best_settings(inputs: Mapping[str, Any], prefix: str) -> dict[str, Any]:
    settings: dict[str, Any] = {}
    for name, described in inputs.items():
        options = described[1].get("options") if len(described) > 1 else None
        if not options:
            if name == "crf":
                settings[prefix + name] = float(described[1].get("min", 0.0))
            continue
        by_key = {option["key"] if isinstance(option, Mapping) else option: option for option in options}
        chosen = next((key for key in BEST_VIDEO if key in by_key), described[1].get("default", next(iter(by_key))))
        settings[prefix + name] = chosen
        if isinstance(by_key[chosen], Mapping):
            more = by_key[chosen].get("inputs", {})
            settings |= _best_settings({**more.get("required", {}), **more.get("optional", {})}, f"{prefix}{name}.")
    return settings


def _limits(described: Sequence[Any] | None) -> tuple[float, float]:
    given = described[1] if described and len(described) > 1 else {}
    low, high = given.get("min"), given.get("max")
    return (
        low if isinstance(low, int | float) else -math.inf,
        high if isinstance(high, int | float) else math.inf,
    )


def _defaults(name: str, described: Sequence[Any]) -> dict[str, Any]:
    """The default of an input, with those of the inputs that its choice brings; {} where it has none."""
    kind, more = described[0], described[1] if len(described) > 1 else {}
    options = kind if isinstance(kind, list) else more.get("options")
    if not isinstance(options, list) or not options:
        return {name: more["default"]} if "default" in more else {}
    by_key = {option.get("key") if isinstance(option, Mapping) else option: option for option in options}
    chosen = more.get("default", next(iter(by_key)))
    defaults = {name: chosen}
    brings = by_key.get(chosen)
    if isinstance(brings, Mapping):
        for inner, spec in ((brings.get("inputs") or {}).get("required") or {}).items():
            defaults |= _defaults(f"{name}.{inner}", spec)
    return defaults
