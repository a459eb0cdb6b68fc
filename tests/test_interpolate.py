"""Twice the frames: the sources untouched, what lies between them better than a held frame, cuts not blended."""

from collections.abc import Iterator
from itertools import islice, pairwise
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from soundreel.errors import InputError, WeightsError
from soundreel.interpolate import check_method, interpolate
from soundreel.media.video import read_frames

Picture = NDArray[np.uint8]


def texture(height: int, width: int, seed: int = 0) -> Picture:
    """Smooth random colours."""
    coarse = np.random.default_rng(seed).random((height // 8 + 1, width // 8 + 1, 3))
    return (np.kron(coarse, np.ones((8, 8, 1)))[:height, :width] * 255).astype(np.uint8)


def panning(count: int, step: int = 4, seed: int = 0, height: int = 96, width: int = 128) -> list[Picture]:
    """A window that moves over a texture by `step` pixels per picture."""
    wide = texture(height, width + step * count, seed)
    return [np.ascontiguousarray(wide[:, k * step : k * step + width]) for k in range(count)]


def double(pictures: list[Picture], factor: int = 2) -> list[Picture]:
    return list(interpolate(pictures, factor=factor, method="motion"))


def psnr(one: Picture, other: Picture) -> float:
    return float(10 * np.log10(255**2 / np.mean((one.astype(float) - other) ** 2)))


@pytest.mark.parametrize("factor", [2, 3, 4])
@pytest.mark.parametrize("count", [1, 2, 3, 9])
def test_count_is_exact_and_sources_stay_as_they_are(count: int, factor: int) -> None:
    pictures = panning(count)
    doubled = double(pictures, factor)
    assert len(doubled) == factor * count
    assert all(np.array_equal(doubled[factor * k], picture) for k, picture in enumerate(pictures))
    assert all(np.array_equal(held, pictures[-1]) for held in doubled[factor * (count - 1) :])


def test_no_pictures_give_none() -> None:
    assert double([]) == []


@pytest.mark.parametrize("size", [(16, 16), (16, 256), (32, 32), (48, 80)])
def test_small_pictures_work(size: tuple[int, int]) -> None:
    assert len(double(panning(3, height=size[0], width=size[1]))) == 6


def test_motion_is_met_half_way() -> None:
    pictures = panning(21)
    made = double(pictures[::2])[5:15:2]
    for between, truth, held in zip(made, pictures[5:15:2], pictures[4:14:2], strict=True):
        inner = np.s_[24:-24, 24:-24]
        assert psnr(between[inner], truth[inner]) > psnr(held[inner], truth[inner]) + 6


def test_a_cut_is_not_blended() -> None:
    pictures = [*panning(6, seed=1), *panning(6, seed=2)]
    before, between, after = double(pictures)[10:13]
    nearest = min(np.abs(between.astype(int) - side).mean() for side in (before, after))
    assert nearest < 3
    assert np.abs(before.astype(int) - after).mean() > 30


def test_cuts_in_a_real_film_are_not_blended(media: Path) -> None:
    pictures = list(islice(read_frames(media / "bikes.mp4"), 22, 38))
    leaps = [np.abs(one.astype(int) - other).mean() for one, other in pairwise(pictures)]
    cut = int(np.argmax(leaps))
    assert leaps[cut] > 50
    between = double(pictures)[2 * cut + 1]
    assert min(np.abs(between.astype(int) - side).mean() for side in pictures[cut : cut + 2]) < 1


def test_what_does_not_move_does_not_flicker() -> None:
    still = texture(64, 64)
    assert all(np.array_equal(picture, still) for picture in double([still.copy() for _ in range(5)]))


@pytest.mark.parametrize(("factor", "method"), [(1, "motion"), (2, "none")])
def test_nothing_asked_changes_nothing(factor: int, method: str) -> None:
    pictures = panning(3)
    assert list(interpolate(pictures, factor=factor, method=method)) == pictures


def test_pictures_stream() -> None:
    taken = 0

    def endless() -> Iterator[Picture]:
        nonlocal taken
        for picture in panning(200, step=1):
            taken += 1
            yield picture

    list(islice(interpolate(endless(), factor=2, method="motion"), 20))
    assert taken < 20


def test_real_motion_beats_holding_frames(media: Path) -> None:
    pictures = list(islice(read_frames(media / "bikes.mp4"), 33))
    made = double(pictures[::2])[1:-1:2]
    truth, held = pictures[1:-1:2], pictures[0:-1:2]
    ours = np.mean([psnr(one, other) for one, other in zip(made, truth, strict=True)])
    hold = np.mean([psnr(one, other) for one, other in zip(held, truth, strict=True)])
    assert ours > hold + 3


def test_film_names_what_needs_no_weights() -> None:
    with pytest.raises(WeightsError, match="--interpolate motion"):
        check_method("film")


def test_unknown_methods_are_named() -> None:
    with pytest.raises(InputError, match="'magic'"):
        check_method("magic")
