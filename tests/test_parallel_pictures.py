"""A VAE whose pictures are divided among processes makes what one process makes, whatever the counts."""

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the packages of soundreel[native] are not here")

import torch
from torch import Tensor, distributed

from several_ranks import run_ranks
from soundreel.models.parallel import pictures as parallel_pictures
from soundreel.models.parallel.pictures import PictureParallel, Room, RoomSize, rank_windows
from soundreel.models.parallel.ranks import Mesh, NoAnswerError
from soundreel.models.vae import decode, encode
from soundreel.models.vae_areas import whole
from soundreel.models.vae_network import WanVae

LIMIT = 1e-5
"""Relative L2 of the difference, in float32."""

FULL = RuntimeError("DefaultCPUAllocator: can't allocate memory")


def network() -> WanVae:
    """The same on every rank; every parameter matters."""
    made = WanVae(base_dim=8, z_dim=4).eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    for parameter in made.parameters():
        fan_in = parameter[0].numel() if parameter.ndim > 1 else 4
        parameter.copy_(torch.randn(parameter.shape, generator=generator) * fan_in**-0.5)
    return made


def draw(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(sum(shape))).clamp_(-1, 1)


def far_off(made: Any, expected: Tensor) -> float:
    made = torch.from_numpy(made)
    assert made.shape == expected.shape
    return float((made - expected).norm() / expected.norm())


def room_of(folder: Path, size: RoomSize) -> Room:
    with (folder / f"room of {size.bytes}").open("a+b") as file:
        file.truncate(size.bytes)
        return Room.mapped(file.fileno(), size)


def decoded(mesh: Mesh, folder: Path, latents: Any, keep: int | None, step: int, bands: int) -> Any:
    """Pixels and pictures on the first rank."""
    frames, height, width = latents.shape[1:]
    kept = keep or 1 + 4 * (frames - 1)
    is_first, size = mesh.everyone.rank == 0, RoomSize(kept, kept, 8 * height, 8 * width)
    parallel = PictureParallel(network(), mesh.everyone)

    def made(size: RoomSize) -> Any:
        room, pictures = room_of(folder, size), None
        if is_first and size.pictures:
            pictures = torch.zeros(kept, size.height, size.width, 3, dtype=torch.uint8)
        pixels = parallel.decode(torch.from_numpy(latents), keep, step, bands, room, pictures=pictures)
        return pixels, pictures

    pixels, pictures = made(size)
    no_pixels, same_pictures = made(size._replace(pixels=0))
    same_pixels, _ = made(size._replace(pictures=0))
    if not is_first:
        assert pixels is no_pixels is same_pixels is None
        return None
    assert no_pixels.shape == (3, 0, size.height, size.width)
    assert torch.equal(same_pictures, pictures)
    assert torch.equal(same_pixels, pixels)
    return pixels.numpy(), pictures.numpy()


@pytest.mark.parametrize(
    ("ranks", "size", "keep", "step", "bands"),
    [
        pytest.param(2, (6, 3), None, 2, 1, marks=pytest.mark.long),
        (3, (3, 7), 6, 2, 1),  # columns and ranks are odd
        (4, (6, 7), 9, 1, 1),  # two by two
        (2, (7, 3), 6, 2, 4),  # each rank goes through bands of its own
        pytest.param(4, (5, 6), 6, 2, 6, marks=pytest.mark.long),
        pytest.param(3, (2, 1), None, 2, 1, marks=pytest.mark.long),  # a rank has none
    ],
)
@torch.inference_mode()
def test_decoded_as_by_one_process(
    tmp_path: Path, ranks: int, size: tuple[int, int], keep: int | None, step: int, bands: int
) -> None:
    latents = draw(4, 3, *size)
    expected = decode(network(), latents, keep, step)
    shown = torch.zeros(*expected.shape[1:], 3, dtype=torch.uint8)
    decode(network(), latents, keep, step, pictures=shown)
    (pixels, pictures), *others = run_ranks(tmp_path, 1, ranks, decoded, tmp_path, latents.numpy(), keep, step, bands)
    assert others == [None] * (ranks - 1)
    assert far_off(pixels, expected) < LIMIT
    apart = (torch.from_numpy(pictures).int() - shown.int()).abs()
    assert apart.max() <= 1, "what is rounded down may be rounded down further"
    assert apart.float().mean() < 1e-3


def encoded(mesh: Mesh, pixels: Any, step: int, bands: int) -> Any:
    given = torch.from_numpy(pixels) if mesh.everyone.rank == 0 else None
    mean = PictureParallel(network(), mesh.everyone).encode(given, pixels.shape, step, bands)
    return None if mean is None else mean.numpy()


@pytest.mark.parametrize(
    ("ranks", "size", "frames", "step", "bands"),
    [
        (4, (48, 58), 5, 2, 1),  # two by two
        (2, (56, 24), 9, 2, 4),
        pytest.param(2, (24, 48), 9, 2, 1, marks=pytest.mark.long),
        pytest.param(3, (56, 24), 10, 1, 1, marks=pytest.mark.long),
        pytest.param(3, (16, 8), 5, 2, 1, marks=pytest.mark.long),  # a rank has none
    ],
)
@torch.inference_mode()
def test_encoded_as_by_one_process(
    tmp_path: Path, ranks: int, size: tuple[int, int], frames: int, step: int, bands: int
) -> None:
    pixels = draw(3, frames, *size)
    expected = encode(network(), pixels, step)
    mean, *others = run_ranks(tmp_path, 1, ranks, encoded, pixels.numpy(), step, bands)
    assert others == [None] * (ranks - 1)
    assert far_off(mean, expected) < LIMIT


def short_of_memory(mesh: Mesh, folder: Path, rank: int, pixels: Any, latents: Any) -> Any:
    """What is made where the memory of one rank does not hold its rows; then, once more, where it does."""

    def full(*_: Any, **__: Any) -> Any:
        raise FULL

    def full_after_a_piece(_network: Any, take: Any, *_: Any, **__: Any) -> Any:
        yield take(slice(0, 1), whole(48, 16))
        raise FULL

    room = room_of(folder, RoomSize(4, 4, 48, 16))
    parallel, given = PictureParallel(network(), mesh.everyone), pixels if mesh.everyone.rank == 0 else None
    with pytest.MonkeyPatch.context() as patch:
        if mesh.everyone.rank == rank:
            patch.setattr(parallel_pictures, "decode", full)
            patch.setattr(parallel_pictures, "encoded_window", full_after_a_piece)
        made = parallel.decode(latents, 4, 2, 1, room), parallel.encode(given, tuple(pixels.shape), 1, 1)
    again = parallel.decode(latents, 4, 2, 1, room), parallel.encode(given, tuple(pixels.shape), 1, 1)
    return [one is None for one in (*made, *again)]


@pytest.mark.parametrize("rank", [2, pytest.param(0, marks=pytest.mark.long)])
def test_all_give_up_where_one_has_no_memory(tmp_path: Path, rank: int) -> None:
    first, *others = run_ranks(tmp_path, 1, 3, short_of_memory, tmp_path, rank, draw(3, 9, 48, 16), draw(4, 2, 6, 2))
    assert first == [True, True, False, False], "nobody waits, and all can go on together"
    assert others == [[True] * 4] * 2


@pytest.mark.parametrize(
    ("size", "ranks", "shapes"),
    [
        ((60, 104), 2, [(60, 52)] * 2),
        ((60, 104), 4, [(30, 52)] * 4),
        ((104, 60), 3, [(34, 60), (35, 60), (35, 60)]),
        ((104, 152), 6, [(52, 50), (52, 51), (52, 51)] * 2),
        ((1, 2), 3, [(1, 1)] * 2),
    ],
)
def test_windows_lie_where_the_edges_between_them_are_short(
    size: tuple[int, int], ranks: int, shapes: list[tuple[int, int]]
) -> None:
    windows = rank_windows(*size, ranks)
    assert [window.shape for window in windows if not window.is_empty] == shapes
    assert len(windows) == ranks
    covered = torch.zeros(size, dtype=torch.int)
    for window in windows:
        covered[window.slices()] += 1
    assert bool((covered == 1).all())


def left_alone(mesh: Mesh, folder: Path) -> Any:
    """What the first rank says when the second one goes."""
    if mesh.everyone.rank == 1:
        distributed.destroy_process_group()
        return ()
    mesh.everyone.place.begin("decoding clip 3")
    with pytest.raises(NoAnswerError) as caught:
        room = room_of(folder, RoomSize(5, 5, 48, 16))
        PictureParallel(network(), mesh.everyone).decode(draw(4, 2, 6, 2), None, 2, 1, room)
    return (str(caught.value),)


def test_who_is_left_alone_says_where(tmp_path: Path) -> None:
    (said, *_), _ = run_ranks(tmp_path, 1, 2, left_alone, tmp_path)
    assert said.startswith("rank 0, decoding clip 3, pictures: the other ranks do not answer (")
