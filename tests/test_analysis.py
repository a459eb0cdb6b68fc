"""The analysis: on the video's time base, exact, quiet in silence, the same however the sound is streamed."""

import os
import shutil
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from media_files import click_train, tone, write_sound
from soundreel.analysis import SoundFeatures, analyse
from soundreel.analysis.features import features_of
from soundreel.analysis.spectrum import SAMPLE_RATE
from soundreel.analysis.streaming import chunks
from soundreel.errors import InputError, MediaError
from soundreel.media.audio import LARGEST_SAMPLE

Mono = NDArray[np.float32]
ROWS = ("loudness", "onset", "low", "mid", "high", "centroid_hz", "chroma")
TIMES = ("onset_times", "beat_times")


def features(sound: Mono, seconds: float | None = None) -> SoundFeatures:
    """Features of a mono sound at `SAMPLE_RATE`, on as many frames as `seconds` need."""
    length = len(sound) / SAMPLE_RATE
    return features_of([sound], seconds=length, frames=int(np.ceil((seconds or length) * 16)))


def train(seconds: float, bpm: float, *, first: float = 0.25) -> tuple[Mono, NDArray[np.float64]]:
    """A click train at `SAMPLE_RATE` and the times of its clicks."""
    sound = click_train(seconds, SAMPLE_RATE, every=60 / bpm, first=first)[:, 0]
    return sound, np.arange(first, seconds, 60 / bpm)


def steady(hertz: float, seconds: float = 5.0, amplitude: float = 0.5) -> Mono:
    return tone(seconds, SAMPLE_RATE, hertz=hertz, amplitude=amplitude)[:, 0]


def noise(level_db: float, seconds: float = 20.0) -> Mono:
    samples = np.random.default_rng(1).standard_normal(round(seconds * SAMPLE_RATE))
    return (samples * 10 ** (level_db / 20)).astype(np.float32)


def nearest(times: NDArray[np.float64], to: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far each of `times` is from the nearest of `to`."""
    return np.abs(times[:, None] - to[None, :]).min(axis=1)


def assert_silent(found: SoundFeatures) -> None:
    assert all(not getattr(found, name).any() for name in ROWS)
    assert (len(found.onset_times), len(found.beat_times), found.tempo_bpm) == (0, 0, 0.0)


def assert_same(one: SoundFeatures, other: SoundFeatures) -> None:
    for name in (*ROWS, *TIMES):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    assert one.tempo_bpm == other.tempo_bpm


# on time


@pytest.mark.parametrize("rate", [8000, 11025, 22050, 44100, 48000, 96000])
def test_onsets_are_exact_at_any_sample_rate(tmp_path: Path, rate: int) -> None:
    path = write_sound(tmp_path / "clicks.wav", click_train(10, rate, every=0.5, first=0.3, channels=2), rate)
    clicks = np.arange(0.3, 10, 0.5)
    found = analyse(path, start=0, seconds=10, frames=160)
    assert len(found.onset_times) == len(clicks)
    assert np.abs(found.onset_times - clicks).max() < 0.003
    np.testing.assert_array_equal(np.flatnonzero(found.onset), np.round(clicks * 16))


@pytest.mark.parametrize("suffix", [".mp3", ".m4a", ".ogg", ".flac", ".opus"])
def test_onsets_are_exact_in_any_format(tmp_path: Path, suffix: str) -> None:
    path = write_sound(tmp_path / f"clicks{suffix}", click_train(6, 48000, channels=2), 48000)
    found = analyse(path, start=0, seconds=6, frames=96)
    assert nearest(np.arange(0.25, 6, 0.5), found.onset_times).max() < 0.01


def test_a_window_counts_from_its_own_start(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "clicks.wav", click_train(30, 44100, every=0.5, first=0.25), 44100)
    found = analyse(path, start=20.1, seconds=5, frames=80)
    clicks = np.arange(20.25, 25.1, 0.5) - 20.1
    assert np.abs(found.onset_times - clicks).max() < 0.003


def test_nothing_drifts() -> None:
    sound, clicks = train(600, 174)
    found = features(sound)
    assert np.abs(found.onset_times - clicks).max() < 0.003
    assert np.abs(found.beat_times - clicks).max() < 0.003
    assert np.abs(np.flatnonzero(found.onset) - clicks * 16).max() <= 0.55


def test_a_sound_at_the_very_start_is_an_onset() -> None:
    sound, clicks = train(5, 120, first=0.0)
    found = features(sound)
    assert found.onset[0] > 0.9
    np.testing.assert_allclose(found.onset_times, clicks, atol=0.003)


def test_levels_lie_in_the_frame_of_their_sound() -> None:
    sound = np.zeros(10 * SAMPLE_RATE, np.float32)
    sound[4 * SAMPLE_RATE : 6 * SAMPLE_RATE] = steady(1000, 2)
    heard = np.flatnonzero(features(sound).loudness > 0.5)
    assert (heard[0], heard[-1]) in {(64, 96), (64, 95)}


# tempo and beats


@pytest.mark.parametrize("bpm", [75, 90, 100, 120, 128, 140, 160, 174])
@pytest.mark.parametrize("seconds", [4.8, 30])
def test_tempo_and_beats_of_a_click_train(bpm: float, seconds: float) -> None:
    sound, clicks = train(seconds, bpm)
    found = features(sound)
    assert found.tempo_bpm == pytest.approx(bpm, rel=0.005)
    assert len(found.beat_times) == len(clicks)
    assert np.abs(found.beat_times - clicks).max() < 0.01


def test_beats_follow_a_change_of_tempo() -> None:
    slow, slow_clicks = train(30, 90)
    fast, fast_clicks = train(30, 130)
    found = features(np.concatenate([slow, fast]))
    clicks = np.concatenate([slow_clicks, fast_clicks + 30])
    assert (nearest(clicks, found.beat_times) < 0.03).mean() > 0.95
    assert (nearest(found.beat_times, clicks) < 0.03).mean() > 0.95


def test_loud_hits_carry_the_beat_and_soft_ones_between_do_not() -> None:
    loud, beats = train(20, 100)
    soft, _ = train(20, 100, first=0.25 + 0.3)
    found = features(loud + 0.15 * soft)
    assert found.tempo_bpm == pytest.approx(100, rel=0.01)
    assert nearest(found.beat_times, beats).max() < 0.03


def test_beats_pause_where_nothing_is_heard() -> None:
    sound, _ = train(40, 120)
    sound[10 * SAMPLE_RATE : 30 * SAMPLE_RATE] = 0
    beats = features(sound).beat_times
    assert not ((beats > 12.5) & (beats < 27.5)).any()
    assert (beats < 10).sum() == 20


def test_one_note_is_no_beat() -> None:
    found = features(steady(440))
    assert found.tempo_bpm == 0
    assert len(found.beat_times) == 0


def test_music_agrees_with_its_pulse(media: Path) -> None:
    found = analyse(media / "sing.MP3", start=0, seconds=18, frames=288)
    assert found.tempo_bpm == pytest.approx(123, rel=0.04)  # librosa 0.11: 123.05
    assert np.abs(np.diff(found.beat_times) - 0.49).max() < 0.12


# silence and steady sound


def test_silence_is_zero_throughout() -> None:
    assert_silent(features(np.zeros(5 * SAMPLE_RATE, np.float32)))


def test_an_offset_is_silent() -> None:
    found = features(np.full(5 * SAMPLE_RATE, 0.1, np.float32))
    assert not found.loudness[2:-2].any()
    assert not found.onset[1:].any()


@pytest.mark.parametrize("level_db", [-96, -80, -70, -60])
def test_the_noise_floor_has_no_onsets(level_db: float) -> None:
    found = features(noise(level_db))
    assert not found.onset.any()
    assert found.tempo_bpm == 0
    assert found.loudness.max() < 0.2


@pytest.mark.parametrize("level_db", [-40, -20, -10])
def test_loud_noise_has_none_after_its_start(level_db: float) -> None:
    found = features(noise(level_db))
    assert not found.onset[1:].any()
    assert not found.chroma[2:-2].any()


@pytest.mark.parametrize("hertz", [30, 50, 80, 110, 440, 1000, 5000, 12000])
def test_a_tone_has_no_onset_after_its_start(hertz: float) -> None:
    assert not features(steady(hertz)).onset[1:].any()


def test_a_tone_that_stops_is_no_onset() -> None:
    sound = steady(440)
    sound[round(2.503 * SAMPLE_RATE) :] = 0
    assert not features(sound).onset[1:].any()


def test_vibrato_and_swelling_are_no_onsets() -> None:
    time = np.arange(5 * SAMPLE_RATE) / SAMPLE_RATE
    vibrato = 0.4 * np.sin(2 * np.pi * 440 * time + 6 * np.sin(2 * np.pi * 5 * time))
    assert not features((vibrato * (0.6 + 0.4 * np.sin(8 * time))).astype(np.float32)).onset[1:].any()


def test_a_window_into_a_tone_has_no_onset_at_all(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "tone.wav", tone(10, 44100), 44100)
    assert not analyse(path, start=5, seconds=3, frames=48).onset.any()


def test_soft_clicks_are_found() -> None:
    sound, clicks = train(10, 120)
    found = features(sound * 10 ** (-25 / 20))
    np.testing.assert_allclose(found.onset_times, clicks, atol=0.003)


def test_clicks_over_a_tone_are_found() -> None:
    sound, clicks = train(10, 120)
    found = features(0.5 * sound + steady(220, 10))
    np.testing.assert_allclose(found.onset_times[1:], clicks, atol=0.003)


# levels, pitch


@pytest.mark.parametrize(("hertz", "band"), [(60, "low"), (150, "low"), (440, "mid"), (3000, "high"), (14000, "high")])
def test_a_tone_lies_in_its_band(hertz: float, band: str) -> None:
    found = features(steady(hertz, amplitude=1.0))
    middle = slice(3, -3)
    for name in ("low", "mid", "high"):
        expected = 1.0 if name == band else 0.0
        np.testing.assert_allclose(getattr(found, name)[middle], expected, atol=0.01, err_msg=name)


def test_levels_are_decibels() -> None:
    loud, soft = (features(steady(1000, amplitude=a)).loudness[40] for a in (1.0, 0.1))
    assert loud == pytest.approx(1.0, abs=0.01)
    assert soft == pytest.approx(1 - 20 / 60, abs=0.01)


@pytest.mark.parametrize("hertz", [100, 440, 3000, 10000])
def test_centroid_of_a_tone_is_its_pitch(hertz: float) -> None:
    centroid = features(np.round(steady(hertz, amplitude=0.1) * 32768) / np.float32(32768)).centroid_hz
    np.testing.assert_allclose(centroid[3:-3], hertz, rtol=0.01)


@pytest.mark.parametrize("pitch_class", range(12))
def test_chroma_of_a_tone_is_its_pitch_class(pitch_class: int) -> None:
    for octave in (-2, 0, 2):
        chroma = features(steady(440 * 2 ** ((pitch_class - 9) / 12 + octave), 2)).chroma[3:-3]
        np.testing.assert_allclose(chroma, np.eye(12)[[pitch_class] * len(chroma)], atol=0.02)


def test_chroma_rows_are_shares_or_nothing() -> None:
    chord = sum(steady(hertz, amplitude=0.2) for hertz in (261.6, 329.6, 392.0))
    chroma = features(np.concatenate([chord, np.zeros_like(chord)])).chroma
    assert set(np.argsort(chroma[40])[-3:]) == {0, 4, 7}
    assert chroma[40][[0, 4, 7]].sum() > 0.95
    assert set(np.round(chroma.sum(axis=1), 4)) == {0.0, 1.0}


def test_everything_is_finite_and_in_range(media: Path) -> None:
    found = analyse(media / "Five Hundred Miles.MP3", start=0, seconds=4.8, frames=77)
    for name in ROWS:
        rows = getattr(found, name)
        assert len(rows) == 77
        assert rows.dtype == np.float32
        assert np.isfinite(rows).all()
        assert rows.min() >= 0
        assert name == "centroid_hz" or rows.max() <= 1
    for name in TIMES:
        assert (np.diff(getattr(found, name)) > 0).all()


ANY_LEVEL = st.floats(-LARGEST_SAMPLE, LARGEST_SAMPLE, width=32)


@given(
    st.lists(st.tuples(st.integers(0, SAMPLE_RATE - 1), ANY_LEVEL), max_size=8),
    st.sampled_from([0.0, 1e-45, 1e-30, 1e-3, 1.0, LARGEST_SAMPLE]),
)
@settings(max_examples=25, deadline=None)
def test_sound_of_any_level_is_finite_and_in_range(spikes: list[tuple[int, float]], level: float) -> None:
    sound = (level * np.sign(steady(220, 1.0))).astype(np.float32)
    for place, value in spikes:
        sound[place] = value
    found = features(sound)
    for name in ROWS:
        rows = getattr(found, name)
        assert np.isfinite(rows).all()
        assert rows.min() >= 0
        assert name == "centroid_hz" or rows.max() <= 1


# lengths


@pytest.mark.parametrize("seconds", [0.001, 0.01, 0.03, 0.0625, 0.1])
def test_a_window_shorter_than_a_frame_or_a_transform(seconds: float) -> None:
    found = features(steady(1000, seconds))
    assert len(found.loudness) == max(1, np.ceil(seconds * 16))
    assert found.loudness[0] > 0


def test_after_the_sound_comes_silence() -> None:
    found = features(steady(440, 2), seconds=5)
    assert len(found.loudness) == 80
    assert found.loudness[31] > 0.5
    assert not any(getattr(found, name)[34:].any() for name in ROWS)


def test_no_sound_at_all_is_silence() -> None:
    assert_silent(features_of([], seconds=1.0, frames=16))


# streaming


@pytest.mark.parametrize("block", [1, 997, 32000, 131072])
def test_block_size_does_not_matter(block: int) -> None:
    seconds = 0.5 if block == 1 else 9.3
    sound, _ = train(seconds, 130, first=0.1)
    sound += steady(330, seconds, 0.1) + noise(-50, seconds)
    blocks = [sound[first : first + block] for first in range(0, len(sound), block)]
    frames = int(np.ceil(seconds * 16))
    assert_same(
        features_of(blocks, seconds=seconds, frames=frames),
        features_of([sound], seconds=seconds, frames=frames),
    )


def test_chunks_overlap_by_the_margin() -> None:
    found = list(chunks([np.arange(1, 8, dtype=np.float32)], size=4, margin=2, lead=1))
    np.testing.assert_array_equal(found, [[0, 1, 2, 3, 4, 5, 6, 7], [4, 5, 6, 7, 0, 0, 0, 0]])


def test_memory_grows_by_the_rows_only() -> None:
    def minutes(count: int) -> Iterator[Mono]:
        second = train(1, 60)[0]
        return (second for _ in range(60 * count))

    def peak(count: int) -> int:
        tracemalloc.start()
        features_of(minutes(count), seconds=60 * count, frames=60 * count * 16)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    peak(1)
    assert peak(4) - peak(1) < 3 * 60 * SAMPLE_RATE * 4 / 10  # a tenth of the sound itself


# the file


@pytest.fixture
def clicks(tmp_path: Path) -> Path:
    return write_sound(tmp_path / "clicks.wav", click_train(5, 16000), 16000)


def test_the_same_window_is_analysed_once(clicks: Path) -> None:
    first = analyse(clicks, start=0, seconds=2, frames=32)
    assert analyse(str(clicks), start=0, seconds=2, frames=32) is first
    assert analyse(clicks, start=1, seconds=2, frames=32) is not first


def test_a_changed_file_is_analysed_again(clicks: Path, tmp_path: Path) -> None:
    before = analyse(clicks, start=0, seconds=2, frames=32)
    shutil.copy(write_sound(tmp_path / "tone.wav", tone(6, 16000), 16000), clicks)
    assert len(analyse(clicks, start=0, seconds=2, frames=32).onset_times) != len(before.onset_times)


def test_shared_results_cannot_be_changed(clicks: Path) -> None:
    found = analyse(clicks, start=0, seconds=2, frames=32)
    for name in (*ROWS, *TIMES):
        with pytest.raises(ValueError, match="read-only"):
            getattr(found, name)[:] = 0


@pytest.mark.parametrize("make", [lambda path: None, Path.mkdir, Path.touch])
def test_no_sound_file_is_wrong_input(tmp_path: Path, make: Callable[[Path], None]) -> None:
    make(tmp_path / "sound.mp3")
    with pytest.raises(InputError, match=r"sound\.mp3"):
        analyse(tmp_path / "sound.mp3", start=0, seconds=1, frames=16)


def test_text_is_no_sound(tmp_path: Path) -> None:
    (tmp_path / "text.mp3").write_text("not a sound at all " * 100)
    with pytest.raises(MediaError):
        analyse(tmp_path / "text.mp3", start=0, seconds=1, frames=16)


def test_features_are_the_same_however_many_threads_numpy_has(tune: Path) -> None:
    """Else a video would depend on the machine that draws it."""
    told = "import sys; from soundreel.analysis.features import analyse; f = analyse(sys.argv[1], start=0, seconds=3,"
    told += " frames=48); print([x.tobytes().hex() for x in (f.loudness, f.high, f.centroid_hz)])"
    heard = [
        subprocess.run(
            [sys.executable, "-c", told, str(tune)],
            env=os.environ | dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"), str(threads)),
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for threads in (1, 2)
    ]
    assert heard[0] == heard[1] != ""
