"""The A/V contract: sound and picture stay together, measured in finished files as a player plays them.

A player honours edit lists: so does PyAV's decoder, which drops the AAC encoder's priming samples.
"""

import math
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from media_files import (
    VARIABLE_BIT_RATE,
    Samples,
    click_train,
    tone,
    write_sound,
    write_video,
)
from soundreel.errors import Cancelled
from soundreel.media.audio import probe_sound, stream_sound
from soundreel.media.mux import AAC_FRAME_SAMPLES, SoundTrack, assemble, track_rate, verify
from soundreel.media.video import SegmentWriter, probe_video
from soundreel.pipeline import generate
from soundreel.request import Request

SOURCE_SECONDS = 6.0
FIRST_CLICK, CLICK_EVERY = 0.25, 0.5
CLICK_TIMES = np.arange(FIRST_CLICK, SOURCE_SECONDS, CLICK_EVERY)
TOLERANCE_SECONDS = 0.001

PLAYERS_LOSE_SECONDS = {".wma": 2048 / 44100}
"""FFmpeg's decoder, and with it most players, drops the first frame of what FFmpeg has encoded; soundreel does not."""


@pytest.fixture(scope="session")
def segment(tmp_path_factory) -> Path:
    """24 frames: 1.5 s."""
    return _segment(tmp_path_factory.mktemp("segment") / "segment.mp4", 24)


def _segment(path: Path, frames: int, *, fps: int = 16) -> Path:
    with SegmentWriter(path, width=32, height=32, fps=fps) as writer:
        writer.write(np.zeros((frames, 32, 32, 3), np.uint8))
    return path


def _film(folder: Path, segment: Path, source: Path, *, start: float = 0.0, seconds: float | None = None) -> Path:
    """The finished video of `segment` with the sound of `source` from `start` on."""
    video = probe_video(segment)
    sound = SoundTrack(path=source, start=start, seconds=video.seconds if seconds is None else seconds)
    assemble([segment], folder / "film.mp4", fps=int(video.fps), sound=sound, metadata={})
    verify(folder / "film.mp4", frames=video.frames, fps=int(video.fps), sound=True)
    return folder / "film.mp4"


def _heard(path: Path) -> tuple[Samples, int]:
    """What a player plays: samples [n, c] from the first that decodes, and their rate."""
    to_float = av.AudioResampler("fltp")
    with av.open(str(path)) as container:
        blocks = [f.to_ndarray().T for frame in container.decode(audio=0) for f in to_float.resample(frame)]
        return np.concatenate(blocks), container.streams.audio[0].sample_rate


def _click_times(sound: Samples, rate: int, near: np.ndarray) -> np.ndarray:
    """Where the loudest sample within 20 ms of each expected time is, in seconds."""
    loudness = np.abs(sound).max(axis=1)
    reach = round(0.02 * rate)
    found = []
    for time in near:
        first = max(0, round(time * rate) - reach)
        around = loudness[first : round(time * rate) + reach]
        assert around.max() > 4 * np.median(around), f"no click near {time} s"
        found.append((first + int(around.argmax())) / rate)
    return np.array(found)


SOURCES = {
    "wav 16 bit": lambda path: write_sound(path / "s.wav", _clicks(), 44100),
    "wav 8 bit": lambda path: write_sound(path / "s.wav", _clicks(), 44100, "pcm_u8"),
    "wav float": lambda path: write_sound(path / "s.wav", _clicks(), 44100, "pcm_f32le"),
    "mp3 constant": lambda path: write_sound(path / "s.mp3", _clicks(), 44100, bit_rate=192_000),
    "mp3 variable": lambda path: write_sound(path / "s.mp3", _clicks(), 44100, encoder_options=VARIABLE_BIT_RATE),
    "m4a": lambda path: write_sound(path / "s.m4a", _clicks(), 44100, bit_rate=192_000),
    "flac": lambda path: write_sound(path / "s.flac", _clicks(48000), 48000),
    "ogg": lambda path: write_sound(path / "s.ogg", _clicks(), 44100),
    "opus": lambda path: write_sound(path / "s.opus", _clicks(48000), 48000, bit_rate=192_000),
    "wma": lambda path: write_sound(path / "s.wma", _clicks(), 44100, bit_rate=192_000),
    "mkv video": lambda path: write_video(path / "s.mkv", _clicks(), 44100),
    "mp4 video": lambda path: write_video(path / "s.mp4", _clicks(), 44100),
    "webm sound": lambda path: write_sound(path / "s.webm", _clicks(48000), 48000, bit_rate=192_000),
}


def _clicks(rate: int = 44100) -> Samples:
    return click_train(SOURCE_SECONDS, rate, every=CLICK_EVERY, first=FIRST_CLICK, channels=2)


@pytest.fixture(scope="session", params=SOURCES)
def source(request, tmp_path_factory) -> Path:
    """The same clicks in every format."""
    return SOURCES[request.param](tmp_path_factory.mktemp("source"))


class TestClicks:
    @pytest.mark.parametrize("start", [0.0, 2.345678, 5.2])
    def test_a_click_at_t_is_heard_at_t_minus_start(self, tmp_path, segment, source, start):
        film = _film(tmp_path, segment, source, start=start)
        clicks = CLICK_TIMES - start
        expected = clicks[(clicks > 0.03) & (clicks < 1.47)]
        assert len(expected) > 0
        assert np.abs(_click_times(*_heard(film), expected) - expected).max() < TOLERANCE_SECONDS

    def test_the_sources_have_their_clicks_where_we_think(self, source):
        expected = CLICK_TIMES - PLAYERS_LOSE_SECONDS.get(source.suffix, 0.0)
        assert np.abs(_click_times(*_heard(source), expected) - expected).max() < TOLERANCE_SECONDS

    @pytest.mark.parametrize("fps", [16, 32])
    def test_the_first_sample_of_the_window_is_heard_first(self, tmp_path, fps):
        sound = click_train(3.0, 48000, every=1.0, first=1.0)
        source = write_sound(tmp_path / "s.flac", sound, 48000)
        segment = _segment(tmp_path / "segment.mp4", 16, fps=fps)
        heard, _ = _heard(_film(tmp_path, segment, source, start=1.0))
        assert np.abs(heard[:48]).argmax() <= 2
        assert heard[0] > 0.5

    def test_a_window_that_begins_within_a_tone_begins_with_the_tone(self, tmp_path, segment):
        source = write_sound(tmp_path / "s.flac", tone(3.0, 44100, channels=2), 44100)
        heard, _ = _heard(_film(tmp_path, segment, source, start=1.0))
        expected = tone(3.0, 44100, channels=2)[44100:][:44100]
        assert np.abs(heard[: len(expected)] - expected).max() < 0.05

    def test_sound_that_sets_in_after_the_pictures_of_its_file_does_so_here(self, tmp_path, segment):
        source = write_video(tmp_path / "s.mkv", _clicks(), 44100, sound_start=0.5)
        expected = np.array([0.5 + FIRST_CLICK, 0.5 + FIRST_CLICK + CLICK_EVERY])
        clicks = _click_times(*_heard(_film(tmp_path, segment, source)), expected)
        assert np.abs(clicks - expected).max() < TOLERANCE_SECONDS


LONG_RATE = 16_000
LONG_SECONDS = 612.0
LONG_TRAIN = {"every": 2.5, "first": 0.55}
"""Clicks 40 frames apart."""

LONG_SOURCES = {
    "wav": {},
    "mp3": {"bit_rate": 64_000},
    "mp3 variable": {"encoder_options": VARIABLE_BIT_RATE},
    "m4a": {"bit_rate": 64_000},
    "flac": {},
    "ogg": {},
    "opus": {"bit_rate": 64_000},
    "wma": {"bit_rate": 64_000},
    "mkv": {},
    "webm": {"bit_rate": 64_000},
}


@pytest.fixture(scope="session", params=LONG_SOURCES)
def long_source(request, tmp_path_factory) -> Path:
    """Ten minutes of clicks in every format."""
    path = tmp_path_factory.mktemp("long") / f"s.{request.param.split()[0]}"
    clicks = click_train(LONG_SECONDS, LONG_RATE, **LONG_TRAIN)
    return write_sound(path, clicks, LONG_RATE, **LONG_SOURCES[request.param])


CLOCKS = ("mp3 variable", "m4a", "webm")
"""Formats that tell time by estimates, by edit lists and in whole milliseconds."""

TEN_MINUTES = [name if name in CLOCKS else pytest.param(name, marks=pytest.mark.long) for name in LONG_SOURCES]


@pytest.fixture(scope="session")
def long_segments(tmp_path_factory) -> dict[float, Path]:
    """Pictures for windows of these seconds."""
    folder = tmp_path_factory.mktemp("segments")
    return {s: _segment(folder / f"{s}.mp4", math.ceil(s * 16)) for s in (0.1, 1, 5, 60, 600)}


class TestLongAndShortWindows:
    """However long the window is, and wherever it begins, a click is within 1 ms of its time from first to last."""

    @pytest.mark.parametrize(("seconds", "start"), [(0.1, 0.5), (0.1, 602.98), (1, 0.3), (5, 304.1), (60, 550.7)])
    def test_clicks_stay_with_their_frames(self, tmp_path, long_segments, long_source, seconds, start):
        self.check_clicks(tmp_path, long_segments, long_source, seconds, start)

    @pytest.mark.parametrize("long_source", TEN_MINUTES, indirect=True)
    def test_they_do_so_for_ten_minutes(self, tmp_path, long_segments, long_source):
        self.check_clicks(tmp_path, long_segments, long_source, 600, 9.3)

    def check_clicks(self, tmp_path, long_segments, long_source, seconds, start):
        film = _film(tmp_path, long_segments[seconds], long_source, start=start, seconds=seconds)
        assert probe_video(film).frames == math.ceil(seconds * 16)
        times = np.arange(LONG_TRAIN["first"], LONG_SECONDS, LONG_TRAIN["every"])
        clicks = times - start
        expected = clicks[(clicks > 0.015) & (clicks < seconds - 0.015)]
        assert len(expected) >= max(1, seconds // 3)
        assert np.abs(_click_times(*_heard(film), expected) - expected).max() < TOLERANCE_SECONDS

    @pytest.mark.parametrize("interpolate", ["none", "motion"])
    def test_after_an_interruption_as_well(self, tmp_path, interpolate):
        sound = write_sound(tmp_path / "s.flac", click_train(22.0, LONG_RATE, **LONG_TRAIN), LONG_RATE)
        asked = Request(
            audio=sound, audio_start=0.3, audio_duration=20, width=32, height=32, infer_frames=48, engine="draft",
            interpolate=interpolate, output=tmp_path / "film.mp4",
        )  # fmt: skip

        def stop(progress):
            if progress.clip == 4:
                raise Cancelled("enough")

        with pytest.raises(Cancelled):
            generate(asked, stop)
        film = generate(asked).path
        assert (probe_video(film).frames, probe_video(film).seconds) == (320 if interpolate == "none" else 640, 20)
        expected = np.arange(LONG_TRAIN["first"], 20.2, LONG_TRAIN["every"]) - 0.3
        assert np.abs(_click_times(*_heard(film), expected) - expected).max() < TOLERANCE_SECONDS


class TestLengths:
    @pytest.mark.parametrize("frames", [1, 2, 3, 77])
    @pytest.mark.parametrize("fps", [16, 24, 25, 30, 32, 60])
    @pytest.mark.parametrize("rate", [44100, 48000])
    def test_frames_rate_and_durations_are_exact(self, tmp_path, frames, fps, rate):
        source = write_sound(tmp_path / "s.wav", tone(6.0, rate), rate)
        film = _film(tmp_path, _segment(tmp_path / "segment.mp4", frames, fps=fps), source, start=0.3)
        with av.open(str(film)) as container:
            video, sound = container.streams.video[0], container.streams.audio[0]
            assert video.frames == frames
            assert video.average_rate == video.guessed_rate == fps
            assert (video.start_time, video.duration * video.time_base) == (0, Fraction(frames, fps))
            assert (sound.start_time, sound.duration) == (0, round(Fraction(frames * rate, fps)))
            times = [frame.pts * frame.time_base for frame in container.decode(video)]
            assert times == [Fraction(i, fps) for i in range(frames)]
        heard, heard_rate = _heard(film)
        assert heard_rate == rate
        assert 0 <= len(heard) - round(Fraction(frames * rate, fps)) <= AAC_FRAME_SAMPLES

    @pytest.mark.parametrize("seconds", [0.0, 0.01, 0.5])
    def test_after_a_short_window_there_is_silence(self, tmp_path, segment, seconds):
        source = write_sound(tmp_path / "s.wav", tone(6.0, 44100), 44100)
        heard, rate = _heard(_film(tmp_path, segment, source, start=1.0, seconds=seconds))
        end = round(seconds * rate)
        assert np.abs(heard[end + 2 * AAC_FRAME_SAMPLES :]).max() < 1e-4
        if seconds == 0.5:
            assert np.sqrt(np.mean(heard[:end] ** 2)) == pytest.approx(0.5 / np.sqrt(2), rel=0.02)

    def test_after_the_end_of_the_sound_there_is_silence(self, tmp_path, segment):
        source = write_sound(tmp_path / "s.mp3", tone(2.0, 44100), 44100, bit_rate=128_000)
        heard, rate = _heard(_film(tmp_path, segment, source, start=1.5))
        assert np.abs(heard[round(0.4 * rate) :][:100]).max() > 0.4
        assert np.abs(heard[round(0.6 * rate) :]).max() < 0.01


class TestQuality:
    @pytest.mark.parametrize(
        ("source_rate", "rate"),
        [(8000, 8000), (11025, 11025), (22050, 22050), (37800, 44100), (44100, 44100), (96000, 48000)],
    )
    def test_the_track_has_the_sources_rate_as_far_as_aac_has_it(self, tmp_path, segment, source_rate, rate):
        assert track_rate(source_rate) == rate
        source = write_sound(tmp_path / "s.wav", click_train(6.0, source_rate), source_rate)
        film = _film(tmp_path, segment, source, start=2.0)
        assert probe_video(film).sound_rate == rate
        expected = np.array([0.25, 0.75, 1.25])
        assert np.abs(_click_times(*_heard(film), expected) - expected).max() < TOLERANCE_SECONDS

    def test_rates_that_aac_lacks_lose_nothing_up_to_48_khz(self):
        rates = [6000, 8001, 15999, 32001, 47999, 48001, 192_000]
        assert [track_rate(rate) for rate in rates] == [8000, 11025, 16000, 44100, 48000, 48000, 48000]

    @pytest.mark.parametrize(("channels", "expected"), [(1, 1), (2, 2), (6, 2)])
    def test_mono_stays_mono_and_surround_becomes_stereo(self, tmp_path, segment, channels, expected):
        source = write_sound(tmp_path / "s.flac", tone(2.0, 44100, channels=channels), 44100)
        assert probe_sound(source).channels == channels
        film = _film(tmp_path, segment, source)
        assert probe_video(film).sound_channels == expected

    def test_left_and_right_stay_where_they_are(self, tmp_path, segment):
        sound = tone(2.0, 44100, channels=2) * np.float32([0.2, 1.0])
        heard, _ = _heard(_film(tmp_path, segment, write_sound(tmp_path / "s.flac", sound, 44100)))
        assert np.sqrt(np.mean(heard[2000:60000] ** 2, axis=0)) * np.sqrt(2) == pytest.approx([0.1, 0.5], abs=0.01)

    def test_samples_beyond_all_bounds_are_no_obstacle(self, tmp_path, segment):
        sound = tone(2.0, 44100)
        sound[30000:30010] = 1e30
        heard, _ = _heard(_film(tmp_path, segment, write_sound(tmp_path / "s.wav", sound, 44100, "pcm_f32le")))
        assert np.abs(heard[5000:25000]).max() == pytest.approx(0.5, abs=0.02)

    def test_the_track_sounds_like_the_source(self, tmp_path, segment, media):
        heard, _ = _heard(_film(tmp_path, segment, media / "talk.wav", start=1.0))
        source = np.concatenate(list(stream_sound(media / "talk.wav", start=1.0, seconds=1.5)))
        error = heard[: len(source)] - source
        assert np.mean(error**2) < np.mean(source**2) / 100


class TestSurround:
    """5.1 to stereo as in ITU-R BS.775: front as it is, centre and surround -3 dB, scaled so as not to clip."""

    SCALE = 1 / (1 + 2 * np.sqrt(0.5))

    @pytest.mark.parametrize(
        ("channel", "left", "right"),
        [(0, 1, 0), (1, 0, 1), (2, 0.5**0.5, 0.5**0.5), (3, 0, 0), (4, 0.5**0.5, 0), (5, 0, 0.5**0.5)],
        ids=["FL", "FR", "FC", "LFE", "BL", "BR"],
    )
    def test_each_channel_goes_where_it_belongs(self, tmp_path, segment, channel, left, right):
        sound = np.zeros((88200, 6), np.float32)
        sound[:, channel] = tone(2.0, 44100)[:, 0]
        source = write_sound(tmp_path / "s.flac", sound, 44100)
        heard, _ = _heard(_film(tmp_path, segment, source))
        loudness = np.sqrt(np.mean(heard[2000:60000] ** 2, axis=0)) * np.sqrt(2)
        assert loudness == pytest.approx(0.5 * self.SCALE * np.array([left, right]), abs=0.01)

    def test_full_scale_in_all_channels_does_not_clip(self, tmp_path, segment):
        sound = tone(2.0, 44100, channels=6, amplitude=0.999)
        heard, _ = _heard(_film(tmp_path, segment, write_sound(tmp_path / "s.flac", sound, 44100)))
        assert 0.95 < np.abs(heard[2000:60000]).max() < 1.01
