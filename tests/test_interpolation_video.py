"""`soundreel interpolate`: any video smoother, its sound the same packet for packet."""

from fractions import Fraction
from itertools import pairwise
from pathlib import Path

import av
import numpy as np
import pytest

from command import files_below, run_here
from media_files import quick_sound, sound_frames, tone
from soundreel.errors import InputError, MediaError, WeightsError
from soundreel.interpolation.video import METADATA_KEY, VideoInterpolation, interpolate_video
from soundreel.media import remux
from soundreel.media.video import probe_video, read_frames
from test_interpolation_frames import pale, panning

SIZE = (96, 64)


@pytest.fixture(scope="module")
def tune(tune: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return quick_sound(tune, tmp_path_factory.mktemp("quick"))


def write_film(
    path: Path,
    codec: str | None = "aac",
    *,
    rate: Fraction | int = 16,
    times: list[float] | None = None,
    start: float = 0.0,
    size: tuple[int, int] = SIZE,
    frames: int = 24,
    metadata: dict[str, str] | None = None,
) -> Path:
    """A pan of `frames` pictures, at `times` seconds or a constant rate, with a tone in `codec` (None: silent)."""
    times = [float(k / Fraction(rate)) for k in range(frames)] if times is None else times
    options = {"movflags": "use_metadata_tags"} if path.suffix in {".mp4", ".mov"} else {}
    with av.open(str(path), "w", container_options=options) as container:
        container.metadata.update(metadata or {})
        video = container.add_stream("libx264" if path.suffix != ".webm" else "libvpx", rate=Fraction(rate))
        video.width, video.height, video.pix_fmt = *size, "yuv420p" if size[0] % 2 == 0 else "yuv444p"
        video.codec_context.time_base = Fraction(1, 90_000)
        packets = []
        pictures = pale(panning(len(times), step=2, width=size[0], height=size[1]), share=4)
        for time, picture in zip(times, pictures, strict=True):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = round((start + time) * 90_000), Fraction(1, 90_000)
            packets += video.encode(frame)
        packets += video.encode(None)
        if codec:
            sound = container.add_stream(codec, rate=48_000, options={"strict": "experimental"})
            sound.layout = "stereo"
            for frame in sound_frames(tone(times[-1] + 0.1, 48_000, channels=2), 48_000, start=start):
                packets += sound.encode(frame)
            packets += sound.encode(None)
        for packet in sorted(packets, key=lambda packet: packet.dts * packet.time_base):
            container.mux(packet)
    return path


def sound_packets(path: Path) -> list[bytes]:
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(audio=0) if packet.size]


def sound_start(path: Path) -> float:
    """Seconds from the first picture to the first packet of sound, negative where it is there to prime a decoder."""
    with av.open(str(path)) as container:
        first_picture = next(container.decode(video=0)).time
    with av.open(str(path)) as container:
        first = next(container.demux(audio=0))
        return float(first.pts * first.time_base) - first_picture


SOUNDS = [
    ("s.mp4", "aac"),
    ("s.mp4", "libmp3lame"),
    ("s.mp4", "ac3"),
    ("s.mov", "pcm_s16le"),
    ("s.mkv", "flac"),
    ("s.mkv", "libopus"),
    ("s.mkv", "libvorbis"),
    ("s.webm", "libopus"),
    ("s.ts", "aac"),
    ("s.avi", "libmp3lame"),
]


@pytest.mark.parametrize(("name", "codec"), SOUNDS, ids=lambda value: value)
def test_the_sound_is_copied_bit_for_bit(tmp_path: Path, name: str, codec: str) -> None:
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV has no {codec}")
    source = write_film(tmp_path / name, codec, rate=25 if name.endswith("avi") else 16)
    made = interpolate_video(VideoInterpolation(video=source, fps=50))
    before, after = sound_packets(source), sound_packets(made.path)
    header = 7 if name == "s.ts" else 0  # of each frame, in a transport stream alone
    assert [packet[header:] for packet in before] == after
    assert sound_start(made.path) == pytest.approx(sound_start(source), abs=0.002)
    found = probe_video(made.path)
    assert (found.fps, found.constant_rate, found.frames) == (50, True, made.frames)


@pytest.mark.parametrize("fps", [24, 25, 30, 32, 48, 60])
def test_frames_and_times_are_exact(tmp_path: Path, fps: int) -> None:
    made = interpolate_video(VideoInterpolation(video=write_film(tmp_path / "s.mp4"), fps=fps))
    with av.open(str(made.path)) as container:
        times = [frame.pts * frame.time_base for frame in container.decode(video=0)]
    assert times == [Fraction(k, fps) for k in range(round(24 * fps / 16))]


def test_a_factor_keeps_broken_rates_exact(tmp_path: Path) -> None:
    source = write_film(tmp_path / "s.mp4", rate=Fraction(24_000, 1001))
    made = interpolate_video(VideoInterpolation(video=source, factor=2))
    assert (made.frames, made.fps) == (48, Fraction(48_000, 1001))
    assert probe_video(made.path).fps == made.fps


@pytest.mark.parametrize("start", [0.5, 1.25])
def test_sound_and_picture_keep_their_distance_where_a_file_begins_late(tmp_path: Path, start: float) -> None:
    source = write_film(tmp_path / "s.mkv", "flac", start=start)
    made = interpolate_video(VideoInterpolation(video=source, fps=32))
    assert sound_start(made.path) == pytest.approx(sound_start(source), abs=0.002)


def test_silent_videos_stay_silent(tmp_path: Path) -> None:
    made = interpolate_video(VideoInterpolation(video=write_film(tmp_path / "s.mp4", None)))
    assert probe_video(made.path).sound_codec is None
    assert made.frames == 48


def test_a_variable_rate_becomes_constant_and_that_is_said(tmp_path: Path) -> None:
    times = [0, 0.05, 0.1, 0.3, 0.35, 0.4, 0.45, 0.7, 0.8, 0.9]
    made = interpolate_video(VideoInterpolation(video=write_film(tmp_path / "s.mkv", "flac", times=times), fps=30))
    assert any("variable frame rate" in note for note in made.notes)
    found = probe_video(made.path)
    assert (found.fps, found.constant_rate) == (30, True)
    assert found.seconds == pytest.approx(probe_video(tmp_path / "s.mkv").seconds, abs=1 / 30)
    shown = list(read_frames(made.path))
    source = list(read_frames(tmp_path / "s.mkv"))
    nearest = [
        int(np.argmin([np.abs(p.astype(int) - q).mean() for q in source])) for p in (shown[9], shown[21], shown[27])
    ]
    assert nearest == [3, 7, 9]


def test_metadata_and_recipe_are_kept(tmp_path: Path) -> None:
    source = write_film(tmp_path / "s.mp4", metadata={"title": "Tune", "soundreel": '{"engine": "draft"}'})
    metadata = probe_video(interpolate_video(VideoInterpolation(video=source)).path).metadata
    assert (metadata["title"], metadata["soundreel"]) == ("Tune", '{"engine": "draft"}')
    assert '"method": "motion"' in metadata[METADATA_KEY]


def test_odd_sides_are_cut_and_that_is_said(tmp_path: Path) -> None:
    made = interpolate_video(VideoInterpolation(video=write_film(tmp_path / "s.mkv", "flac", size=(97, 65))))
    found = probe_video(made.path)
    assert (found.width, found.height) == (96, 64)
    assert any("even" in note for note in made.notes)


def test_names_of_ours_replace_nothing_and_asked_for_ones_do(tmp_path: Path) -> None:
    source = write_film(tmp_path / "s.mp4")
    first, second = (interpolate_video(VideoInterpolation(video=source)).path for _ in range(2))
    assert (first.name, second.name) == ("s_32fps.mp4", "s_32fps_2.mp4")
    third = interpolate_video(VideoInterpolation(video=source, output=first, fps=24))
    assert third.path == first
    assert probe_video(first).fps == 24
    assert files_below(tmp_path) == ["s.mp4", "s_32fps.mp4", "s_32fps_2.mp4"]


def test_a_format_that_cannot_hold_the_sound_is_refused_by_name(tmp_path: Path) -> None:
    source = write_film(tmp_path / "s.avi", "pcm_u8", rate=25)
    with pytest.raises(MediaError, match=r"cannot hold the sound .*pcm_u8.*out\.mkv"):
        interpolate_video(VideoInterpolation(video=source, fps=50, output=tmp_path / "out.mp4"))
    made = interpolate_video(VideoInterpolation(video=source, fps=50))
    assert made.path.suffix == ".mkv"
    assert sound_packets(made.path) == sound_packets(source)
    assert any("stays as it is" in note for note in made.notes)


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"fps": 10}, "expected more than it has"),
        ({"fps": 16}, "expected more than it has"),
        ({"fps": 1000}, "expected 1 to 240"),
        ({"factor": 1}, "expected 2 to 16"),
        ({"factor": 2, "fps": 32}, "expected one of them"),
        ({"factor": 16}, "expected at most 240"),
        ({"crf": 60}, "expected 0"),
        ({"method": "none"}, "expected motion, rife or film"),
        ({"method": "magic"}, "no interpolation 'magic'"),
        ({"output": "x.webm"}, r"ends in \.mp4"),
    ],
)
def test_wrong_wishes_are_refused_and_leave_nothing(tmp_path: Path, wrong: dict[str, object], says: str) -> None:
    source = write_film(tmp_path / "s.mp4")
    with pytest.raises(InputError, match=says):
        interpolate_video(VideoInterpolation(video=source, **wrong))  # type: ignore[arg-type]
    assert files_below(tmp_path) == ["s.mp4"]


def test_a_single_frame_has_nothing_between(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="single frame"):
        interpolate_video(VideoInterpolation(video=write_film(tmp_path / "s.mp4", None, frames=1)))


def test_missing_weights_are_not_replaced_by_another_method(tmp_path: Path) -> None:
    source = write_film(tmp_path / "s.mp4")
    with pytest.raises(WeightsError, match="models download film"):
        interpolate_video(VideoInterpolation(video=source, method="film", models=tmp_path))
    assert files_below(tmp_path) == ["s.mp4"]


def test_a_lost_packet_of_sound_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write_film(tmp_path / "s.mp4")
    copy = remux._sound_packets

    def lossy(*arguments: object) -> object:
        return (timed for k, timed in enumerate(copy(*arguments)) if k != 20)  # type: ignore[arg-type]

    monkeypatch.setattr(remux, "_sound_packets", lossy)
    with pytest.raises(MediaError, match="expected the sound of the source"):
        interpolate_video(VideoInterpolation(video=source))
    assert files_below(tmp_path) == ["s.mp4"]


def test_the_command_prints_the_path_and_tells_the_rest(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write_film(tmp_path / "s.mp4")
    done = run_here(capsys, "interpolate", source, "--fps", "32", "--method", "motion", "-o", tmp_path / "out.mp4")
    assert (done.code, done.path) == (0, tmp_path / "out.mp4")
    assert "24 frames at 16 fps → 48 at 32 fps by motion" in done.err
    shown = list(read_frames(done.path))
    assert all(np.abs(one.astype(int) - other).mean() > 0.5 for one, other in pairwise(shown[:47]))


def test_a_render_is_made_at_the_rate_asked_for(tmp_path: Path, tune: Path, capsys: pytest.CaptureFixture[str]) -> None:
    size = ("--width", "64", "--height", "64", "--infer-frames", "8", "--frames", "20", "--engine", "draft")
    for rate, words in ((24, ["--interpolate", "motion"]), (60, [])):
        done = run_here(capsys, tune, *size, "--fps", str(rate), *words, "-o", tmp_path / f"{rate}.mp4")
        assert done.code == 0, done.err
        assert ("without --interpolate" in done.err) == (not words)
        found = probe_video(done.path)
        assert (found.frames, found.fps, found.constant_rate) == (20 * rate // 16, rate, True)
        assert found.sound_seconds == pytest.approx(20 / 16, abs=1024 / 16_000)
    assert run_here(capsys, tune, *size, "--fps", "8").code == 2


def test_clips_of_a_render_join_without_a_seam(tmp_path: Path, tune: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The clips' own frames are shown at their times, and what is between two clips is between their pictures."""
    words = ["--width", "64", "--height", "64", "--frames", "20", "--engine", "draft", "--crf", "0"]
    plain = run_here(capsys, tune, *words, "--infer-frames", "8", "-o", tmp_path / "plain.mp4")
    double = run_here(
        capsys, tune, *words, "--infer-frames", "8", "--interpolate", "motion", "-o", tmp_path / "double.mp4"
    )
    frames, doubled = list(read_frames(plain.path)), list(read_frames(double.path))
    assert len(doubled) == 40
    assert all(np.array_equal(one, other) for one, other in zip(frames, doubled[::2], strict=True))


@pytest.mark.parametrize("fps", [24, 32])
def test_a_cut_of_a_render_is_sharp_and_where_it_was_asked_for(
    tmp_path: Path, tune: Path, capsys: pytest.CaptureFixture[str], fps: int
) -> None:
    """Frame 7 is held to the cut at frame 8, which is shown at its time; the length does not change."""
    words = ["--width", "64", "--height", "64", "--frames", "20", "--engine", "draft", "--crf", "0", "--cut", "0.5"]
    plain = run_here(capsys, tune, *words, "-o", tmp_path / "plain.mp4")
    rated = run_here(capsys, tune, *words, "--interpolate", "motion", "--fps", str(fps), "-o", tmp_path / "rated.mp4")
    frames, shown = list(read_frames(plain.path)), list(read_frames(rated.path))
    assert len(shown) == 20 * fps // 16
    times = [Fraction(position * 16, fps) for position in range(len(shown))]
    held = [position for position, time in enumerate(times) if 7 <= time < 8]
    assert len(held) == fps // 16
    assert all(np.array_equal(shown[position], frames[7]) for position in held)
    whole = [position for position, time in enumerate(times) if time.denominator == 1]
    assert all(np.array_equal(shown[position], frames[int(times[position])]) for position in whole)
