"""A transformer whose tokens are divided among processes computes what one process computes, whatever the counts."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, distributed

from official_transformer import official_transformer, official_velocity
from parity.transformer import build_transformer
from several_ranks import run_ranks
from soundreel.engines.native.denoiser import ClipConditions, LocalDenoiser
from soundreel.errors import InputError
from soundreel.models.attention import Kernel, SelfAttention, attend
from soundreel.models.parallel import exchange
from soundreel.models.parallel import tokens as parallel_tokens
from soundreel.models.parallel.ranks import Arrival, Mesh, NoAnswerError, Place, Ranks
from soundreel.models.parallel.shares import TokenShares, from_strips, head_counts, to_strip
from soundreel.models.parallel.tokens import TokenParallel
from soundreel.models.transformer import WanS2VTransformer3DModel

LIMIT = 1e-5
"""Relative L2 of the difference, in float32."""

PATCH = (1, 2, 2)
SMALL: dict[str, Any] = {
    "attention_head_dim": 12, "text_dim": 24, "text_len": 16, "freq_dim": 32, "ffn_dim": 80, "num_layers": 3,
    "audio_dim": 20, "num_audio_states": 3, "audio_inject_layers": (0, 2),
}  # fmt: skip


def build(heads: int) -> WanS2VTransformer3DModel:
    """The same on every rank; every parameter matters."""
    model = WanS2VTransformer3DModel(num_attention_heads=heads, **SMALL).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for name, parameter in model.named_parameters():
        fan_in = parameter[0].numel() if parameter.ndim > 1 and "table" not in name else 4
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * fan_in**-0.5)
    return model


def draw(size: tuple[int, int, int], seed: int, *, has_motion: bool, has_pose: bool) -> dict[str, Any]:
    """A clip's conditions."""
    generator, (frames, height, width) = torch.Generator().manual_seed(seed), size

    def noise(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    return {
        "frames": frames, "height": height, "width": width,
        "text": noise(5, 24),
        "audio": noise(3, 20, 4 * frames),
        "reference": noise(16, 1, height, width),
        "motion": noise(16, 19, height, width) if has_motion else None,
        "pose": noise(16, frames, height, width) if has_pose else None,
    }  # fmt: skip


def velocities(model: Any, size: tuple[int, int, int], *, has_motion: bool, has_pose: bool) -> NDArray[np.float32]:
    """Of two branches that see the same pictures and hear and read otherwise."""
    first = draw(size, 1, has_motion=has_motion, has_pose=has_pose)
    second = {**first, "text": first["text"].flip(0), "audio": torch.zeros_like(first["audio"])}
    branches = [model.condition(**first), model.condition(**second)]
    latents = torch.randn(1, 16, *size, generator=torch.Generator().manual_seed(2))
    return torch.stack(model.forward_branches(latents, torch.tensor(701), branches)).numpy()


def shared_velocities(mesh: Mesh, heads: int, size: tuple[int, int, int], given: dict[str, bool], even: int) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parallel_tokens, "EVEN_ON", {"cpu": even})
        return velocities(TokenParallel(build(heads), mesh.tokens), size, **given)


@pytest.mark.parametrize(
    ("ranks", "heads", "size", "has_motion", "has_pose", "even"),
    [
        (2, 2, (2, 4, 4), False, False, 1),  # all divides evenly
        (2, 3, (3, 10, 6), True, True, 1),  # 15 tokens per frame, uneven heads
        (3, 8, (2, 10, 12), True, False, 8),  # as on GPUs
        (4, 8, (3, 6, 6), True, True, 1),  # 9 tokens per frame: the last rank has padding alone
        (6, 7, (1, 10, 14), True, False, 1),
        (7, 7, (2, 4, 10), False, True, 8),
    ],
)
@torch.inference_mode()
def test_velocities_are_those_of_one_process(
    tmp_path: Path, ranks: int, heads: int, size: tuple[int, int, int], has_motion: bool, has_pose: bool, even: int
) -> None:
    given = {"has_motion": has_motion, "has_pose": has_pose}
    expected = velocities(build(heads), size, **given)
    made = run_ranks(tmp_path, 1, ranks, shared_velocities, heads, size, given, even)
    for velocity in made:
        assert np.linalg.norm(velocity - expected) < LIMIT * np.linalg.norm(expected)
        assert velocity.tobytes() == made[0].tobytes(), "every rank has the same"


def float8_velocities(mesh: Mesh, heads: int, size: tuple[int, int, int], given: dict[str, bool]) -> Any:
    """With attention in float8, and how many bytes travelled before and after it."""
    model, sent = build(heads), {torch.uint8: 0, torch.float32: 0}
    parallel = TokenParallel(model, mesh.tokens)
    for layer in model.modules():
        if isinstance(layer, SelfAttention):
            layer.kernel = Kernel.FP8
    travel = Ranks.all_to_all

    def counted(ranks: Ranks, send: Tensor, counts: list[int], received: list[int]) -> Arrival:
        sent[send.dtype] += send.nbytes
        return travel(ranks, send, counts, received)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Ranks, "all_to_all", counted)
        made = velocities(parallel, size, **given)
    return made, sent[torch.uint8]


@pytest.mark.parametrize(
    ("ranks", "heads", "size", "has_motion", "has_pose"),
    [(2, 4, (2, 4, 4), False, False), (3, 8, (2, 10, 12), True, False)],
)
@torch.inference_mode()
def test_float8_rows_travel_and_change_nothing(
    tmp_path: Path, ranks: int, heads: int, size: tuple[int, int, int], has_motion: bool, has_pose: bool
) -> None:
    """Rounded before they travel: as if they had been rounded at one place."""
    given = {"has_motion": has_motion, "has_pose": has_pose}
    exact = velocities(build(heads), size, **given)
    (tmp_path / "one").mkdir()
    (tmp_path / "several").mkdir()
    ((expected, _),) = run_ranks(tmp_path / "one", 1, 1, float8_velocities, heads, size, given)
    off = np.linalg.norm(expected - exact) / np.linalg.norm(exact)
    assert 1e-4 < off < 1e-2, "it is in float8"
    for made, sent in run_ranks(tmp_path / "several", 1, ranks, float8_velocities, heads, size, given):
        limit = 2 * off if has_motion else LIMIT  # padding is in the means, and rounds otherwise
        assert np.linalg.norm(made - expected) < limit * np.linalg.norm(expected)
        assert sent > 0


def one_cannot_round(mesh: Mesh, size: tuple[int, int, int], given: dict[str, bool]) -> Any:
    """Bytes that travelled where the kernels of one rank do not run."""
    with pytest.MonkeyPatch.context() as patch:
        if mesh.tokens.rank == 1:
            patch.setattr(exchange, "float8_travel", lambda _: None)
        patch.setattr(exchange, "attend", lambda query, key, value, _: attend(query, key, value))
        return float8_velocities(mesh, 4, size, given)


@torch.inference_mode()
def test_rows_travel_whole_where_one_rank_cannot_round_them(tmp_path: Path) -> None:
    size, given = (2, 4, 4), {"has_motion": False, "has_pose": False}
    expected = velocities(build(4), size, **given)
    for made, sent in run_ranks(tmp_path, 1, 2, one_cannot_round, size, given):
        assert sent == 0
        assert np.linalg.norm(made - expected) < LIMIT * np.linalg.norm(expected)


OFFICIAL: dict[str, Any] = {
    "model_type": "s2v", "dim": 96, "num_heads": 8, "ffn_dim": 200, "num_layers": 3, "audio_inject_layers": [0, 2],
    "freq_dim": 64, "audio_dim": 24, "text_dim": 40, "text_len": 48, "cond_dim": 16, "enable_adain": True,
    "adain_mode": "attn_norm", "zero_timestep": True, "enable_motioner": False, "enable_framepack": True,
    "framepack_drop_mode": "padd",
}  # fmt: skip


def official_velocity_of_rank(mesh: Mesh, tensors: dict[str, Any], given: dict[str, Any], latents: Any) -> Any:
    weights = {name: torch.from_numpy(value) for name, value in tensors.items()}
    model = LocalDenoiser(build_transformer(weights, OFFICIAL), mesh=mesh)
    inputs = {name: torch.from_numpy(value) for name, value in given.items()}
    text, audio = inputs.pop("text"), inputs.pop("audio")
    _, *size = latents.shape
    model.condition(ClipConditions(clip=1, size=tuple(size), texts=(text,) * 2, sounds=(audio,) * 2, **inputs))
    return [velocity.numpy() for velocity in model(torch.from_numpy(latents), torch.tensor(701), 2)]


@torch.inference_mode()
def test_two_by_two_ranks_compute_what_the_official_code_computes(tmp_path: Path) -> None:
    official = official_transformer(OFFICIAL, seed=5)
    frames, *area = size = (3, 10, 14)  # 35 tokens per frame
    inputs = {
        "text": torch.randn(5, 40), "audio": torch.randn(25, 24, 4 * frames), "reference": torch.randn(16, 1, *area),
        "motion": torch.randn(16, 19, *area), "pose": torch.randn(16, *size),
    }  # fmt: skip
    latents = torch.randn(16, *size)
    expected = official_velocity(official, drop_motion=False, latents=latents, t=torch.tensor(701), **inputs).numpy()
    tensors = {name: value.numpy() for name, value in official.state_dict().items()}
    given = {name: value.numpy() for name, value in inputs.items()}
    for velocities in run_ranks(tmp_path, 2, 2, official_velocity_of_rank, tensors, given, latents.numpy()):
        for velocity in velocities:
            assert np.linalg.norm(velocity - expected) < LIMIT * np.linalg.norm(expected)


def left_alone(mesh: Mesh, size: tuple[int, int, int]) -> Any:
    """What the first rank says when the second one goes."""
    if mesh.tokens.rank == 1:
        distributed.destroy_process_group()
        return ()
    mesh.everyone.place.begin("pass 7 of clip 3")
    with pytest.raises(NoAnswerError) as caught:
        velocities(TokenParallel(build(2), mesh.tokens), size, has_motion=False, has_pose=False)
    return (str(caught.value),)


def test_who_is_left_alone_says_where(tmp_path: Path) -> None:
    (said, *_), _ = run_ranks(tmp_path, 1, 2, left_alone, (2, 4, 4))
    assert said.startswith("rank 0, pass 7 of clip 3, attention of block 1: the other ranks do not answer (")


def test_more_ranks_than_heads_are_refused() -> None:
    with pytest.raises(InputError, match="the model has 2 attention heads: 3 ranks cannot share its tokens"):
        TokenParallel(WanS2VTransformer3DModel(num_attention_heads=2, **SMALL), Ranks(0, 3, Place(0)))


@pytest.mark.parametrize("ranks", range(1, 9))
@pytest.mark.parametrize("heads", [8, 40])
def test_heads_are_spread_as_evenly_as_they_can_be(heads: int, ranks: int) -> None:
    counts = head_counts(heads, ranks)
    assert sum(counts) == heads
    assert max(counts) - min(counts) <= 1


@pytest.mark.parametrize(("ranks", "tokens", "clean"), [(1, 9, 4), (2, 9, 4), (4, 9, 5), (3, 12, 0), (5, 3, 2)])
@pytest.mark.parametrize("even", [1, 8])
def test_every_token_is_attended_to_once(ranks: int, tokens: int, clean: int, even: int) -> None:
    shares = TokenShares(ranks=ranks, frames=3, frame_tokens=tokens, clean=clean, even=even)
    assert (3 * shares.own_frame_tokens + shares.own_clean) % even == 0
    everywhere = torch.cat(
        [torch.cat([shares.of_noise(rank), 3 * tokens + shares.of_clean(rank)]) for rank in range(ranks)]
    )
    assert sorted(everywhere[shares.attended()].tolist()) == list(range(3 * tokens + clean))


def test_padding_at_the_end_alone_costs_no_copy() -> None:
    """The usual case: frames divide evenly, the clean tokens do not."""
    shares = TokenShares(ranks=4, frames=20, frame_tokens=1560, clean=3874, even=8)
    assert shares.attended() == slice(0, 20 * 1560 + 3874)


@pytest.mark.parametrize("ranks", [1, 2, 4, 5])
def test_strips_make_the_latents_again(ranks: int) -> None:
    latents = torch.randn(1, 16, 3, 6, 10)
    shares = TokenShares(ranks=ranks, frames=3, frame_tokens=15, clean=0)
    strips = [to_strip(latents, PATCH, shares.in_frame(rank)) for rank in range(ranks)]
    assert from_strips(strips, PATCH, 6, 10).equal(latents)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.uint8])
@pytest.mark.parametrize("width", [16, 5])
def test_rows_of_heads_are_laid_as_they_are(dtype: torch.dtype, width: int) -> None:
    """Some heads of all, in 16 bytes at a time or not; also what is no number."""
    bits = torch.randint(0, 256, (7, 6, width * dtype.itemsize), dtype=torch.uint8)
    whole, apart = bits.view(dtype), torch.zeros(7, 2, width, dtype=dtype)
    exchange.lay(whole[:, 2:4], apart)
    assert torch.equal(apart.view(torch.uint8), bits[:, 2:4])
    back = torch.zeros_like(whole)
    exchange.lay(apart, back[:, 1:3])
    assert torch.equal(back.view(torch.uint8)[:, 1:3], bits[:, 2:4])
