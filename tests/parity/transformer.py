"""Golden cases of the S2V transformer, part by part and whole."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from parity.case import Case, Comparison, equal, relative
from soundreel.models.audio_tokens import AudioTokens, with_lead
from soundreel.models.block import WanS2VTransformerBlock
from soundreel.models.conditioning import BlockConditioning, Conditioning
from soundreel.models.frame_packing import FramePacker
from soundreel.models.layers import sinusoid
from soundreel.models.rope import Positions, Rotary, noise_positions, reference_positions, rotary_table
from soundreel.models.transformer import WanS2VTransformer3DModel
from soundreel.weights.catalog import Component
from soundreel.weights.components import SPECS
from soundreel.weights.load import load_component
from soundreel.weights.transformer_keys import config_from_official, to_ours

CPU = torch.device("cpu")


def build_transformer(tensors: dict[str, Tensor], config: dict[str, object] | None) -> WanS2VTransformer3DModel:
    """A float32 transformer with these official tensors, strictly."""
    ours = config_from_official(config, {name: tensor.shape for name, tensor in tensors.items()})
    model = WanS2VTransformer3DModel(**ours)
    renamed = {to_ours(name, ours["audio_inject_layers"]): tensor.float() for name, tensor in tensors.items()}
    model.load_state_dict(renamed)
    return model.eval().requires_grad_(False)


@cache
def official_transformer(checkpoint: Path) -> WanS2VTransformer3DModel:
    """The transformer of a folder in the official layout."""
    return _load(tuple(sorted(checkpoint.glob("diffusion_pytorch_model*.safetensors"))), checkpoint / "config.json")


@cache
def fp8_transformer(path: Path, config: Path) -> WanS2VTransformer3DModel:
    """The transformer of a ComfyUI fp8 file, its weights kept in fp8."""
    return _load((path,), config)


def _load(paths: tuple[Path, ...], config: Path) -> WanS2VTransformer3DModel:
    model = load_component(SPECS[Component.TRANSFORMER], paths, config=json.loads(config.read_text()))
    assert isinstance(model, WanS2VTransformer3DModel)
    return model


def run_rope(case: Case) -> list[Comparison]:
    """Positions of each segment's tokens, and cos and sin of their angles."""
    frames, rows, columns = (case.params[name] for name in ("F", "H", "W"))
    makers: dict[str, Callable[[], list[Positions]]] = {
        "noise": lambda: [noise_positions(frames, rows, columns)],
        "ref": lambda: [reference_positions(rows, columns)],
        "motion": lambda: _packer(case, "padd", 2).positions(2 * rows, 2 * columns),
    }
    positions = [part for segment in case.params["segments"] for part in makers[segment]()]
    expected = case["out.positions"].long()
    comparisons = [equal("positions", np.concatenate(positions).tolist(), expected.tolist())]
    if "out.cos_sin" in case.tensors:
        table = rotary_table(positions, case.params["head_dim"], CPU)
        comparisons.append(relative("cos_sin", _cos_sin(table), case["out.cos_sin"]))
    return comparisons


def run_frame_packer(case: Case) -> list[Comparison]:
    """Motion latents to tokens and their rotary table."""
    motion = case["in.motion_latents"]
    packer = _packer(case, case.params["drop_mode"], case.params["add_last_motion"])
    table = rotary_table(packer.positions(*motion.shape[2:]), _model(case).head_width, CPU)
    return [
        relative("tokens", packer(motion), case["out.tokens"]),
        relative("cos_sin", _cos_sin(table)[None], case["out.cos_sin"]),
    ]


def run_embeddings(case: Case) -> list[Comparison]:
    """Timesteps and text rows, embedded."""
    model = _model(case)
    embedder = model.condition_embedder
    t = case["in.t"]
    embedding, modulation = embedder.time(t)
    comparisons = [
        relative("sinusoid", sinusoid(t, embedder.sinusoid_width), case["out.sinusoid"]),
        relative("e", embedding, case["out.e"]),
        relative("e0", modulation, case["out.e0"]),
    ]
    for name in (name for name in case.tensors if name.startswith("in.context_")):
        expected = case[name.replace("in.context_", "out.text_context_")]
        rows = model.embed_text(case[name])[0][0]  # the last one stands for all that pad
        rows = rows[torch.arange(len(expected)).clamp(max=len(rows) - 1)]
        comparisons.append(relative(name.removeprefix("in."), rows, expected))
    return comparisons


def run_block(case: Case) -> list[Comparison]:
    """One block without audio, and its parts where the case has them."""
    block = _blocks(case)[case.params["block"]]
    frames, rows, columns = (case.params[name] for name in ("F", "H", "W"))
    positions = [
        noise_positions(frames, rows, columns),
        reference_positions(rows, columns),
        *_packer(case, "padd", 2).positions(2 * rows, 2 * columns),
    ]
    rotary = rotary_table(positions, _model(case).head_width, CPU)
    modulation = case["in.e0"].transpose(1, 2)
    conditioning = BlockConditioning(text=block.attn2.key_value(case["in.context"]), audio=None)
    parts = {"self_attn_out": block.attn1, "cross_attn_out": block.attn2, "ffn_out": block.ffn}
    with _recorded(parts) as recorded:
        x = block(case["in.x"], modulation, rotary, conditioning, case.params["segment_index"])
    return [relative("x", x, case["out.x"]), *_compare_recorded(case, recorded)]


def run_audio_encoder(case: Case) -> list[Comparison]:
    """Sound to tokens, the lead included."""
    tokens = _model(case).audio_encoder(with_lead(case["in.audio_input"][0]))
    return [
        relative("local", tokens.local[None], case["out.local"]),
        relative("global", tokens.global_[None, :, None], case["out.global_"]),
    ]


def run_audio_inject(case: Case) -> list[Comparison]:
    """What the sound adds after a block; nothing where the block hears none."""
    block = _blocks(case)[case.params["block"]]
    tokens = AudioTokens(case["in.audio_local"][0], case["in.audio_global"][0, :, 0])
    noise_tokens = case.params["frames"] * case.params["tokens_per_frame"]
    hidden = block.inject_audio(case["in.hidden"], block.condition_audio(tokens), noise_tokens)
    return [relative("hidden", hidden, case["out.hidden"])]


def run_forward(case: Case) -> list[Comparison]:
    """The whole transformer, and its intermediate results where the case has them."""
    model = _model(case)
    conditioning = condition_case(model, case)
    with _recorded({"head_out": model.proj_out}) as recorded:
        velocity = model(case["in.x"][None], case["in.t"], conditioning)[0]
    comparisons = [relative("v", velocity, case["out.v"]), *_compare_recorded(case, recorded)]
    if "out.cos_sin" in case.tensors:
        comparisons += _compare_inside(case, model, conditioning)
    return comparisons


def condition_case(model: WanS2VTransformer3DModel, case: Case) -> Conditioning:
    """The conditioning of a `transformer_forward` case."""
    _, frames, height, width = case["in.x"].shape
    dropped = case.params["drop_motion_frames"]
    return model.condition(
        text=case["in.context"],
        audio=case["in.audio_input"][0],
        frames=frames,
        height=height,
        width=width,
        reference=case["in.ref_latents"][0],
        motion=None if dropped else case["in.motion_latents"][0],
        pose=case["in.cond_states"][0] if case["in.cond_states"].any() else None,
    )


def _compare_inside(case: Case, model: WanS2VTransformer3DModel, conditioning: Conditioning) -> list[Comparison]:
    """Tokens, tables and the output of every block before its audio injection."""
    latents = case["in.x"][None]
    noise = model.patches(model.patch_embedding, latents) + conditioning.noise_offset
    hidden = torch.cat([noise, conditioning.clean_tokens], dim=1)
    _, e0 = model.condition_embedder.time(case["in.t"])
    modulation = torch.stack([e0, conditioning.clean_modulation], dim=1)
    tokens = model.audio_encoder(with_lead(case["in.audio_input"][0])).without_lead()
    comparisons = [
        relative("tokens_in", hidden, case["out.tokens_in"]),
        relative("e0", modulation.transpose(1, 2), case["out.e0"]),
        relative("cos_sin", _cos_sin(conditioning.rotary)[None], case["out.cos_sin"]),
        relative("audio_local", tokens.local[None], case["out.audio_local"]),
        relative("audio_global", tokens.global_[None, :, None], case["out.audio_global"]),
    ]
    for index, block in enumerate(model.blocks):
        known = conditioning.blocks[index]
        hidden = block(hidden, modulation, conditioning.rotary, known._replace(audio=None), noise.shape[1])
        comparisons.append(relative(f"block{index}_out", hidden, case[f"out.block{index}_out"]))
        hidden = block.inject_audio(hidden, known.audio, noise.shape[1])
    return comparisons


def _model(case: Case) -> WanS2VTransformer3DModel:
    weights = case.params.get("weights")
    if weights is None:
        return official_transformer(case.checkpoint)
    path = case.golden / weights.split(",")[0]
    return fp8_transformer(path, case.checkpoint / "config.json")


def _blocks(case: Case) -> list[WanS2VTransformerBlock]:
    return list(_model(case).blocks)


def _packer(case: Case, drop_mode: str, level: int) -> FramePacker:
    known = _model(case).frame_packer
    packer = FramePacker(channels=known.proj.in_channels, width=known.width, drop_mode=drop_mode, level=level)
    packer.load_state_dict(known.state_dict())
    return packer.requires_grad_(False)


def _cos_sin(table: Rotary) -> Tensor:
    return torch.stack([table.cos, table.sin], dim=-1)


@contextmanager
def _recorded(modules: dict[str, nn.Module]) -> Iterator[dict[str, Tensor]]:
    """The outputs of modules, by the names given, while the block runs."""
    outputs: dict[str, Tensor] = {}

    def record(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        return lambda _module, _inputs, output: outputs.__setitem__(name, output)

    handles = [module.register_forward_hook(record(name)) for name, module in modules.items()]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


def _compare_recorded(case: Case, recorded: dict[str, Tensor]) -> list[Comparison]:
    return [
        relative(name, output, case[f"out.{name}"])
        for name, output in recorded.items()
        if f"out.{name}" in case.tensors
    ]


RUNNERS: dict[str, Callable[[Case], list[Comparison]]] = {
    "rope": run_rope,
    "frame_packer": run_frame_packer,
    "embeddings": run_embeddings,
    "block": run_block,
    "audio_encoder": run_audio_encoder,
    "audio_inject": run_audio_inject,
    "transformer_forward": run_forward,
}
