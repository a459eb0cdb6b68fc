"""Cases of the S2V transformer, part by part and whole.

Legend: F latent frames, h×w the latents' size, H×W = h/2 × w/2 that of tokens, L all tokens, D width.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

from references.folder import Folder
from references.layouts import FP8_TRANSFORMER
from references.networks import AUDIO_ENCODER, TRANSFORMER, Networks, through_fp8
from references.official import official, quiet

STATES = AUDIO_ENCODER["num_hidden_layers"] + 1
WIDTH, HEADS, CHANNELS = TRANSFORMER["dim"], TRANSFORMER["num_heads"], TRANSFORMER["in_dim"]
LEAD, MOTION = 73, 19
"""Frames, and latent frames, that the sound and the motion of a clip begin with."""

MOTION_FRAMES = [LEAD, MOTION]

FORWARDS: dict[str, dict[str, Any]] = {
    "forward_motion": {"t": 701},
    "forward_drop_motion": {"t": 999, "drop": True},
    "forward_pose": {"t": 500, "pose": True},
    "forward_null_audio": {"t": 500, "null_audio": True},
    "forward_t0": {"t": 0},
    "forward_F1": {"t": 640, "size": (1, 8, 8)},
    "forward_F12": {"t": 12, "size": (12, 8, 8), "pose": True},
    "forward_8x16": {"t": 87, "size": (5, 8, 16), "pose": True, "rows": 512},
    "forward_16x8_drop": {"t": 1000, "size": (5, 16, 8), "pose": True, "rows": 1, "drop": True},
    "forward_motion5": {"t": 333, "motion": 5},
}
ROPES: dict[str, tuple[tuple[int, int, int], list[str]]] = {
    "rope_noise_4x4x4": ((4, 4, 4), ["noise"]),
    "rope_ref_4x8": ((1, 4, 8), ["ref"]),
    "rope_all_5x4x8": ((5, 4, 8), ["noise", "ref", "motion"]),
    "rope_motion_4x4": ((0, 4, 4), ["motion"]),
    "rope_motion_8x12": ((0, 8, 12), ["motion"]),
}
PUBLISHED_SIZES = ((64, 44), (28, 52), (32, 20))
"""Tokens of 1024×704, 448×832 and 512×320 pixels: their positions on the coarser grids are no whole numbers."""

PACKINGS = [
    *(("padd", 2, frames, (8, 8)) for frames in (0, 1, 2, 5, 19, 23)),
    ("padd", 2, 19, (8, 16)),
    *((mode, level, 19, (8, 8)) for mode in ("padd", "drop") for level in (0, 1)),
    ("drop", 2, 19, (8, 8)),
]
"""Drop mode, how much is added, motion latent frames, size."""

BLOCKS: dict[str, dict[str, Any]] = {
    "block0": {"block": 0, "F": 4, "H": 4, "W": 4},
    "block1_low_variance": {"block": 1, "F": 2, "H": 4, "W": 4},
    "block3_8x4": {"block": 3, "F": 2, "H": 8, "W": 4},
}
INJECTIONS: dict[str, dict[str, int]] = {
    **{f"inject_block{block}": {"block": block, "frames": 4, "other_tokens": 21} for block in (0, 2, 4)},
    "inject_block_other": {"block": 1, "frames": 4, "other_tokens": 21},
    "inject_block4_low_variance": {"block": 4, "frames": 2, "other_tokens": 5},
}


def write_transformer_cases(folder: Folder, networks: Networks) -> None:
    """Write all."""
    model = networks.transformer
    with quiet():
        write_forwards(folder, model)
        write_ropes(folder, model)
        write_packings(folder, model)
        write_embeddings(folder, model)
        write_blocks(folder, model)
        write_audio_tokens(folder, model)
        write_injections(folder, model)


def write_forwards(folder: Folder, model: nn.Module) -> None:
    """Whole forwards; of one everything on the way; and one by the weights of the fp8 file."""
    for name, case in FORWARDS.items():
        given, drop = forward_inputs(folder, name, **case), case.get("drop", False)
        with _watched(model) as seen:
            expected = {"v": velocity(model, given, drop=drop)}
        if name == "forward_motion":
            expected |= seen | _inside(model)
            rounded = {"v": velocity(through_fp8(model), given, drop=drop)}
            weights = {"drop_motion_frames": drop, "weights": f"tiny_comfy/{FP8_TRANSFORMER}"}
            folder.case("forward_fp8_scaled", "transformer_forward", weights, given, rounded)
        folder.case(name, "transformer_forward", {"drop_motion_frames": drop}, given, expected)


def forward_inputs(
    folder: Folder,
    name: str,
    *,
    t: int,
    size: tuple[int, int, int] = (4, 8, 8),
    rows: int = 9,
    motion: int = MOTION,
    pose: bool = False,
    null_audio: bool = False,
    drop: bool = False,
) -> dict[str, Tensor]:
    """What one forward takes: latents [16, F, h, w], the rest with a batch axis, `rows` of text."""
    del drop  # decides what is done with the motion, not what it is
    numbers, (frames, *area) = folder.normal(name), size
    audio = 2 * numbers(1, STATES, TRANSFORMER["audio_dim"], 4 * frames)
    return {
        "x": numbers(CHANNELS, *size),
        "ref_latents": numbers(1, CHANNELS, 1, *area),
        "motion_latents": numbers(1, CHANNELS, motion, *area),
        "cond_states": numbers(1, CHANNELS, *size) * pose,
        "audio_input": audio * (not null_audio),
        "context": numbers(rows, TRANSFORMER["text_dim"]),
        "t": torch.tensor([t]),
    }


def velocity(model: nn.Module, given: dict[str, Tensor], *, drop: bool) -> Tensor:
    """[16, F, h, w], as the pipeline calls the transformer."""
    conditions = {name: given[name] for name in ("ref_latents", "motion_latents", "cond_states", "audio_input")}
    result: Tensor = model(
        [given["x"]],
        t=given["t"],
        context=[given["context"]],
        seq_len=None,
        motion_frames=MOTION_FRAMES,
        drop_motion_frames=drop,
        **conditions,
    )[0]
    return result


@contextmanager
def _watched(model: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Tokens that go in, the output of every block before its injection (which is written into it), the head's."""
    seen: dict[str, Tensor] = {}

    def given(_module: nn.Module, inputs: tuple[Tensor], options: dict[str, Any]) -> None:
        seen.update(tokens_in=inputs[0].clone(), e0=options["e"][0].clone())

    def after(name: str) -> Callable[[nn.Module, object, Tensor], None]:
        return lambda _module, _inputs, output: seen.update({name: output.clone()})

    parts = {"head_out": model.head} | {f"block{k}_out": block for k, block in enumerate(model.blocks)}
    handles = [part.register_forward_hook(after(name)) for name, part in parts.items()]
    handles.append(model.blocks[0].register_forward_pre_hook(given, with_kwargs=True))
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _inside(model: nn.Module) -> dict[str, Tensor]:
    """What the transformer keeps of its last forward."""
    return {
        "cos_sin": cos_sin(model.pre_compute_freqs),
        "audio_local": model.merged_audio_emb,
        "audio_global": model.audio_emb_global,
    }


def cos_sin(factors: Tensor) -> Tensor:
    """[…, L, pairs, 2] of complex factors [1, L, heads, pairs] that are alike for all heads."""
    return torch.view_as_real(factors[:, :, 0]).float()


def write_ropes(folder: Folder, model: nn.Module) -> None:
    """Positions of the tokens and their factors."""
    for name, (grid, segments) in ROPES.items():
        factors = cos_sin(segment_factors(model, grid, segments))[0]
        _write_rope(folder, name, model, grid, segments, cos_sin=factors)
    for rows, columns in PUBLISHED_SIZES:
        name = f"rope_positions_{16 * rows}x{16 * columns}_motion"
        _write_rope(folder, name, model, (0, rows, columns), ["motion"])


def _write_rope(
    folder: Folder, name: str, model: nn.Module, grid: tuple[int, int, int], segments: list[str], **factors: Tensor
) -> None:
    params = dict(zip("FHW", grid, strict=True)) | {"segments": segments, "head_dim": WIDTH // HEADS}
    found = {"positions": positions(model, grid, segments)}
    folder.case(name, "rope", params, {}, found | factors)


def positions(model: nn.Module, grid: tuple[int, int, int], segments: list[str]) -> Tensor:
    """[L, 3]: time, row, column, read from a table whose row p holds p + i.

    Times before 0 are the conjugate of the row: their imaginary part is negative.
    """
    pairs = WIDTH // HEADS // 2
    table = torch.complex(torch.arange(1024.0), torch.ones(1024)).to(torch.complex128)[:, None].expand(-1, pairs)
    with patch.object(model, "freqs", table), patch.object(model.frame_packer, "freqs", table):
        factors = segment_factors(model, grid, segments)[0, :, 0]
    side = pairs // 3
    first = factors[:, [0, pairs - 2 * side, pairs - side]]
    return (first.real * first.imag.sign()).round().int()


def segment_factors(model: nn.Module, grid: tuple[int, int, int], segments: list[str]) -> Tensor:
    """[1, L, heads, pairs]: factors of the noise's, the reference's and the motion's tokens, those asked for."""
    frames, rows, columns = grid
    area = (2 * rows, 2 * columns)
    if segments == ["motion"]:
        factors: Tensor = model.frame_packer([torch.zeros(CHANNELS, MOTION, *area)], 2)[1][0]
        return factors
    zeros = {
        "x": torch.zeros(CHANNELS, frames, *area),
        "ref_latents": torch.zeros(1, CHANNELS, 1, *area),
        "motion_latents": torch.zeros(1, CHANNELS, MOTION, *area),
        "cond_states": torch.zeros(1, CHANNELS, frames, *area),
        "audio_input": torch.zeros(1, STATES, TRANSFORMER["audio_dim"], 4 * frames),
        "context": torch.zeros(1, TRANSFORMER["text_dim"]),
        "t": torch.tensor([1]),
    }
    with patch.object(model, "blocks", nn.ModuleList()):  # no block changes where a token is
        velocity(model, zeros, drop=False)
    whole, noise, reference = model.pre_compute_freqs, frames * rows * columns, rows * columns
    parts = whole.split([noise, reference, whole.shape[1] - noise - reference], dim=1)
    named = dict(zip(("noise", "ref", "motion"), parts, strict=True))
    return torch.cat([named[segment] for segment in segments], dim=1)


def write_packings(folder: Folder, model: nn.Module) -> None:
    """Motion latents of any length to tokens, in both modes."""
    for mode, level, frames, area in PACKINGS:
        packer = official("modules.s2v.motioner").FramePackMotioner(WIDTH, HEADS, [1, 2, 16], mode)
        packer.load_state_dict(model.frame_packer.state_dict())
        name = f"framepack_{mode}_T{frames}" + (f"_last{level}" if level < 2 else "")
        name += "" if area == (8, 8) else f"_{area[0]}x{area[1]}"
        motion = folder.normal(name)(CHANNELS, frames, *area)
        tokens, factors = (parts[0] for parts in packer([motion], level))
        params = {"drop_mode": mode, "add_last_motion": level}
        expected = {"tokens": tokens, "cos_sin": cos_sin(factors)}
        folder.case(name, "frame_packer", params, {"motion_latents": motion}, expected)


def write_embeddings(folder: Folder, model: nn.Module) -> None:
    """Timesteps, and text rows padded to 512: the rows given and two that pad."""
    numbers = folder.normal("embeddings")
    t = torch.tensor([0, 1, 71, 499, 701, 999, 1000])
    sinusoid = official("modules.model").sinusoidal_embedding_1d(TRANSFORMER["freq_dim"], t).float()
    embedding = model.time_embedding(sinusoid)
    modulation = model.time_projection(embedding).unflatten(1, (6, WIDTH))
    given, expected = {"t": t}, {"sinusoid": sinusoid, "e": embedding, "e0": modulation}
    for rows in (1, 9, 100):
        text = numbers(rows, TRANSFORMER["text_dim"])
        padded = torch.cat([text, torch.zeros(TRANSFORMER["text_len"] - rows, TRANSFORMER["text_dim"])])
        given[f"context_{rows}"] = text
        expected[f"text_context_{rows}"] = model.text_embedding(padded[None])[0, : rows + 2]
    folder.case("embeddings", "embeddings", {}, given, expected)


def write_blocks(folder: Folder, model: nn.Module) -> None:
    """Single blocks, and what their parts give; tokens that hardly differ show the norms' ε."""
    for name, params in BLOCKS.items():
        grid = params["F"], params["H"], params["W"]
        factors = segment_factors(model, grid, ["noise", "ref", "motion"])
        numbers, noise = folder.normal(name), grid[0] * grid[1] * grid[2]
        x = numbers(1, factors.shape[1], WIDTH)
        if "low_variance" in name:
            x = 1 + 1e-3 * x
        given = {"x": x, "e0": 0.3 * numbers(1, 6, 2, WIDTH), "context": numbers(1, 40, WIDTH)}
        block = model.blocks[params["block"]]
        parts = {"self_attn_out": block.self_attn, "cross_attn_out": block.cross_attn, "ffn_out": block.ffn}
        expected: dict[str, Tensor] = {}
        handles = [part.register_forward_hook(_keep(expected, key)) for key, part in parts.items()]
        expected["x"] = block(
            x,
            e=[given["e0"], torch.tensor(noise)],
            seq_lens=torch.tensor([x.shape[1]]),
            grid_sizes=None,
            freqs=factors,
            context=given["context"],
            context_lens=None,
        )
        for handle in handles:
            handle.remove()
        folder.case(name, "block", params | {"segment_index": noise}, given, expected)


def _keep(kept: dict[str, Tensor], name: str) -> Callable[[nn.Module, object, Tensor], None]:
    return lambda _module, _inputs, output: kept.update({name: output.clone()})


def write_audio_tokens(folder: Folder, model: nn.Module) -> None:
    """Features of a clip to tokens, the lead of 73 repeated frames included."""
    for name, frames, loudness in (
        ("audio_encoder_T16", 16, 2.0),
        ("audio_encoder_T20", 20, 2.0),
        ("audio_encoder_null_T16", 16, 0.0),
    ):
        audio = loudness * folder.normal(name)(1, STATES, TRANSFORMER["audio_dim"], frames)
        led = torch.cat([audio[..., :1].repeat(1, 1, 1, LEAD), audio], dim=-1)
        everywhere, local = model.casual_audio_encoder(led)
        expected = {"local": local, "global_": everywhere}
        folder.case(name, "audio_encoder", {}, {"audio_input": audio}, expected)


def write_injections(folder: Folder, model: nn.Module) -> None:
    """What the sound adds after a block, to the noise's tokens alone."""
    per_frame = 16
    for name, params in INJECTIONS.items():
        numbers, frames = folder.normal(name), params["frames"]
        hidden = numbers(1, frames * per_frame + params["other_tokens"], WIDTH)
        if "low_variance" in name:
            hidden = 1 + 1e-3 * hidden
        local = numbers(1, frames, TRANSFORMER["num_audio_token"] + 1, WIDTH)
        given = {"hidden": hidden, "audio_local": local, "audio_global": numbers(1, frames, 1, WIDTH)}
        model.merged_audio_emb, model.audio_emb_global = local, given["audio_global"]
        model.original_seq_len = torch.tensor(frames * per_frame)
        expected = {"hidden": model.after_transformer_block(params["block"], hidden.clone())}
        folder.case(name, "audio_inject", params | {"tokens_per_frame": per_frame}, given, expected)
