"""Pictures into H.264 files and back, segments joined, finished files verified. Every file here is a real one."""

import errno
import json
import os
import resource
import struct
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.video.reformatter import Colorspace

from media_files import tone, write_sound
from soundreel.errors import InputError, MediaError
from soundreel.media.mux import SoundTrack, assemble, verify
from soundreel.media.video import (
    SegmentWriter,
    check_size,
    probe_video,
    read_frames,
    read_swscale_frames,
    scan_packets,
)
from soundreel.units import Frames

HEIGHT, WIDTH = 48, 64

BT709 = 1
"""AVCOL_SPC_BT709, AVCOL_PRI_BT709, AVCOL_TRC_BT709."""
UNTAGGED = 2
LIMITED = 1
"""AVCOL_RANGE_MPEG."""


linux_only = pytest.mark.skipif(sys.platform != "linux", reason="uses /dev/full, /proc or Linux's limits")


def moving_picture(count: int, *, height: int = HEIGHT, width: int = WIDTH, seed: int = 0) -> Frames:
    """A coloured texture that drifts and flickers: no two frames are alike. uint8 [T, H, W, 3]"""
    rng = np.random.default_rng(seed)
    texture = np.kron(rng.integers(0, 256, (height // 8, width // 8, 3)), np.ones((8, 8, 1)))
    drift = np.stack([np.roll(texture, 3 * index, axis=1) for index in range(count)])
    return np.clip(drift + rng.normal(0, 8, drift.shape), 0, 255).astype(np.uint8)


def write_segment(path: Path, frames: Frames, **options: int) -> Path:
    with SegmentWriter(path, width=frames.shape[2], height=frames.shape[1], **options) as writer:
        writer.write(frames)
    return path


def write_film(path: Path, count: int = 20, *, fps: int = 16, sound_seconds: float | None = None) -> Path:
    """A finished video with a tone as its sound; `sound_seconds` 0 leaves it out."""
    segment = write_segment(path.with_suffix(".segment"), moving_picture(count), fps=fps)
    sound = None
    if sound_seconds != 0:
        source = write_sound(path.with_suffix(".wav"), tone(sound_seconds or count / fps, 16000), 16000)
        sound = SoundTrack(path=source, start=0, seconds=count / fps)
    assemble([segment], path, fps=fps, sound=sound, metadata={})
    return path


def decode(path: Path) -> Frames:
    return np.stack(list(read_frames(path)))


def packets(path: Path) -> "list[av.Packet]":
    with av.open(str(path)) as container:
        return [packet for packet in container.demux(video=0) if packet.size]


class TestSizes:
    @pytest.mark.parametrize(("width", "height"), [(2, 2), (480, 832), (16384, 16384)])
    def test_even_sizes_pass(self, width, height):
        check_size(width, height)

    @pytest.mark.parametrize(
        ("width", "height", "nearest"),
        [
            (481, 832, "480×832 or 482×832"),
            (480, 831, "480×830 or 480×832"),
            (3, 5, "2×4 or 2×6 or 4×4 or 4×6"),
            (0, 16, "2×16"),
            (-4, 16, "2×16"),
            (16386, 16, "16384×16"),
        ],
    )
    def test_others_are_refused_with_the_nearest_valid_ones(self, width, height, nearest):
        with pytest.raises(InputError, match=f"{width}×{height} pixels.*nearest: {nearest}$"):
            check_size(width, height)

    def test_the_writer_checks_before_it_creates_a_file(self, tmp_path):
        with pytest.raises(InputError, match="nearest"):
            SegmentWriter(tmp_path / "odd.mp4", width=63, height=48)
        assert not list(tmp_path.iterdir())


class TestSegments:
    @pytest.mark.parametrize("count", [1, 2, 3, 40])
    @pytest.mark.parametrize("fps", [16, 32])
    def test_frame_i_is_shown_at_i_over_fps(self, tmp_path, count, fps):
        path = write_segment(tmp_path / "s.mp4", moving_picture(count), fps=fps)
        shown = sorted(packet.pts * packet.time_base for packet in packets(path))
        assert shown == [Fraction(index, fps) for index in range(count)]
        video = probe_video(path)
        assert (video.frames, video.fps, video.seconds) == (count, fps, count / fps)
        assert (video.width, video.height, video.codec) == (WIDTH, HEIGHT, "h264")
        assert video.constant_rate

    def test_pictures_are_420_tagged_bt709_in_limited_range(self, tmp_path):
        with av.open(str(write_segment(tmp_path / "s.mp4", moving_picture(3)))) as container:
            context = container.streams.video[0].codec_context
            assert context.pix_fmt == "yuv420p"
            assert (context.colorspace, context.color_primaries, context.color_trc) == (BT709, BT709, BT709)
            assert context.color_range == LIMITED

    @pytest.mark.parametrize(
        ("rgb", "ycbcr"),
        [  # BT.709: Y = 16 + 219 (0.2126 R + 0.7152 G + 0.0722 B), Cb and Cr = 128 + 112 (±1)
            ((255, 0, 0), (63, 102, 240)),
            ((0, 255, 0), (173, 42, 26)),
            ((0, 0, 255), (32, 240, 118)),
            ((0, 0, 0), (16, 128, 128)),
            ((255, 255, 255), (235, 128, 128)),
            ((128, 128, 128), (126, 128, 128)),
            ((30, 30, 30), (42, 128, 128)),
            ((200, 100, 40), None),
        ],
    )
    def test_colours_go_through_bt709_both_ways(self, tmp_path, rgb, ycbcr):
        frames = np.broadcast_to(np.array(rgb, dtype=np.uint8), (3, HEIGHT, WIDTH, 3))
        path = write_segment(tmp_path / "colour.mp4", frames)
        assert np.abs(decode(path).astype(int) - rgb).max() <= 2
        if ycbcr:
            with av.open(str(path)) as container:
                planes = next(container.decode(video=0)).to_ndarray()
            luma, chroma = planes[:HEIGHT], planes[HEIGHT:].reshape(2, -1)
            assert np.abs(luma.astype(int) - ycbcr[0]).max() <= 1
            assert np.abs(chroma.astype(int) - np.reshape(ycbcr[1:], (2, 1))).max() <= 1

    def test_pictures_come_back_nearly_as_they_were(self, tmp_path):
        rows, columns = np.mgrid[0:HEIGHT, 0:WIDTH]
        smooth = np.stack([rows * 4, columns * 3, 255 - rows * 4], axis=-1).astype(np.uint8)
        frames = np.stack([np.roll(smooth, shift, axis=1) for shift in range(20)])
        back = decode(write_segment(tmp_path / "s.mp4", frames, crf=10))
        assert np.abs(back.astype(int) - frames).mean() < 3

    def test_batches_do_not_matter(self, tmp_path):
        frames = moving_picture(21)
        whole = write_segment(tmp_path / "whole.mp4", frames)
        with SegmentWriter(tmp_path / "batches.mp4", width=WIDTH, height=HEIGHT) as writer:
            for part in np.split(frames, [1, 4, 4, 20]):
                writer.write(part)
        assert whole.read_bytes() == (tmp_path / "batches.mp4").read_bytes()

    def test_views_need_not_be_contiguous(self, tmp_path):
        frames = moving_picture(3)
        flipped = write_segment(tmp_path / "view.mp4", frames[:, :, ::-1])
        copied = write_segment(tmp_path / "copy.mp4", np.ascontiguousarray(frames[:, :, ::-1]))
        assert flipped.read_bytes() == copied.read_bytes()

    def test_a_higher_crf_takes_fewer_bytes(self, tmp_path):
        sizes = [
            write_segment(tmp_path / f"{crf}.mp4", moving_picture(8), crf=crf).stat().st_size for crf in (0, 18, 51)
        ]
        assert sizes == sorted(sizes, reverse=True)
        assert sizes[2] < sizes[1] / 2

    @linux_only
    def test_the_same_frames_give_the_same_bytes_on_any_number_of_cores_and_in_any_memory(self, tmp_path):
        """x264's AVX-512 code reads memory that it did not write: glibc fills it with another byte in each run."""
        script = (
            "import os, sys; from pathlib import Path; from test_media_video import *;"
            "os.sched_setaffinity(0, list(os.sched_getaffinity(0))[: int(sys.argv[2])]);"
            "write_segment(Path(sys.argv[1]), moving_picture(40, height=208, width=240))"
        )
        for cores, fill in [("1", "0"), ("64", "1"), ("64", "165")]:
            subprocess.run(
                [sys.executable, "-c", script, tmp_path / f"{cores}{fill}.mp4", cores],
                env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "MALLOC_PERTURB_": fill},
                check=True,
            )
        assert len({path.read_bytes() for path in tmp_path.iterdir()}) == 1

    @pytest.mark.parametrize(
        "frames", [np.zeros((2, WIDTH, HEIGHT, 3), np.uint8), np.zeros((2, HEIGHT, WIDTH, 3), np.float32)]
    )
    def test_frames_of_another_kind_are_refused(self, tmp_path, frames):
        with (
            pytest.raises(InputError, match=r"expected uint8 \(T, 48, 64, 3\)"),
            SegmentWriter(tmp_path / "s.mp4", width=WIDTH, height=HEIGHT) as writer,
        ):
            writer.write(frames)
        assert not list(tmp_path.iterdir())

    def test_an_error_in_the_block_leaves_no_file_and_stays_what_it_is(self, tmp_path):
        with (
            pytest.raises(FileNotFoundError, match="not the video's fault"),
            SegmentWriter(tmp_path / "s.mp4", width=WIDTH, height=HEIGHT) as writer,
        ):
            writer.write(moving_picture(30))
            raise FileNotFoundError("not the video's fault")
        assert not list(tmp_path.iterdir())

    def test_a_file_without_frames_is_an_error(self, tmp_path):
        with (
            pytest.raises(MediaError, match="at least one frame"),
            SegmentWriter(tmp_path / "s.mp4", width=WIDTH, height=HEIGHT),
        ):
            pass
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        "name",
        [
            "a:b%03d.mp4",
            "-rf.mp4",
            "🎬 'quoted' \"twice\".mp4",
            "http:x",
            "new\nline.mp4",
            "no suffix",
            "ä" * 120 + ".mp4",
            os.fsdecode(b"not utf-8 \xff.mp4"),
        ],
    )
    def test_any_file_name_will_do(self, tmp_path, monkeypatch, name):
        monkeypatch.chdir(tmp_path)
        segment = write_segment(Path(name), moving_picture(2))
        assemble([segment], Path(f"{name[:50]}.out"), fps=16, sound=None, metadata={})
        assert probe_video(f"{name[:50]}.out").frames == 2
        assert len(decode(name)) == 2

    def test_nothing_is_printed(self, tmp_path, capfd):
        write_film(tmp_path / "film.mp4")
        list(read_frames(tmp_path / "film.mp4"))
        assert capfd.readouterr() == ("", "")


class TestJoining:
    @pytest.mark.parametrize("lengths", [(1,), (1, 1, 1), (5, 1, 33, 2), (77, 80), (3, 4, 4, 4)], ids=str)
    def test_joined_segments_decode_to_the_very_same_pictures(self, tmp_path, lengths):
        segments = [
            write_segment(tmp_path / f"{index}.mp4", moving_picture(length, seed=index))
            for index, length in enumerate(lengths)
        ]
        joined = tmp_path / "joined.mp4"
        assemble(segments, joined, fps=16, sound=None, metadata={})
        np.testing.assert_array_equal(decode(joined), np.concatenate([decode(path) for path in segments]))
        verify(joined, frames=sum(lengths), fps=16, sound=False, size=(WIDTH, HEIGHT))

    def test_packets_are_copied_and_timed_exactly(self, tmp_path):
        segments = [
            write_segment(tmp_path / f"{index}.mp4", moving_picture(count, seed=index))
            for index, count in enumerate([9, 1, 20])
        ]
        assemble(segments, tmp_path / "joined.mp4", fps=16, sound=None, metadata={})
        joined = packets(tmp_path / "joined.mp4")
        assert [bytes(packet) for packet in joined] == [bytes(p) for path in segments for p in packets(path)]
        assert sorted(packet.pts * packet.time_base for packet in joined) == [Fraction(i, 16) for i in range(30)]
        assert np.diff([packet.dts for packet in joined]).min() > 0
        assert all(packet.dts <= packet.pts for packet in joined)

    @pytest.mark.parametrize("other", [{"crf": 30}, {"fps": 32}, {"width": 80}])
    def test_segments_with_other_settings_are_refused(self, tmp_path, other):
        width = other.pop("width", WIDTH)
        first = write_segment(tmp_path / "first.mp4", moving_picture(3))
        second = write_segment(tmp_path / "second.mp4", moving_picture(3, width=width), **other)
        with pytest.raises(MediaError, match="second.*cannot be joined to.*first"):
            assemble([first, second], tmp_path / "out.mp4", fps=16, sound=None, metadata={})
        assert not (tmp_path / "out.mp4").exists()

    def test_a_rate_that_is_not_the_segments_is_refused(self, tmp_path):
        segment = write_segment(tmp_path / "segment.mp4", moving_picture(3))
        with pytest.raises(MediaError, match="at 32 frames per second"):
            assemble([segment], tmp_path / "out.mp4", fps=32, sound=None, metadata={})

    def test_a_missing_or_damaged_segment_is_named_and_nothing_is_left(self, tmp_path):
        good = write_segment(tmp_path / "good.mp4", moving_picture(3))
        bad = tmp_path / "bad.mp4"
        with pytest.raises(InputError, match="no such segment.*bad"):
            assemble([good, bad], tmp_path / "out.mp4", fps=16, sound=None, metadata={})
        bad.write_bytes(good.read_bytes()[:-200])
        with pytest.raises(MediaError, match="bad.mp4.*damaged"):
            assemble([good, bad], tmp_path / "out.mp4", fps=16, sound=None, metadata={})
        assert not (tmp_path / "out.mp4").exists()

    def test_a_missing_sound_file_is_an_input_error_before_anything_is_written(self, tmp_path):
        segment = write_segment(tmp_path / "segment.mp4", moving_picture(3))
        sound = SoundTrack(path=tmp_path / "none.wav", start=0, seconds=1)
        with pytest.raises(InputError, match=r"none\.wav"):
            assemble([segment], tmp_path / "out.mp4", fps=16, sound=sound, metadata={})
        assert [path.name for path in tmp_path.iterdir()] == ["segment.mp4"]


class TestFinishedFile:
    def test_metadata_survives(self, tmp_path):
        recipe = json.dumps({"prompt": 'é 漢字 🎬 "quoted"\n' * 3000, "=;#\\": None}, ensure_ascii=False)
        assert len(recipe.encode()) > 80_000
        metadata = {"title": "Five Hundred Miles – ½", "comment": "made by soundreel", "soundreel": recipe}
        segment = write_segment(tmp_path / "segment.mp4", moving_picture(2))
        assemble([segment], tmp_path / "film.mp4", fps=16, sound=None, metadata=metadata)
        assert metadata.items() <= probe_video(tmp_path / "film.mp4").metadata.items()

    def test_metadata_that_is_no_unicode_does_not_stop_the_video(self, tmp_path):
        """File names may be any bytes; Python shows the undecodable ones as lone surrogates."""
        segment = write_segment(tmp_path / "segment.mp4", moving_picture(2))
        assemble([segment], tmp_path / "film.mp4", fps=16, sound=None, metadata={"title": "a\udcffb"})
        assert probe_video(tmp_path / "film.mp4").metadata["title"] == "a?b"

    def test_the_index_comes_first(self, tmp_path):
        boxes = _box_names(write_film(tmp_path / "film.mp4").read_bytes())
        assert boxes.index(b"moov") < boxes.index(b"mdat")

    def test_files_are_on_the_disk_before_they_count_as_written(self, tmp_path, monkeypatch):
        synced = set()
        real_fsync = os.fsync
        monkeypatch.setattr(os, "fsync", lambda fd: (synced.add(os.fstat(fd).st_ino), real_fsync(fd)))
        film = write_film(tmp_path / "film.mp4")
        assert {film.stat().st_ino, film.with_suffix(".segment").stat().st_ino} <= synced

    def test_tags_survive_the_join(self, tmp_path):
        with av.open(str(write_film(tmp_path / "film.mp4"))) as container:
            context = container.streams.video[0].codec_context
            tags = (context.colorspace, context.color_primaries, context.color_trc, context.color_range)
        assert tags == (BT709, BT709, BT709, LIMITED)


def _box_names(data: bytes) -> list[bytes]:
    names, position = [], 0
    while position < len(data):
        size, name = struct.unpack(">I4s", data[position : position + 8])
        names.append(name)
        position += size
    return names


class TestWriteFailures:
    @linux_only
    def test_a_full_disk(self, tmp_path):
        """/dev/full is a real device whose every write fails with ENOSPC."""
        (tmp_path / "full.mp4").symlink_to("/dev/full")
        with (
            pytest.raises(MediaError, match=rf"full\.mp4.*{tmp_path}.*No space left.*[MG]B are free") as caught,
            SegmentWriter(tmp_path / "full.mp4", width=WIDTH, height=HEIGHT) as writer,
        ):
            writer.write(moving_picture(200))
        assert caught.value.__cause__.errno == errno.ENOSPC
        assert not list(tmp_path.iterdir())
        assert Path("/dev/full").exists()

    @linux_only
    def test_a_finished_file_on_a_full_disk(self, tmp_path):
        segment = write_segment(tmp_path / "segment.mp4", moving_picture(64))
        out = tmp_path / "out"
        out.mkdir()
        (out / "film.mp4").symlink_to("/dev/full")
        with pytest.raises(MediaError, match=r"film\.mp4.*No space left.*about .* bytes are needed, .* [MG]B are free"):
            assemble([segment], out / "film.mp4", fps=16, sound=None, metadata={})
        assert not list(out.iterdir())

    @linux_only
    @pytest.mark.parametrize("limit", [0, 3000, 20_000])
    @pytest.mark.parametrize("stage", ["segment", "film"])
    def test_a_write_that_breaks_off_leaves_nothing(self, tmp_path, limit, stage):
        """A file size limit makes the kernel fail a write at any byte, as a disk that fills up does."""
        segment = write_segment(tmp_path / "segment.mp4", moving_picture(64))
        assert segment.stat().st_size > 25_000
        out = tmp_path / "out"
        out.mkdir()
        with _file_size_limit(limit), pytest.raises(MediaError, match=rf"{out}.*File too large"):
            if stage == "segment":
                write_segment(out / "segment.mp4", moving_picture(64))
            else:
                assemble([segment], out / "film.mp4", fps=16, sound=None, metadata={})
        assert not list(out.iterdir())

    @linux_only
    def test_no_file_stays_open_after_failures(self, tmp_path):
        before = len(list(Path("/proc/self/fd").iterdir()))
        for _ in range(3):
            with _file_size_limit(0), pytest.raises(MediaError):
                write_segment(tmp_path / "s.mp4", moving_picture(64))
        assert len(list(Path("/proc/self/fd").iterdir())) == before

    @pytest.mark.parametrize("path", ["no/such/folder/s.mp4", "file/s.mp4", "x" * 300, "folder"])
    def test_a_file_that_cannot_be_created(self, tmp_path, path):
        (tmp_path / "file").touch()
        (tmp_path / "folder").mkdir()
        with pytest.raises(MediaError, match="cannot write"):
            write_segment(tmp_path / path, moving_picture(2))
        assert sorted(entry.name for entry in tmp_path.iterdir()) == ["file", "folder"]

    def test_a_file_that_may_not_be_overwritten_is_left_alone(self, tmp_path):
        locked = tmp_path / "locked.mp4"
        locked.write_bytes(b"precious")
        locked.chmod(0o400)
        if os.access(locked, os.W_OK):
            pytest.skip("this user may write everywhere")
        with pytest.raises(MediaError, match="Permission denied"):
            write_segment(locked, moving_picture(2))
        assert locked.read_bytes() == b"precious"


class _file_size_limit:  # noqa: N801 - reads as a verb
    """No file of this process grows beyond `size` bytes inside the block (Python ignores SIGXFSZ)."""

    def __init__(self, size: int) -> None:
        self._size = size

    def __enter__(self) -> None:
        self._before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (self._size, self._before[1]))

    def __exit__(self, *_: object) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, self._before)


class TestVerify:
    def test_a_whole_file_passes(self, tmp_path):
        film = write_film(tmp_path / "film.mp4")
        verify(film, frames=20, fps=16, sound=True, size=(WIDTH, HEIGHT))

    @pytest.mark.parametrize(
        ("expected", "message"),
        [
            ({"frames": 21}, "has 20 frames, expected 21 frames"),
            ({"frames": 19}, "has 20 frames, expected 19 frames"),
            ({"fps": 32}, "has 16 frames per second, expected 32 frames per second"),
            ({"sound": False}, "has a sound track, expected no sound track"),
            ({"size": (HEIGHT, WIDTH)}, "has 64×48 pixels, expected 48×64 pixels"),
        ],
    )
    def test_what_is_wrong_is_named_with_both_numbers(self, tmp_path, expected, message):
        film = write_film(tmp_path / "film.mp4")
        with pytest.raises(MediaError, match=message):
            verify(film, **{"frames": 20, "fps": 16, "sound": True} | expected)

    @pytest.mark.parametrize("kind", ["noise", "flicker"])
    def test_keyframes_that_follow_each_other(self, tmp_path, kind):
        """Without loss, x264 begins anew at almost every picture of these."""
        pictures = np.random.default_rng(0).integers(0, 256, (36, HEIGHT, WIDTH, 3), np.uint8)
        if kind == "flicker":
            pictures[:] = np.arange(36)[:, None, None, None] % 2 * 255
        segment = write_segment(tmp_path / "segment.mp4", pictures, crf=0)
        with av.open(str(segment)) as container:
            assert scan_packets(container).keyframes > 30
        assemble([segment], tmp_path / "film.mp4", fps=16, sound=None, metadata={})
        verify(tmp_path / "film.mp4", frames=36, fps=16, sound=False)

    def test_missing_sound(self, tmp_path):
        film = write_film(tmp_path / "film.mp4", sound_seconds=0)
        with pytest.raises(MediaError, match="has no sound track, expected a sound track"):
            verify(film, frames=20, fps=16, sound=True)

    @pytest.mark.parametrize("samples", [-1025, 1025])
    def test_sound_of_another_length(self, tmp_path, samples):
        film = _remux(tmp_path, sound_samples=16000 + samples)
        seconds = (16000 + samples) / 16000
        with pytest.raises(MediaError, match=rf"has {seconds:.3f} s of sound, expected 1\.000 s of sound"):
            verify(film, frames=16, fps=16, sound=True)
        verify(_remux(tmp_path, sound_samples=16000 + samples // 2), frames=16, fps=16, sound=True)

    def test_sound_that_begins_late(self, tmp_path):
        with pytest.raises(MediaError, match="sound that begins at .* s, expected sound that begins at 0 s"):
            verify(_remux(tmp_path, sound_start=1600), frames=16, fps=16, sound=True)

    def test_a_frame_out_of_step(self, tmp_path):
        film = _remux(tmp_path, picture_ticks=[*range(0, 70, 10), 71, *range(80, 160, 10)])
        with pytest.raises(MediaError, match="frame 7 at 71/160 s, expected frame 7 at 7/16 s"):
            verify(film, frames=16, fps=16, sound=True)

    @pytest.mark.parametrize("cut", [1, 10, 300, 5000, 0.5, 0.9])
    def test_a_file_that_is_cut_short(self, tmp_path, cut):
        film = write_film(tmp_path / "film.mp4")
        data = film.read_bytes()
        film.write_bytes(data[: -cut if cut >= 1 else int(len(data) * (1 - cut))])
        with pytest.raises(MediaError, match=r"film\.mp4"):
            verify(film, frames=20, fps=16, sound=True)

    def test_pictures_that_cannot_be_decoded(self, tmp_path):
        film = write_film(tmp_path / "film.mp4")
        data = bytearray(film.read_bytes())
        start = data.index(b"mdat") + 4
        data[start : start + 4000] = bytes(4000)
        film.write_bytes(data)
        with pytest.raises(MediaError, match=r"film\.mp4"):
            verify(film, frames=20, fps=16, sound=True)

    @pytest.mark.parametrize("content", [b"not a video" * 100, b"\0" * 4096])
    def test_no_video_at_all(self, tmp_path, content):
        (tmp_path / "film.mp4").write_bytes(content)
        with pytest.raises(MediaError, match=r"film\.mp4.*damaged or unreadable video"):
            verify(tmp_path / "film.mp4", frames=1, fps=16, sound=False)


def _remux(
    folder: Path,
    *,
    sound_samples: int = 16000,
    sound_start: int = 0,
    picture_ticks: list[int] | None = None,
) -> Path:
    """16 frames and a tone as no careful program would write them; ticks are 1/160 s."""
    film = folder / "film.mp4"
    with av.open(str(film), "w", container_options={"movie_timescale": "16000"}) as container:
        video = container.add_stream("libx264", rate=16, options={"bf": "0"})
        video.width, video.height, video.codec_context.time_base = WIDTH, HEIGHT, Fraction(1, 160)
        sound = container.add_stream("aac", rate=16000, layout="mono")
        for ticks, picture in zip(picture_ticks or range(0, 160, 10), moving_picture(16), strict=True):
            frame = av.VideoFrame.from_ndarray(picture).reformat(format="yuv420p")
            frame.pts, frame.time_base, frame.duration = ticks, Fraction(1, 160), 10
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        samples = tone(sound_samples / 16000, 16000).T
        frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(samples), format="fltp", layout="mono")
        frame.sample_rate, frame.pts, frame.time_base = 16000, sound_start, Fraction(1, 16000)
        container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    return film


class TestReading:
    @pytest.mark.parametrize("degrees", [0, 90, 180, 270])
    def test_turned_video_comes_upright(self, tmp_path, degrees):
        """As a phone writes it: the pixels lie on their side, a display matrix says how to turn them."""
        upright = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
        upright[:24, :32] = 255, 0, 0
        upright[24:, 32:] = 0, 0, 255
        stored = np.ascontiguousarray(np.rot90(upright, -degrees // 90))
        path = tmp_path / "turned.mp4"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=16)
            stream.height, stream.width = stored.shape[:2]
            stream.set_display_rotation(degrees)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(stored)))
            container.mux(stream.encode(None))
        video = probe_video(path)
        assert (video.width, video.height) == (WIDTH, HEIGHT)
        assert np.abs(decode(path)[0][4::8, 4::8].astype(int) - upright[4::8, 4::8]).max() < 20

    @pytest.mark.parametrize(
        ("width", "height", "matrix"),
        [(640, 480, Colorspace.ITU601), (1024, 576, Colorspace.ITU601), (1280, 720, Colorspace.ITU709)],
    )
    def test_untagged_video_is_taken_as_players_take_it(self, tmp_path, width, height, matrix):
        red = _one_frame(tmp_path / "untagged.mp4", (255, 0, 0), width, height, matrix, tag=UNTAGGED)
        assert np.abs(red.astype(int) - (255, 0, 0)).max() <= 3

    @pytest.mark.parametrize(
        ("matrix", "tag"), [(Colorspace.ITU601, 6), (Colorspace.ITU601, 5), (Colorspace.ITU709, BT709)]
    )
    @pytest.mark.parametrize("size", [(64, 48), (1280, 720)])
    def test_a_tag_is_believed(self, tmp_path, size, matrix, tag):
        green = _one_frame(tmp_path / "tagged.mp4", (20, 200, 90), *size, matrix, tag=tag)
        assert np.abs(green.astype(int) - (20, 200, 90)).max() <= 3

    @pytest.mark.parametrize("pixels", ["yuvj420p", "yuv420p10le", "yuv444p"])
    def test_any_kind_of_pixels_comes_as_rgb(self, tmp_path, pixels):
        grey = _one_frame(tmp_path / "s.mkv", (90, 90, 90), 64, 48, Colorspace.ITU709, tag=BT709, pixels=pixels)
        assert grey.dtype == np.uint8
        assert np.abs(grey.astype(int) - 90).max() <= 2

    def test_lossless_rgb_comes_unchanged(self, tmp_path):
        frames = moving_picture(3)
        with av.open(str(tmp_path / "rgb.mkv"), "w") as container:
            stream = container.add_stream("ffv1", rate=16)
            stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "bgr0"
            for picture in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture).reformat(format="bgr0")))
            container.mux(stream.encode(None))
        np.testing.assert_array_equal(decode(tmp_path / "rgb.mkv"), frames)

    def test_a_rate_that_varies_is_reported(self, tmp_path):
        film = _remux(tmp_path, picture_ticks=[*range(0, 80, 10), *range(100, 260, 20)])
        video = probe_video(film)
        assert (video.frames, video.constant_rate) == (16, False)
        assert video.fps < 16

    @pytest.mark.parametrize("suffix", [".mkv", ".ts", ".avi", ".mov"])
    @pytest.mark.parametrize("fps", [Fraction(25), Fraction(30000, 1001)])
    def test_other_containers_and_rates(self, tmp_path, suffix, fps):
        path = tmp_path / f"film{suffix}"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=fps, options={"bf": "2"})
            stream.width, stream.height = WIDTH, HEIGHT
            for picture in moving_picture(30):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture)))
            container.mux(stream.encode(None))
        video = probe_video(path)
        assert (video.frames, video.constant_rate) == (30, True)
        assert float(video.fps) == pytest.approx(float(fps), rel=1e-4)
        assert video.seconds == pytest.approx(30 / fps, abs=0.002)
        assert len(decode(path)) == 30

    def test_sound_is_described_too(self, tmp_path):
        video = probe_video(write_film(tmp_path / "film.mp4"))
        assert (video.sound_codec, video.sound_rate, video.sound_channels) == ("aac", 16000, 1)
        assert video.sound_seconds == 20 / 16

    def test_a_cover_picture_is_no_video(self, tmp_path):
        path = tmp_path / "cover.mp3"
        with av.open(str(path), "w") as container:
            sound = container.add_stream("libmp3lame", rate=16000, layout="mono")
            cover = container.add_stream("png", rate=1)
            cover.width, cover.height, cover.pix_fmt = WIDTH, HEIGHT, "rgb24"
            cover.disposition = av.stream.Disposition.attached_pic
            container.mux(cover.encode(av.VideoFrame.from_ndarray(moving_picture(1)[0])))
            frame = av.AudioFrame.from_ndarray(tone(1, 16000).T.copy(), format="fltp", layout="mono")
            frame.sample_rate = 16000
            container.mux(sound.encode(frame))
            container.mux(sound.encode(None))
        with pytest.raises(MediaError, match=r"cover\.mp3.*has no pictures.*expected a video"):
            probe_video(path)

    @pytest.mark.parametrize(
        ("make", "error", "message"),
        [
            (lambda path: None, InputError, "no such video"),
            (lambda path: path.mkdir(), InputError, "is a directory"),
            (lambda path: path.touch(), InputError, "is an empty file"),
            (os.mkfifo, InputError, "is a pipe"),
            (lambda path: path.write_text("words " * 999), MediaError, "damaged or unreadable"),
            (lambda path: path.write_bytes(b"\0\0\0\x20ftypisom" * 9), MediaError, "damaged or unreadable"),
            (lambda path: write_sound(path, tone(1, 16000), 16000), MediaError, "has no pictures"),
        ],
        ids=["missing", "directory", "empty", "pipe", "text", "torso", "sound"],
    )
    def test_what_is_no_video_is_said_in_one_line(self, tmp_path, make, error, message):
        path = tmp_path / "film.wav"
        make(path)
        for read in (probe_video, decode):
            with pytest.raises(error, match=message) as caught:
                read(path)
            assert "\n" not in str(caught.value)
            assert "film.wav" in str(caught.value)

    def test_real_video(self, media):
        pose = probe_video(media / "pose.mp4")
        assert (pose.width, pose.height, pose.frames, pose.fps) == (960, 540, 350, 50)
        bunny = probe_video(media / "bigbuckbunny.mp4")
        assert (bunny.width, bunny.height, bunny.frames, bunny.sound_channels) == (1280, 720, 132, 6)
        assert next(read_frames(media / "bikes.mp4")).shape == (272, 640, 3)


def _one_frame(
    path: Path,
    rgb: tuple[int, int, int],
    width: int,
    height: int,
    matrix: Colorspace,
    *,
    tag: int,
    pixels: str = "yuv420p",
) -> np.ndarray:
    """Encode one plain picture by `matrix`, tag it as `tag`, and read it back: uint8 [H, W, 3]."""
    frame = av.VideoFrame.from_ndarray(np.full((height, width, 3), rgb, np.uint8))
    frame = frame.reformat(format=pixels, dst_colorspace=matrix)
    frame.colorspace = tag
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=16)
        stream.width, stream.height, stream.pix_fmt = width, height, pixels
        stream.codec_context.colorspace = tag
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return next(read_frames(path))


def test_untagged_video_of_programs_that_leave_colours_to_swscale_is_bt601_at_any_size(tmp_path: Path) -> None:
    path = tmp_path / "large.mp4"
    colours = [(220, 30, 30), (30, 200, 40), (40, 60, 220), (200, 200, 60)]
    picture = np.repeat(np.array([colours], np.uint8), 608, axis=0).repeat(272, axis=1)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=16, options={"crf": "0"})
        stream.width, stream.height, stream.pix_fmt = 1088, 608, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    (as_swscale,), (as_players,) = read_swscale_frames(path), read_frames(path)
    shown = as_swscale[300, 136::272].astype(int)
    assert np.abs(shown - np.array(colours)).max() <= 2
    assert np.abs(as_players[300, 136::272].astype(int) - np.array(colours)).max() > 10, (
        "1088×608 counts as BT.709 else"
    )
