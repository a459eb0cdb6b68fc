"""Sound from any file is what a player plays of it, from any moment on."""

import os
import random
import resource
import shutil
import socket
import time
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import librosa
import numpy as np
import pytest
import soundfile
import soxr

from media_files import (
    NO_MP3_HEADER,
    VARIABLE_BIT_RATE,
    Samples,
    click_train,
    sweep,
    tone,
    write_sound,
    write_video,
)
from soundreel.errors import InputError, MediaError
from soundreel.media import sound_file
from soundreel.media.audio import SoundLevels, measure_levels, probe_sound, read_model_sound, stream_sound
from soundreel.media.sound_file import SoundFile
from soundreel.media.windows_media import WindowsMedia

SECONDS = 4.0
TOLERANCE = 1e-4

MP3_DELAY = 1105
AAC_DELAY = 1024
AC3_DELAY = 256
"""Samples of encoder delay that players play too, where the file does not say that it is there (docs/sound.md)."""


@dataclass(frozen=True)
class Format:
    """A kind of file."""

    name: str
    rate: int = 44_100
    channels: int = 2
    codec: str | None = None  # None: the usual one
    delay: int | None = 0  # of the first sample, in samples
    is_exact: bool = True  # whether it plays exactly as long as what went in
    options: dict[str, Any] = field(default_factory=dict)

    def write(self, folder: Path, sound: Samples) -> Path:
        is_video = self.name.startswith("video")
        write = write_video if is_video else write_sound
        return write(folder / self.name, sound, self.rate, self.codec, **self.options)

    def __str__(self) -> str:
        return f"{self.codec or ''} {self.name} {self.rate} {self.channels}ch".strip()


LOSSLESS = [
    Format("sound.wav"),
    Format("sound.wav", 37_800, 1),
    Format("sound.wav", 48_000, 6),
    Format("sound.wav", 11_025, 1, "pcm_u8"),
    Format("sound.wav", 96_000, 2, "pcm_s24le"),
    Format("sound.wav", 22_050, 2, "pcm_s32le"),
    Format("sound.wav", 44_100, 2, "pcm_f32le"),
    Format("sound.wav", 44_100, 2, "pcm_f64le"),
    Format("sound.flac"),
    Format("sound.flac", 48_000, 6),
    Format("sound.ogg", codec="flac"),
    Format("sound.mka", codec="flac"),
    Format("sound.mka", codec="pcm_s16le"),
    Format("sound.m4a", codec="alac"),
    Format("sound.aiff"),
    Format("sound.caf"),
]
LOSSY = [
    Format("sound.mp3"),
    Format("sound.mp3", 11_025, 1),
    Format("sound.mp3", 48_000, options={"encoder_options": VARIABLE_BIT_RATE}),
    Format("sound.mp3", 44_100, options={"cover": True}),
    Format(
        "bare.mp3",
        delay=MP3_DELAY,
        is_exact=False,
        options={"encoder_options": VARIABLE_BIT_RATE, "container_options": NO_MP3_HEADER},
    ),
    Format("sound.m4a"),
    Format("sound.m4a", 96_000),
    Format("sound.m4a", 48_000, 6),
    Format("fragments.m4a", delay=AAC_DELAY, is_exact=False, options={"container_options": {"movflags": "empty_moov"}}),
    Format("sound.aac", delay=AAC_DELAY, is_exact=False),
    Format("sound.aac", 22_050, 1, delay=AAC_DELAY, is_exact=False),
    Format("sound.ogg", is_exact=False),
    Format("sound.ogg", 48_000, 1),
    Format("sound.ogg", 48_000, codec="libopus"),
    Format("sound.opus", 48_000),
    Format("sound.opus", 48_000, 6),
    Format("sound.wma", is_exact=False),
    Format("sound.wma", 48_000, is_exact=False),
    Format("sound.wma", 32_000, 1, "wmav1", is_exact=False),
    Format("video.wmv", is_exact=False),
    Format("sound.mka", 48_000, codec="aac", is_exact=False),
    Format("sound.mka", codec="vorbis", is_exact=False),
    Format("sound.webm", 48_000),
    Format("live.webm", 48_000, options={"container_options": {"live": "1"}}),
    Format("sound.ac3", delay=AC3_DELAY, is_exact=False),
    Format("sound.wav", codec="adpcm_ima_wav", is_exact=False),
    Format("video.mp4"),
    Format("video.mov", 48_000),
    Format("video.mkv", 48_000, is_exact=False),
    Format("video.mkv", codec="libmp3lame", is_exact=False),
    Format("video.avi", delay=MP3_DELAY, is_exact=False),
    Format("video.ts", delay=AAC_DELAY, is_exact=False),
]
FORMATS = LOSSLESS + LOSSY


def read(path: Path, **window: Any) -> Samples:
    """The whole window, [samples, channels]."""
    blocks = list(stream_sound(path, **window))
    return np.concatenate(blocks) if blocks else np.empty((0, probe_sound(path).channels), np.float32)


def loudest(sound: Samples, rate: int, *, near: float) -> float:
    """Where, in seconds, the loudest sample within 20 ms of a moment is."""
    first = round((near - 0.02) * rate)
    return (first + int(np.abs(sound[first : round((near + 0.02) * rate), 0]).argmax())) / rate


@pytest.fixture(scope="module", params=FORMATS, ids=str)
def clicks(request, tmp_path_factory) -> tuple[Format, Path]:
    """A click every 0.5 s from 0.25 s on, in every format."""
    kind = request.param
    sound = click_train(SECONDS, kind.rate, channels=kind.channels)
    return kind, kind.write(tmp_path_factory.mktemp("clicks"), sound)


@pytest.fixture(scope="module", params=FORMATS, ids=str)
def swept(request, tmp_path_factory) -> tuple[Format, Path, Samples]:
    """A sound of which no two stretches are alike, in every format, and all that it plays."""
    kind = request.param
    sound = sweep(SECONDS, kind.rate, channels=kind.channels)
    path = kind.write(tmp_path_factory.mktemp("sweep"), sound)
    return kind, path, read(path)


@pytest.fixture(scope="module")
def hour(tmp_path_factory) -> tuple[Path, Path]:
    """An mp3 of 20 s and one of more than an hour that repeats it: variable bit rate, no header, no index."""
    folder = tmp_path_factory.mktemp("hour")
    options = {"encoder_options": VARIABLE_BIT_RATE, "container_options": NO_MP3_HEADER}
    piece = write_sound(folder / "piece.mp3", sweep(20.0, 44_100), 44_100, **options)
    (folder / "hour.mp3").write_bytes(piece.read_bytes() * 181)
    return piece, folder / "hour.mp3"


class TestEveryFormat:
    def test_clicks_are_heard_when_a_player_plays_them(self, clicks):
        kind, path = clicks
        sound = read(path)
        for time_ in (0.25, 1.75, 3.75):
            assert loudest(sound, kind.rate, near=time_ + kind.delay / kind.rate) == pytest.approx(
                time_ + kind.delay / kind.rate, abs=0.001
            )

    def test_a_window_is_a_slice_of_the_whole(self, swept):
        kind, path, whole = swept
        for start, seconds in [(0.0, 0.5), (0.017, 1.0), (1.3, 2.1), (2.71, 0.25), (3.0, None), (3.77, 5.0)]:
            first = int(start * kind.rate)
            count = len(whole) if seconds is None else int(seconds * kind.rate)
            window = read(path, start=start, seconds=seconds)
            np.testing.assert_allclose(window, whole[first : first + count], atol=TOLERANCE)

    def test_the_probe_tells_what_is_there(self, swept):
        kind, path, whole = swept
        info = probe_sound(path)
        assert (info.sample_rate, info.channels, info.truncated) == (kind.rate, kind.channels, False)
        assert info.seconds == len(whole) / kind.rate
        assert info.seconds == pytest.approx(SECONDS, abs=0 if kind.is_exact else 0.1)

    def test_the_model_hears_the_window_resampled(self, swept):
        _, path, _ = swept
        window = read(path, start=1.3, seconds=2.1)
        info = probe_sound(path)
        expected = librosa.resample(window.mean(axis=1), orig_sr=info.sample_rate, target_sr=16_000)
        heard = read_model_sound(path, start=1.3, seconds=2.1)
        assert heard.dtype == np.float32
        np.testing.assert_allclose(heard, expected, atol=TOLERANCE)

    @pytest.mark.parametrize("kind", [kind for kind in LOSSY if kind.codec in (None, "aac", "vorbis")], ids=str)
    def test_late_windows_too_are_where_a_player_plays_them(self, tmp_path, monkeypatch, kind):
        monkeypatch.setattr(sound_file, "HISTORY_SECONDS", 0.0)
        path = kind.write(tmp_path, click_train(SECONDS, kind.rate, channels=kind.channels))
        time_ = 2.75 + kind.delay / kind.rate
        assert loudest(read(path, start=2.5), kind.rate, near=time_ - 2.5) == pytest.approx(time_ - 2.5, abs=0.001)


class TestValues:
    @pytest.mark.parametrize("kind", LOSSLESS, ids=str)
    def test_lossless_formats_give_back_what_went_in(self, tmp_path, kind):
        sound = sweep(1.0, kind.rate, channels=kind.channels)
        step = 2 / 256 if kind.codec == "pcm_u8" else 2 / 65_536
        np.testing.assert_allclose(read(kind.write(tmp_path, sound)), sound, atol=step)

    @pytest.mark.parametrize(
        ("codec", "step"), [("pcm_u8", 2**-7), ("pcm_s16le", 2**-15), ("pcm_s24le", 2**-23), ("pcm_s32le", 2**-31)]
    )
    def test_full_scale_is_one(self, tmp_path, codec, step):
        square = np.repeat([-1.0, 1.0, 0.0], 100).astype(np.float32)[:, None]
        heard = read(write_sound(tmp_path / "square.wav", square, 8_000, codec))
        assert (heard.min(), heard[250]) == (-1.0, 0.0)
        assert heard.max() == pytest.approx(1.0 - step, abs=1e-7)

    @pytest.mark.parametrize(("codec", "kind"), [("pcm_f32le", np.float32), ("pcm_f64le", np.float64)])
    def test_float_sound_keeps_its_peaks_and_loses_what_is_no_sound(self, tmp_path, codec, kind):
        most = np.finfo(kind).max
        sound = np.array([0.5, 1.7, np.nan, np.inf, -np.inf, -2.0, most, -most, 1e10, -(2.0**31), 1e-40, 0.25] * 100)
        path = tmp_path / "loud.wav"
        soundfile.write(path, sound.astype(kind), 8_000, "FLOAT" if kind is np.float32 else "DOUBLE")
        assert codec == probe_sound(path).codec
        expected = np.array([0.5, 1.7, 0, 0, 0, -2, 0, 0, 0, -(2.0**31), 1e-40, 0.25] * 100, np.float32)
        np.testing.assert_array_equal(read(path)[:, 0], expected)
        assert measure_levels(path, start=0.0, seconds=0.15) == SoundLevels(peak=2.0**31, lost=600)

    def test_levels_are_those_of_the_window(self, tmp_path):
        sound = tone(1.0, 8_000, channels=2)
        sound[4_000], sound[6_000, 1] = np.nan, 3.0
        path = write_sound(tmp_path / "loud.wav", sound, 8_000, "pcm_f32le")
        assert measure_levels(path, start=0.0, seconds=0.5) == SoundLevels(peak=1.0, lost=0)
        assert measure_levels(path, start=0.5, seconds=0.25) == SoundLevels(peak=1.0, lost=2)
        assert measure_levels(path, start=0.5, seconds=9.0) == SoundLevels(peak=3.0, lost=2)

    def test_silence_is_silent(self, tmp_path):
        path = write_sound(tmp_path / "silence.mp3", np.zeros((44_100, 2), np.float32), 44_100)
        assert probe_sound(path).seconds == 1.0
        assert not read(path).any()


LIBROSA_READS = [*LOSSLESS[:10], LOSSLESS[-1], *LOSSY[:4], Format("sound.ogg"), Format("sound.opus", 48_000)]


@pytest.mark.filterwarnings("ignore:.* is deprecated and slated for removal:DeprecationWarning:audioread")
class TestLibrosa:
    @pytest.mark.parametrize("kind", LIBROSA_READS, ids=str)
    def test_the_model_hears_what_librosa_loads(self, tmp_path, kind):
        path = kind.write(tmp_path, sweep(2.3, kind.rate, channels=kind.channels))
        for start, seconds in [(0.0, None), (1.3, 0.7), (0.7, None), (0.0, 0.3333)]:
            expected, _ = librosa.load(path, sr=16_000, offset=start, duration=seconds)
            np.testing.assert_allclose(read_model_sound(path, start=start, seconds=seconds), expected, atol=TOLERANCE)

    @pytest.mark.parametrize("name", ["talk.wav", "zero_shot_prompt.wav", "sing.MP3", "Five Hundred Miles.MP3"])
    def test_real_speech_and_song(self, media, name):
        expected, _ = librosa.load(media / name, sr=16_000)
        np.testing.assert_allclose(read_model_sound(media / name), expected, atol=TOLERANCE)

    @pytest.mark.parametrize("rate", [8_000, 11_025, 16_000, 22_050, 37_800, 44_100, 96_000])
    def test_m_samples_become_their_share_rounded_up(self, tmp_path, rate):
        for count in (1, 2, 999, 7_654):
            path = write_sound(tmp_path / "short.wav", tone(1.0, rate)[:count], rate)
            assert probe_sound(path).seconds == count / rate
            assert len(read_model_sound(path)) == -(-count * 16_000 // rate)


class TestBlocks:
    def test_all_blocks_but_the_last_have_the_asked_length(self, tmp_path):
        path = write_sound(tmp_path / "sound.flac", sweep(3.21, 44_100, channels=2), 44_100)
        blocks = list(stream_sound(path, block_seconds=0.25))
        assert {block.shape for block in blocks[:-1]} == {(11_025, 2)}
        assert 0 < len(blocks[-1]) <= 11_025
        assert {block.dtype for block in blocks} == {np.dtype(np.float32)}

    def test_rate_and_channels_change_on_request(self, tmp_path):
        sound = sweep(3.0, 44_100, channels=2)
        path = write_sound(tmp_path / "sound.wav", sound, 44_100, "pcm_f32le")
        heard = read(path, sample_rate=48_000)
        np.testing.assert_allclose(heard, soxr.resample(sound, 44_100, 48_000, "HQ"), atol=TOLERANCE)
        mono = read(path, mono=True, block_seconds=0.1)
        np.testing.assert_allclose(mono, sound.mean(axis=1, keepdims=True), atol=1e-6)

    def test_a_window_behind_the_end_is_empty(self, tmp_path):
        path = write_sound(tmp_path / "sound.m4a", tone(1.0, 44_100), 44_100)
        assert list(stream_sound(path, start=1.5)) == []
        assert list(stream_sound(path, start=1e30)) == []
        assert read_model_sound(path, start=2.0, seconds=1.0).shape == (0,)
        assert len(read(path, start=0.75, seconds=1e9)) == 11_025

    @pytest.mark.parametrize("window", [{"start": -1.0}, {"start": float("nan")}, {"seconds": float("nan")}])
    def test_a_window_that_makes_no_sense_is_refused(self, tmp_path, window):
        path = write_sound(tmp_path / "sound.wav", tone(1.0, 8_000), 8_000)
        with pytest.raises(InputError, match="expected a number of seconds from 0 on"):
            read_model_sound(path, **window)


class TestTimeLine:
    @pytest.mark.parametrize("suffix", ["mp4", "mov", "mkv", "ts"])
    def test_sound_that_sets_in_late_in_a_video_has_silence_before_it(self, tmp_path, suffix):
        path = write_video(tmp_path / f"late.{suffix}", click_train(3.0, 48_000), 48_000, sound_start=0.75)
        sound = read(path)
        assert not sound[: round(0.70 * 48_000)].any()
        for time_ in (1.0, 2.5, 3.5):
            assert loudest(sound, 48_000, near=time_) == pytest.approx(time_, abs=0.001)
        np.testing.assert_allclose(read(path, start=2.2, seconds=0.5), sound[105_600:129_600], atol=TOLERANCE)

    @pytest.mark.parametrize("suffix", ["mp4", "mkv"])
    def test_a_video_whose_picture_sets_in_late_begins_with_its_sound(self, tmp_path, suffix):
        path = write_video(tmp_path / f"late.{suffix}", click_train(3.0, 48_000), 48_000, picture_start=1.0)
        assert loudest(read(path), 48_000, near=0.25) == pytest.approx(0.25, abs=0.001)

    @pytest.mark.parametrize("suffix", ["mp4", "mkv"])
    def test_a_gap_in_the_timestamps_is_silence(self, tmp_path, suffix):
        path = write_video(tmp_path / f"gap.{suffix}", click_train(4.0, 48_000), 48_000, gap=(2.0, 1.5))
        sound = read(path)
        for time_ in (1.75, 2.25 + 1.5, 3.75 + 1.5):
            assert loudest(sound, 48_000, near=time_) == pytest.approx(time_, abs=0.001)
        assert not sound[round(2.1 * 48_000) : round(3.4 * 48_000)].any()
        np.testing.assert_allclose(read(path, start=3.0, seconds=1.0), sound[144_000:192_000], atol=TOLERANCE)
        assert not read(path, start=2.5, seconds=0.5).any()
        assert probe_sound(path).seconds == pytest.approx(len(sound) / 48_000, abs=0.001)

    @pytest.mark.parametrize("default", [0, 1])
    def test_of_several_sounds_the_default_is_read(self, tmp_path, default):
        low, high = tone(1.0, 48_000, hertz=200.0), tone(1.0, 48_000, hertz=2_000.0)
        path = write_video(tmp_path / "two.mkv", low, 48_000, second_sound=high, default=default)
        peak_hertz = np.abs(np.fft.rfft(read(path)[:48_000, 0])).argmax()
        assert peak_hertz == pytest.approx([200, 2_000][default], abs=2)

    def test_the_sound_goes_on_where_two_files_were_joined(self, tmp_path):
        parts = [
            write_sound(tmp_path / f"{seed}.ogg", sweep(3.0, 48_000, channels=2, seed=seed), 48_000) for seed in (1, 2)
        ]
        joined = tmp_path / "joined.ogg"
        joined.write_bytes(b"".join(part.read_bytes() for part in parts))
        whole = read(joined)
        assert probe_sound(joined).seconds == len(whole) / 48_000 == pytest.approx(6.0, abs=0.05)
        np.testing.assert_allclose(read(joined, start=4.0), whole[4 * 48_000 :], atol=TOLERANCE)
        assert np.abs(whole[-48_000:]).mean() > 0.1


class TestWindowsMedia:
    FRAME = 2048

    def test_nothing_is_lost_of_the_first_frame(self, tmp_path):
        """FFmpeg's decoder drops two frames, its encoder delays by one only."""
        sound = click_train(2.0, 44_100, first=0.01)
        heard = read(write_sound(tmp_path / "sound.wma", sound, 44_100))
        assert loudest(heard, 44_100, near=0.02) == pytest.approx(0.01, abs=0.001)

    @pytest.mark.parametrize(
        ("codec", "ours", "theirs"),
        [("wmav1", "0400 0000 0100", "0400 0008 0100"), ("wmav2", "0a00 00000000 0100", "0a00 00880000 0100")],
    )
    def test_files_of_microsofts_encoder_begin_two_frames_later(self, tmp_path, codec, ours, theirs):
        """Their header holds the samples of a block, and the sound sets in after two frames of zeros."""
        sound = np.concatenate([np.zeros((self.FRAME, 2), np.float32), click_train(SECONDS, 44_100, channels=2)])
        path = write_sound(tmp_path / "sound.wma", sound, 44_100, codec)
        data = path.read_bytes()
        assert data.count(bytes.fromhex(ours)) == 1
        path.write_bytes(data.replace(bytes.fromhex(ours), bytes.fromhex(theirs)))
        heard = read(path)
        for time_ in (0.25, 1.75, 3.75):
            assert loudest(heard, 44_100, near=time_) == pytest.approx(time_, abs=0.001)

    def test_packets_that_share_frames_are_timed_by_their_count(self):
        """Numbers of a file by Microsoft's encoder at 48 kHz, 43 ms off; then one packet is missing."""
        media = WindowsMedia(frame_samples=self.FRAME, delay=2 * self.FRAME, has_reservoir=True)
        times, counts = [0, 298, 640, 982, 1665], [9, 8, 8, 8, 8]
        packets = [
            _packet(time, bytes([index << 4 | count]))
            for index, (time, count) in enumerate(zip(times, counts, strict=True))
        ]
        assert [packet.pts for packet in media.retimed(iter(packets), 48_000)] == [0, 341, 683, 1024, 1665]

    def test_decoders_that_tell_no_times_are_counted_from_the_beginning(self, tmp_path, monkeypatch):
        """As FFmpeg's of WMA Pro and WMA Lossless, for which it has no encoders."""
        path = write_sound(tmp_path / "sound.mka", sweep(9.0, 44_100), 44_100)
        whole, decode = read(path), SoundFile._decode

        def untimed(self: SoundFile, packets: Any) -> Any:
            for frame in decode(self, packets):
                if frame is not None:
                    frame.pts = None
                yield frame

        monkeypatch.setattr(SoundFile, "_decode", untimed)
        assert probe_sound(path).seconds == 9.0
        np.testing.assert_array_equal(read(path, start=6.0), whole[6 * 44_100 :])


def _packet(milliseconds: int, data: bytes) -> av.Packet:
    packet = av.Packet(data)
    packet.pts, packet.time_base = milliseconds, Fraction(1, 1000)
    return packet


class TestLongFiles:
    def test_a_window_deep_in_an_hour_of_mp3_is_exact(self, hour):
        piece, path = hour
        count = round(probe_sound(piece).seconds * 44_100)
        first = 150 * count + 5 * 44_100
        window = read(path, start=(first + 0.5) / 44_100, seconds=5.0)
        assert first > 3000 * 44_100
        np.testing.assert_allclose(window, read(piece, start=5.0, seconds=5.0), atol=TOLERANCE)

    def test_it_takes_neither_time_nor_memory(self, hour):
        _, path = hour
        read_model_sound(path, seconds=1.0)
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started = time.process_time()
        heard = read_model_sound(path, start=3000.0, seconds=5.0)
        assert time.process_time() - started < 2.0
        assert len(heard) == 80_000
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory < 32_000  # KiB; decoded it is 635 MB

    def test_its_length_is_measured(self, hour):
        piece, path = hour
        assert probe_sound(path).seconds == pytest.approx(181 * probe_sound(piece).seconds, abs=1e-6)


CUT = [
    Format("sound.mp3"),
    Format("bare.mp3", options={"encoder_options": VARIABLE_BIT_RATE, "container_options": NO_MP3_HEADER}),
    Format("sound.aac"),
    Format("sound.m4a", options={"container_options": {"movflags": "faststart"}}),
    Format("sound.wav"),
    Format("sound.flac"),
    Format("sound.ogg"),
    Format("sound.opus", 48_000),
    Format("sound.wma"),
    Format("sound.mka"),
    Format("video.mkv"),
    Format("sound.aiff"),
]


RESISTANT = [
    Format("sound.mp3"),
    Format("sound.m4a"),
    Format("sound.flac"),
    Format("sound.ogg"),
    Format("sound.opus", 48_000),
    Format("sound.wma"),
    Format("sound.wav"),
    Format("video.ts"),
]


class TestDamage:
    @pytest.mark.parametrize("kind", CUT, ids=str)
    def test_of_a_file_that_was_cut_off_all_there_is_is_read(self, tmp_path, kind):
        path = kind.write(tmp_path, sweep(8.0, kind.rate, channels=2))
        whole = read(path)
        path.write_bytes(path.read_bytes()[: int(path.stat().st_size * 0.7) + 7])
        info, rest = probe_sound(path), read(path)
        assert info.truncated
        assert info.seconds == len(rest) / kind.rate
        assert 4.5 < info.seconds < 6.0
        intact = 4 * kind.rate
        np.testing.assert_allclose(rest[:intact], whole[:intact], atol=TOLERANCE)
        np.testing.assert_allclose(read(path, start=3.0, seconds=1.0), rest[3 * kind.rate : intact], atol=TOLERANCE)

    @pytest.mark.parametrize("kind", RESISTANT, ids=str)
    @pytest.mark.parametrize("fill", ["zeros", "noise"])
    def test_behind_a_damaged_stretch_nothing_is_late_or_early(self, tmp_path, kind, fill):
        sound = click_train(8.0, kind.rate, channels=2) + tone(8.0, kind.rate, channels=2, amplitude=0.05)
        path = kind.write(tmp_path, sound)
        times = (5.75, 6.75, 7.75)
        before = [loudest(read(path), kind.rate, near=time_) for time_ in times]
        data = bytearray(path.read_bytes())
        start = round(len(data) * 0.3)
        data[start : start + 3_000] = bytes(3_000) if fill == "zeros" else random.Random(0).randbytes(3_000)
        path.write_bytes(data)
        after = [loudest(read(path), kind.rate, near=time_) for time_ in times]
        assert after == pytest.approx(before, abs=0.001)

    def test_tags_behind_an_mp3_are_not_missing_sound(self, tmp_path):
        path = write_sound(tmp_path / "tagged.mp3", tone(1.0, 44_100), 44_100)
        path.write_bytes(path.read_bytes() + b"TAG" + b"a song".ljust(125) + b"and more")
        info = probe_sound(path)
        assert info.seconds == pytest.approx(1.0, abs=0.03)
        assert not info.truncated


UNREADABLE = {
    "text.mp3": b"This is a text, and it only says that it is sound.\n" * 100,
    "noise.mp3": random.Random(0).randbytes(100_000),
    "zeros.wav": bytes(10_000),
    "header.wav": b"RIFF\x24\x00\x00\x00WAVEfmt ",
    "playlist.m3u8": b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsound.wav\n#EXT-X-ENDLIST\n",
    "playlist.mp3": b"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsound.wav\n#EXT-X-ENDLIST\n",
    "script.mp3": b"ffconcat version 1.0\nfile sound.wav\n",
    "session.sdp": b"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=audio 49170 RTP/AVP 0\n",
}


class TestFilesThatCannotBeRead:
    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("missing.mp3", "no such sound"),
            ("folder.mp3", "is a directory: expected a sound file"),
            ("empty.mp3", "is an empty file"),
            ("x" * 300 + ".mp3", "cannot open sound .*: File name too long"),
            ("nul\0byte.mp3", "cannot open sound"),
            ("pipe.mp3", "is a pipe or device"),
        ],
    )
    def test_what_cannot_be_opened_is_wrong_input(self, tmp_path, monkeypatch, name, message):
        monkeypatch.chdir(tmp_path)
        Path("folder.mp3").mkdir()
        Path("empty.mp3").touch()
        os.mkfifo("pipe.mp3")
        for reader in (probe_sound, read_model_sound, read):
            with pytest.raises(InputError, match=message):
                reader(name)

    @pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
    def test_a_file_that_may_not_be_read_is_wrong_input(self, tmp_path):
        path = write_sound(tmp_path / "secret.wav", tone(0.1, 8_000), 8_000)
        path.chmod(0)
        with pytest.raises(InputError, match="Permission denied"):
            probe_sound(path)

    @pytest.mark.parametrize("name", UNREADABLE)
    def test_what_is_no_sound_is_unreadable_media(self, tmp_path, name, capfd):
        write_sound(tmp_path / "sound.wav", tone(1.0, 8_000), 8_000)
        (tmp_path / name).write_bytes(UNREADABLE[name])
        for reader in (probe_sound, read_model_sound, read):
            with pytest.raises(MediaError, match=name) as error:
                reader(tmp_path / name)
            assert "\n" not in str(error.value)
        assert capfd.readouterr() == ("", "")

    def test_a_picture_and_a_video_without_sound_hold_no_sound(self, tmp_path, media):
        shutil.copy(media / "i2v_input.JPG", tmp_path / "picture.mp3")
        for path in (tmp_path / "picture.mp3", media / "pose.png", media / "bikes.mp4"):
            with pytest.raises(MediaError, match="holds no sound"):
                probe_sound(path)


class TestNames:
    @pytest.mark.parametrize(
        "name",
        [
            "with space 'quotes' \"double\" é🎵.wav",
            "-leading-dash.wav",
            "--help",
            "-",
            "img%03d.wav",
            "*.wav",
            "new\nline.wav",
            "C:sound.wav",
            "concat:a.wav|b.wav",
            "http:",
            "pipe:0",
            "data:,x.wav",
            "x" * 251 + ".wav",
        ],
    )
    def test_every_name_is_the_name_of_a_file(self, tmp_path, monkeypatch, name):
        monkeypatch.chdir(tmp_path)
        Path("plain.wav").write_bytes(write_sound(tmp_path / "s.wav", tone(1.0, 8_000), 8_000).read_bytes())
        Path("plain.wav").rename(name)
        assert probe_sound(name).seconds == 1.0
        assert len(read_model_sound(name)) == 16_000

    @pytest.mark.parametrize("protocol", ["http", "tcp", "rtmp"])
    def test_no_name_leads_to_a_network(self, protocol):
        with socket.create_server(("127.0.0.1", 0)) as server:
            server.setblocking(False)
            with pytest.raises(InputError, match="is an address, and only files are read"):
                probe_sound(f"{protocol}://127.0.0.1:{server.getsockname()[1]}/sound.mp3")
            with pytest.raises(BlockingIOError):  # or a connection would be waiting by now
                server.accept()
