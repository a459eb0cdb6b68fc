"""Sound of any length for the native engine: up to a minute as the reference, beyond it in windows, kept on disk."""

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch", reason="the packages of soundreel[native] are not here")
pytest.importorskip("diffusers", reason="the packages of soundreel[native] are not here")

import torch
from torch import Tensor

from counting import Counting
from media_files import write_sound
from soundreel.engines.native import long_sound, sound_store
from soundreel.engines.native.long_sound import Survey, encode_columns, pick_columns, survey
from soundreel.engines.native.prepared import find_files
from soundreel.engines.native.scene import encode_sound
from soundreel.engines.native.sound import SoundEncoder, frame_features, normalize, to_feature_rate
from soundreel.engines.native.sound_store import StoredSound, cached_features
from soundreel.errors import Cancelled, EngineError
from soundreel.pipeline import plan
from soundreel.request import Request
from soundreel.weights.find import find_model
from weight_files import OFFICIAL, needs_golden, random_floats, relative_error

RATE = 16_000
CPU = torch.device("cpu")

WINDOWS_ERROR = 0.15
"""Relative L2 of features from windows of 6 s against those of the whole; measured 0.07 to 0.10. The tiny weights are
random: each state attends to all of the sound nearly alike, which trained ones do not."""


@pytest.fixture(scope="module")
def encoder() -> SoundEncoder:
    return SoundEncoder.load(find_model(OFFICIAL))


@pytest.fixture
def short_windows(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if three seconds were long: cores of two with two before and after."""
    monkeypatch.setattr(long_sound, "WHOLE_SECONDS", 3)
    monkeypatch.setattr(long_sound, "CORE_SECONDS", 2)
    monkeypatch.setattr(long_sound, "CONTEXT_SECONDS", 2)


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "soundreel" / "sound"


def noise(seconds: float) -> np.ndarray:
    """Noise that grows louder, off centre."""
    sound = random_floats(round(seconds * RATE)).numpy() * np.linspace(0.01, 0.5, round(seconds * RATE)) + 0.1
    return sound.astype(np.float32)


def in_blocks(samples: np.ndarray, size: int = RATE) -> Callable[[], Iterable[np.ndarray]]:
    return lambda: (samples[first : first + size] for first in range(0, len(samples), size))


def columns(encoder: SoundEncoder, samples: np.ndarray, frames: int, shift: int = 0) -> list[Tensor]:
    blocks = in_blocks(samples)
    return list(encode_columns(encoder, survey(blocks()), blocks, frames, shift))


# the first pass


@pytest.mark.parametrize("size", [1, 1000, 160_000])
def test_a_survey_is_the_same_in_any_blocks(size: int) -> None:
    samples = noise(1.0)
    found = survey(in_blocks(samples, size)())
    assert found.count == len(samples)
    assert found.mean == pytest.approx(samples.mean(dtype=np.float64), rel=1e-9)
    assert found.variance == pytest.approx(samples.var(dtype=np.float64), rel=1e-9)
    assert found.digest == survey(in_blocks(samples)()).digest
    assert found.normalize(samples) == pytest.approx(normalize(samples), abs=1e-5)


def test_no_sound_is_surveyed_too() -> None:
    found = survey(iter(()))
    assert (found.count, found.mean, found.variance) == (0, 0.0, 0.0)


def test_a_long_sound_is_not_held() -> None:
    blocks = (np.zeros(RATE, np.float32) for _ in range(61))
    assert survey(blocks).samples is None
    assert len(survey(np.zeros(RATE, np.float32) for _ in range(60)).samples) == 60 * RATE  # type: ignore[arg-type]


# windows


@pytest.mark.parametrize("total", [2, 49, 205, 999])
@pytest.mark.parametrize("shift", [0, 3])
def test_columns_from_pieces_are_those_from_the_whole(total: int, shift: int) -> None:
    states = random_floats(2, total, 3)
    frames = total // 3 + 5
    expected = frame_features(to_feature_rate(states), frames, shift=shift)
    for size in (1, 7, 50, 1000):
        picked = torch.cat(list(pick_columns(states.split(size, dim=1), total, frames, shift)), dim=2)
        assert picked.shape == expected.shape
        assert (picked - expected).abs().max() < 1e-3, "places are float32 there"


@needs_golden
def test_up_to_a_minute_the_whole_is_heard_as_in_the_reference(encoder: SoundEncoder) -> None:
    samples = noise(5.0)
    (heard,) = columns(encoder, samples, 80, shift=3)
    assert torch.equal(heard, frame_features(encoder.features(samples), 80, shift=3))


@needs_golden
@pytest.mark.usefixtures("short_windows")
@pytest.mark.parametrize("seconds", [3.01, 4.0, 5.2, 8.03, 9.99])
def test_beyond_it_windows_come_near_the_whole(encoder: SoundEncoder, seconds: float) -> None:
    samples, frames = noise(seconds), round(seconds * 16)
    whole = frame_features(encoder.features(samples), frames, shift=3)
    pieces = columns(encoder, samples, frames, shift=3)
    assert len(pieces) > 1
    assert sum(piece.shape[2] for piece in pieces) == frames
    windowed = torch.cat(pieces, dim=2)
    assert relative_error(windowed[0], whole[0]) < 1e-4, "before the first attention two seconds are all that matters"
    assert relative_error(windowed, whole) < WINDOWS_ERROR


@needs_golden
@pytest.mark.usefixtures("short_windows")
def test_no_more_than_a_window_is_heard_at_once(encoder: SoundEncoder, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = []
    states_of = SoundEncoder.states_of

    def listening(self: SoundEncoder, normalized: np.ndarray) -> Tensor:
        heard.append(len(normalized) / RATE)
        return states_of(self, normalized)

    monkeypatch.setattr(SoundEncoder, "states_of", listening)
    columns(encoder, noise(9.0), 144)
    assert heard == pytest.approx([4.0, 6.0, 6.0, 5.0, 3.0], abs=0.02)


# on disk


def pieces(*lengths: int) -> Iterator[Tensor]:
    yield from random_floats(2, 3, sum(lengths)).split(list(lengths), dim=2)


def stored(key: str = "a", *lengths: int) -> StoredSound:
    found = cached_features(key, pieces(*lengths or (5, 3)), frames=sum(lengths or (5, 3)), in_memory=False)
    assert isinstance(found, StoredSound)
    return found


def test_clips_are_read_from_disk(cache: Path) -> None:
    whole = random_floats(2, 3, 8)
    sound = stored()
    assert sound.shape == (2, 3, 8)
    assert torch.equal(sound[..., 2:7], whole[..., 2:7])
    assert torch.equal(sound[..., 6:20], whole[..., 6:])


def test_what_is_stored_is_not_made_again(cache: Path) -> None:
    first = stored()[..., :]

    def never() -> Iterator[Tensor]:
        raise AssertionError("made again")
        yield

    again = cached_features("a", never(), frames=8, in_memory=True)
    assert isinstance(again, Tensor)
    assert torch.equal(again, first)


@pytest.mark.parametrize("kept", [0, 10, 200])
def test_a_damaged_file_is_made_again(cache: Path, kept: int) -> None:
    stored()
    os.truncate(cache / "a.npy", kept)
    assert torch.equal(stored()[..., :], random_floats(2, 3, 8))


def test_what_was_not_used_for_longest_makes_room(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sound_store, "CACHE_BYTES", 900)
    kept = stored("a")
    for age, key in enumerate("bc"):
        stored(key)
        os.utime(cache / f"{key}.npy", (age, age))
    stored("d")
    assert sorted(path.name for path in cache.iterdir()) == ["a.npy", "c.npy", "d.npy"]
    (cache / "a.npy").unlink()
    assert torch.equal(kept[..., :], random_floats(2, 3, 8)), "it stays readable"


def test_features_that_break_off_leave_nothing(cache: Path) -> None:
    def broken() -> Iterator[Tensor]:
        yield torch.zeros(2, 3, 4)
        raise EngineError("out of memory")

    with pytest.raises(EngineError, match="out of memory"):
        cached_features("a", broken(), frames=8, in_memory=False)
    assert list(cache.iterdir()) == []


def test_a_cache_that_cannot_be_written_stops_long_sounds_only(cache: Path) -> None:
    cache.parent.parent.mkdir(parents=True)
    cache.parent.write_text("in the way")
    assert isinstance(cached_features("a", pieces(8), frames=8, in_memory=True), Tensor)
    with pytest.raises(EngineError, match=r"cannot write .*soundreel.*set XDG_CACHE_HOME"):
        cached_features("a", pieces(8), frames=8, in_memory=False)


@needs_golden
@pytest.mark.usefixtures("short_windows")
def test_a_plan_gets_the_features_of_its_window_whichever_way(cache: Path, tmp_path: Path) -> None:
    sound = write_sound(tmp_path / "long.wav", noise(7.0)[:, None], RATE)
    request = Request(audio=sound, engine="native", device="cpu", models=OFFICIAL, width=32, height=32, frames=77)

    def encoded(**fields: Any) -> Tensor | StoredSound:
        return encode_sound(plan(request.replace(**fields)), find_files(request), CPU)

    long, short = encoded(), encoded(frames=16)
    assert isinstance(long, StoredSound)
    assert isinstance(short, Tensor)
    assert long.shape == (short.shape[0], short.shape[1], 80)
    assert len(list(cache.iterdir())) == 2
    assert torch.equal(encoded()[..., 5:9], long[..., 5:9])
    assert len(list(cache.iterdir())) == 2


@needs_golden
def test_a_stop_is_heard_before_each_block_of_sound(cache: Path, tmp_path: Path) -> None:
    sound = write_sound(tmp_path / "long.wav", noise(21.0)[:, None], RATE)
    planned = plan(Request(audio=sound, engine="native", models=OFFICIAL, width=32, height=32, full=True))
    check = Counting(stop_at=3)
    with pytest.raises(Cancelled):
        encode_sound(planned, find_files(planned.request), CPU, check=check)
    assert check.calls == 3
    assert not cache.exists()


def test_a_key_is_another_one_for_another_sound_length_or_shift(tmp_path: Path) -> None:
    weights = tmp_path / "weights"
    weights.write_bytes(b"w")
    sound = Survey(count=1, mean=0, variance=1, digest="a", samples=None)
    base = sound_store.features_key(sound, [weights], CPU, 80, 3)
    other = Survey(count=1, mean=0, variance=1, digest="b", samples=None)
    keys = {
        base,
        sound_store.features_key(other, [weights], CPU, 80, 3),
        sound_store.features_key(sound, [weights], CPU, 84, 3),
        sound_store.features_key(sound, [weights], CPU, 80, 0),
        sound_store.features_key(sound, [weights], torch.device("cuda"), 80, 3),
    }
    weights.write_bytes(b"v")
    assert len(keys | {sound_store.features_key(sound, [weights], CPU, 80, 3)}) == 6
