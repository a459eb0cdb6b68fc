"""`soundreel join`: several videos as one, pictures packet for packet, the sound going on where they follow on."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from command import REPO, Outcome, files_below, run_here
from draft_renders import frames_of
from media_files import Samples, click_train, tone, write_sound, write_video
from soundreel.disk.digests import file_digest
from soundreel.disk.state import remember_path
from soundreel.errors import Cancelled
from soundreel.media import joining
from soundreel.media.mux import verify
from soundreel.media.video import probe_video
from soundreel.pipeline import generate
from soundreel.render.joining import Joining, join_videos
from soundreel.request import Request
from soundreel.types import CancelFlag
from test_av_contract import _click_times, _heard
from test_interpolation_video import sound_packets, write_film

FRAMES = 24
SECONDS = FRAMES / 16
FIRST_CLICK, CLICK_EVERY = 0.125, 0.2
RATE = 44_100
COVER = REPO / "examples" / "cover.png"

Soundreel = Callable[..., Outcome]


@pytest.fixture
def soundreel(capsys: pytest.CaptureFixture[str]) -> Soundreel:
    def run(*arguments: str | os.PathLike[str]) -> Outcome:
        return run_here(capsys, *arguments)

    return run


class Drafts:
    """Small drafts, each rendered once and copied from then on. The folder of a test gets the sound, too."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        clicks = click_train(8.0, RATE, every=CLICK_EVERY, first=FIRST_CLICK, channels=2)
        write_sound(folder / "song.flac", clicks, RATE)
        write_sound(folder / "tone.flac", tone(5.0, RATE, channels=2), RATE)
        mono = click_train(4.0, 16_000, every=CLICK_EVERY, first=FIRST_CLICK)
        write_sound(folder / "mono.wav", mono, 16_000)
        write_video(folder / "song.mp4", click_train(4.0, 16_000), 16_000)
        self._made: dict[tuple[str, float, str], Path] = {}

    def __call__(self, output: Path, start: float = 0.0, *, sound: str = "song.flac", **fields: Any) -> Path:
        """A draft of `FRAMES` frames of a sound from a second on, under another name."""
        key = (sound, start, str(fields))
        if key not in self._made:
            self._made[key] = self._folder / f"{len(self._made)}.mp4"
            small = {"width": 64, "height": 64, "frames": FRAMES, "engine": "draft", "audio_start": start}
            with pytest.MonkeyPatch.context() as patch:  # where the sound is, no test is to know
                patch.setenv("XDG_STATE_HOME", str(self._folder / "state"))
                generate(Request(audio=self._folder / sound, output=self._made[key], **(small | fields)))
        if not (output.parent / sound).exists():
            shutil.copy(self._folder / sound, output.parent / sound)
        return Path(shutil.copy(self._made[key], output))


@pytest.fixture(scope="module")
def draft(tmp_path_factory: pytest.TempPathFactory) -> Drafts:
    return Drafts(tmp_path_factory.mktemp("drafts"))


@pytest.fixture
def pieces(draft: Drafts, tmp_path: Path) -> list[Path]:
    """Three drafts, each of which begins where the one before ends."""
    return [draft(tmp_path / f"{name}.mp4", k * SECONDS) for k, name in enumerate("abc")]


@pytest.fixture
def song(pieces: list[Path], tmp_path: Path) -> Path:
    """Clicks at known times, of which the pieces are made."""
    return tmp_path / "song.flac"


def pictures(path: Path) -> list[bytes]:
    """The packets of all pictures."""
    with av.open(str(path)) as container:
        return [bytes(packet) for packet in container.demux(video=0) if packet.size]


def clicks_between(start: float, stop: float) -> np.ndarray:
    """Times of the song's clicks, but for those that are too near to an end to be measured."""
    times = np.arange(FIRST_CLICK, 8.0, CLICK_EVERY)
    return times[(times > start + 0.021) & (times < stop - 0.021)]


def check_clicks(video: Path, expected: np.ndarray) -> None:
    assert len(expected) > 3
    assert np.abs(_click_times(*_heard(video), expected) - expected).max() < 0.001


def check_pictures(joined: Path, pieces: list[Path]) -> None:
    """Bit for bit those of the pieces, as packets and as a player shows them, each at its time."""
    assert pictures(joined) == [packet for piece in pieces for packet in pictures(piece)]
    assert frames_of(joined) == [frame for piece in pieces for frame in frames_of(piece)]


# sound


def test_pieces_that_follow_each_other_become_one(
    soundreel: Soundreel, draft: Drafts, song: Path, pieces: list[Path], tmp_path: Path
) -> None:
    """Pictures and sound are those of pieces and song: the sound is, bit for bit, that of one long render."""
    before = files_below(tmp_path)
    done = soundreel("join", *pieces, "-o", tmp_path / "j.mp4")
    assert (done.code, done.out) == (0, f"{tmp_path / 'j.mp4'}\n")
    begins, ends = done.err.splitlines()
    assert begins == (
        "3 videos → 64×64, 72 frames at 16 fps = 4.50 s, pictures as they are, "
        "sound read anew from song.flac, in one go"
    )
    assert ends.endswith(" s: 72 frames, 4.50 s, sound and picture verified")
    assert files_below(tmp_path) == sorted([*before, "j.mp4"])
    verify(done.path, frames=3 * FRAMES, fps=16, sound=True, size=(64, 64))
    check_pictures(done.path, pieces)
    check_clicks(done.path, clicks_between(0, 3 * SECONDS))
    whole = draft(tmp_path / "whole.mp4", frames=3 * FRAMES)
    assert sound_packets(done.path) == sound_packets(whole)


def test_without_the_song_the_sound_of_the_pieces_is_joined_without_a_gap(
    soundreel: Soundreel, song: Path, pieces: list[Path], tmp_path: Path
) -> None:
    song.unlink()
    done = soundreel("join", *pieces, "-o", tmp_path / "j.mp4")
    assert "sound of the videos, encoded once more" in done.err
    assert "note: song.flac is not at hand, or not as it was" in done.err
    check_clicks(done.path, clicks_between(0, 3 * SECONDS))


@pytest.mark.parametrize("is_there", [True, False])
def test_a_steady_tone_stays_steady_across_the_seams(
    soundreel: Soundreel, draft: Drafts, tmp_path: Path, is_there: bool
) -> None:
    pieces = [draft(tmp_path / f"{k}.mp4", k * SECONDS, sound="tone.flac") for k in range(3)]
    if not is_there:
        (tmp_path / "tone.flac").unlink()
    heard, rate = _heard(soundreel("join", *pieces, "-o", tmp_path / "j.mp4").path)
    expected = tone(3 * SECONDS, RATE, channels=2)[: len(heard)]
    assert rate == RATE
    assert np.abs(heard[: len(expected)] - expected)[:-1500].max() < 0.05


def test_a_song_that_has_changed_is_not_taken_for_what_was_heard(
    soundreel: Soundreel, song: Path, pieces: list[Path], tmp_path: Path
) -> None:
    write_sound(song, tone(8.0, RATE, channels=2), RATE)
    done = soundreel("join", *pieces, "-o", tmp_path / "j.mp4")
    assert "sound of the videos" in done.err
    check_clicks(done.path, clicks_between(0, 3 * SECONDS))


def test_the_song_is_found_where_it_was(
    soundreel: Soundreel, song: Path, pieces: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Videos may be elsewhere by now; no place is ever told by them."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    (tmp_path / "music").mkdir()
    remember_path(file_digest(song), song.rename(tmp_path / "music" / "renamed.flac"))
    assert "sound read anew from song.flac, in one go" in soundreel("join", *pieces, "-o", tmp_path / "j.mp4").err


def test_a_song_that_was_moved_is_given(
    soundreel: Soundreel, song: Path, pieces: list[Path], tmp_path: Path, tune: Path
) -> None:
    (tmp_path / "elsewhere").mkdir()
    moved = song.rename(tmp_path / "elsewhere" / "song2.flac")
    done = soundreel("join", *pieces, "-o", tmp_path / "j.mp4", "--sound", moved)
    assert "sound read anew from song.flac, in one go" in done.err
    refused = soundreel("join", *pieces, "-o", tmp_path / "k.mp4", "--sound", tune)
    assert (refused.code, refused.err) == (
        2,
        f"soundreel: --sound is '{tune}', which no recipe of these videos is about: expected 'song.flac', unchanged\n",
    )


def test_in_another_order_each_keeps_its_own_sound(soundreel: Soundreel, pieces: list[Path], tmp_path: Path) -> None:
    a, _, c = pieces
    done = soundreel("join", c, a, "-o", tmp_path / "j.mp4")
    assert "sound read anew from song.flac, in 2 parts" in done.err
    check_pictures(done.path, [c, a])
    first = clicks_between(2 * SECONDS, 3 * SECONDS) - 2 * SECONDS
    check_clicks(done.path, np.concatenate([first, clicks_between(0, SECONDS) + SECONDS]))


def test_a_start_that_was_rounded_makes_no_jump(
    soundreel: Soundreel, draft: Drafts, pieces: list[Path], tmp_path: Path
) -> None:
    """Names of videos and people round seconds: the sound goes on, and what that does to the pictures is said."""
    b = draft(tmp_path / "b.mp4", 1.49)
    done = soundreel("join", pieces[0], b, "-o", tmp_path / "j.mp4")
    assert "in one go" in done.err
    assert "note: the sound goes on through b.mp4, whose pictures come 10.0 ms after it" in done.err
    check_clicks(done.path, clicks_between(0, 2 * SECONDS))


def test_the_seeds_segments_are_told_where_they_miss_each_other(
    soundreel: Soundreel, draft: Drafts, song: Path, tmp_path: Path
) -> None:
    """`frames = seconds · 16 + 1` and the next segment at that second: 1/16 s is shown, and heard, twice."""
    one, two = (draft(tmp_path / f"{name}.mp4", start, frames=17) for name, start in (("one", 0.0), ("two", 1.0)))
    done = soundreel("join", one, two, "-o", tmp_path / "j.mp4")
    assert (
        "note: two.mp4 begins at 1 s of song.flac, the pictures of one.mp4 end at 1.0625 s: the sound jumps there; "
        "rendered with --audio-start 1.0625 it would go on"
    ) in done.err
    later = clicks_between(1.0, 2.0625) + 0.0625
    check_clicks(done.path, np.concatenate([clicks_between(0, 1.0625), later]))


def test_joined_videos_can_be_joined(soundreel: Soundreel, pieces: list[Path], tmp_path: Path) -> None:
    a, b, c = pieces
    first = soundreel("join", a, b, "-o", tmp_path / "ab.mp4").path
    done = soundreel("join", first, c, "-o", tmp_path / "abc.mp4")
    assert "in one go" in done.err
    check_pictures(done.path, pieces)
    assert sound_packets(done.path) == sound_packets(soundreel("join", *pieces, "-o", tmp_path / "j.mp4").path)


@pytest.mark.parametrize("fps", [24, 32])
def test_interpolated_renders_are_joined_too(
    soundreel: Soundreel, draft: Drafts, song: Path, tmp_path: Path, fps: int
) -> None:
    pieces = [draft(tmp_path / f"{k}.mp4", k * SECONDS, fps=fps) for k in range(2)]
    done = soundreel("join", *pieces, "-o", tmp_path / "j.mp4")
    verify(done.path, frames=2 * FRAMES * fps // 16, fps=fps, sound=True)
    check_pictures(done.path, pieces)
    check_clicks(done.path, clicks_between(0, 2 * SECONDS))


def test_sound_that_ends_before_the_pictures_is_followed_by_silence(
    soundreel: Soundreel, draft: Drafts, song: Path, tmp_path: Path
) -> None:
    """What follows a window that was ended early is not taken for its continuation."""
    short = draft(tmp_path / "short.mp4", audio_duration=1)
    following = draft(tmp_path / "following.mp4", SECONDS)
    heard, rate = _heard(soundreel("join", short, following, "-o", tmp_path / "j.mp4").path)
    assert np.abs(heard[round(1.03 * rate) : round(1.47 * rate)]).max() < 0.01
    expected = clicks_between(SECONDS, 2 * SECONDS)
    assert np.abs(_click_times(heard, rate, expected) - expected).max() < 0.001


# sounds that are not alike, and none


def test_sounds_of_several_rates_and_channels_share_a_track(
    soundreel: Soundreel, draft: Drafts, pieces: list[Path], tmp_path: Path
) -> None:
    mono = draft(tmp_path / "m.mp4", sound="mono.wav")
    done = soundreel("join", mono, pieces[1], "-o", tmp_path / "j.mp4")
    found = probe_video(done.path)
    assert (found.sound_rate, found.sound_channels) == (RATE, 2)
    assert "sound read anew from mono.wav, song.flac, in 2 parts" in done.err
    assert found.metadata["title"] == "mono + song (draft)"
    check_clicks(done.path, np.concatenate([clicks_between(0, SECONDS), clicks_between(SECONDS, 2 * SECONDS)]))
    heard, _ = _heard(done.path)
    assert np.abs(heard[:RATE, 0] - heard[:RATE, 1]).max() < 0.02


def test_a_video_without_sound_is_silent_there(soundreel: Soundreel, pieces: list[Path], tmp_path: Path) -> None:
    silent = without_sound(pieces[1], tmp_path / "silent.mp4")
    done = soundreel("join", pieces[0], silent, pieces[2], "-o", tmp_path / "j.mp4")
    assert "note: silent.mp4 has no sound: 1.50 s of silence" in done.err
    heard, rate = _heard(done.path)
    assert np.abs(heard[round(1.53 * rate) : round(2.97 * rate)]).max() < 0.01
    expected = np.concatenate([clicks_between(0, SECONDS), clicks_between(2 * SECONDS, 3 * SECONDS)])
    assert np.abs(_click_times(heard, rate, expected) - expected).max() < 0.001


def test_videos_without_sound_stay_without(soundreel: Soundreel, pieces: list[Path], tmp_path: Path) -> None:
    silent = [without_sound(piece, tmp_path / f"silent_{piece.name}") for piece in pieces]
    done = soundreel("join", *silent, "-o", tmp_path / "j.mp4")
    assert "pictures as they are, no sound" in done.err
    verify(done.path, frames=3 * FRAMES, fps=16, sound=False)
    check_pictures(done.path, pieces)


def without_sound(video: Path, output: Path) -> Path:
    with av.open(str(video)) as source, av.open(str(output), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                packet.stream = stream
                target.mux(packet)
    return output


# pictures that are not alike


@pytest.mark.parametrize(
    ("fields", "says"),
    [
        ({"width": 96}, "96×64 pixels instead of 64×64 pixels"),
        ({"fps": 32}, "32 frames per second instead of 16 frames per second"),
        ({"crf": 30}, "other encoder settings (as by another --crf)"),
    ],
)
def test_pictures_that_are_not_alike_are_refused_or_encoded_anew(
    soundreel: Soundreel, draft: Drafts, tmp_path: Path, fields: dict[str, int], says: str
) -> None:
    first = draft(tmp_path / "first.mp4", ref_image=COVER)  # soft enough to survive being encoded anew
    other = draft(tmp_path / "other.mp4", SECONDS, ref_image=COVER, **fields)
    before = files_below(tmp_path)
    refused = soundreel("join", first, other, "-o", tmp_path / "j.mp4")
    assert (refused.code, refused.err) == (
        2,
        f"soundreel: '{other}' cannot be joined to '{first}' as it is: {says}; render it alike, or let --reencode "
        "encode all pictures anew\n",
    )
    assert files_below(tmp_path) == before
    done = soundreel("join", first, other, "-o", tmp_path / "j.mp4", "--reencode")
    assert done.code == 0, done.err
    assert "pictures encoded anew" in done.err
    verify(done.path, frames=2 * FRAMES, fps=16, sound=True, size=(64, 64))
    check_clicks(done.path, clicks_between(0, 2 * SECONDS))
    assert np.abs(np.array(frames_array(done.path)[:FRAMES], int) - frames_array(first)).mean() < 3


def frames_array(video: Path) -> Samples:
    return np.array([np.frombuffer(frame, np.uint8) for frame in frames_of(video)])


def test_a_variable_frame_rate_is_refused_or_made_constant(soundreel: Soundreel, tmp_path: Path) -> None:
    constant = write_film(tmp_path / "constant.mp4", rate=16)
    times = [0, 0.0625, 0.125, 0.5, 0.5625, 0.625, 0.9375]
    varied = write_film(tmp_path / "varied.mp4", times=times)
    refused = soundreel("join", constant, varied)
    assert (refused.code, "it has a variable frame rate" in refused.err) == (2, True)
    done = soundreel("join", constant, varied, "--reencode")
    assert done.code == 0, done.err
    assert "varied.mp4 has a variable frame rate: its frames are shown at 16 per second" in done.err
    found = probe_video(done.path)
    assert (found.constant_rate, found.fps) == (True, 16)
    shown, source = frames_array(done.path)[24:].astype(int), frames_array(varied)
    nearest = [int(np.abs(source - frame).mean(axis=1).argmin()) for frame in shown]
    assert nearest[:16] == [0, 1, 2, 2, 2, 2, 2, 2, 3, 4, 5, 5, 5, 5, 5, 6]


def test_a_video_that_was_cut_between_keyframes_is_refused(
    soundreel: Soundreel, pieces: list[Path], tmp_path: Path
) -> None:
    """As cut out without encoding: an edit list hides the pictures before the cut."""
    with av.open(str(pieces[0])) as source, av.open(str(tmp_path / "cut.mp4"), "w") as target:
        stream = target.add_stream_from_template(source.streams.video[0])
        for packet in source.demux(video=0):
            if packet.size:
                ticks = round(5 / 16 / packet.time_base)
                packet.pts, packet.dts, packet.stream = packet.pts - ticks, packet.dts - ticks, stream
                target.mux(packet)
    assert probe_video(tmp_path / "cut.mp4").frames == FRAMES - 5
    refused = soundreel("join", pieces[0], tmp_path / "cut.mp4")
    assert (refused.code, "it begins in the middle of a group of pictures" in refused.err) == (2, True)
    done = soundreel("join", pieces[0], tmp_path / "cut.mp4", "--reencode")
    verify(done.path, frames=2 * FRAMES - 5, fps=16, sound=True)


# videos of others


@pytest.mark.parametrize("rate", [Fraction(24_000, 1001), Fraction(30_000, 1001), 25])
def test_broken_rates_stay_exact(soundreel: Soundreel, tmp_path: Path, rate: Fraction | int) -> None:
    films = [write_film(tmp_path / f"{k}.mp4", rate=rate, frames=20 + k) for k in range(3)]
    done = soundreel("join", *films, "-o", tmp_path / "j.mp4")
    verify(done.path, frames=63, fps=Fraction(rate), sound=True)
    check_pictures(done.path, films)


@pytest.mark.parametrize(("ending", "sound"), [("mkv", "flac"), ("mov", "pcm_s16le"), ("ts", "aac")])
def test_other_containers_are_read(soundreel: Soundreel, tmp_path: Path, ending: str, sound: str) -> None:
    """Times in whole milliseconds become exact ones, start codes of a transport stream become lengths."""
    films = [write_film(tmp_path / f"{k}.{ending}", sound, rate=24) for k in range(2)]
    done = soundreel("join", *films)
    assert done.path == tmp_path / "0_joined.mp4"
    verify(done.path, frames=48, fps=24, sound=True)
    assert frames_of(done.path) == [frame for film in films for frame in frames_of(film)]
    assert ending == "ts" or pictures(done.path) == [packet for film in films for packet in pictures(film)]


def test_other_codecs_are_joined_as_they_are(soundreel: Soundreel, tmp_path: Path) -> None:
    films = [tmp_path / "a.webm", tmp_path / "b.webm"]
    for number, film in enumerate(films):
        with av.open(str(film), "w") as container:
            stream = container.add_stream("libvpx-vp9", rate=16, options={"deadline": "realtime", "cpu-used": "8"})
            stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
            for k in range(20):
                grey = np.full((64, 64, 3), 10 * k + number, np.uint8)
                container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
            container.mux(stream.encode(None))
    done = soundreel("join", *films, "-o", tmp_path / "j.mp4")
    assert done.code == 0, done.err
    verify(done.path, frames=40, fps=16, sound=False)
    check_pictures(done.path, films)


def test_sound_from_before_the_first_picture_is_left_out(soundreel: Soundreel, tmp_path: Path) -> None:
    """Of a video whose pictures begin late, the second at which they do is the second at which its sound begins."""
    clicks = click_train(2.0, 48_000, every=CLICK_EVERY, first=FIRST_CLICK)
    films = [write_video(tmp_path / f"{late}.mkv", clicks, 48_000, "flac", picture_start=late) for late in (0.5, 0.0)]
    heard, rate = _heard(soundreel("join", *films, "-o", tmp_path / "j.mp4").path)
    expected = np.concatenate([clicks_between(0.5, 2.0) - 0.5, clicks_between(0, 2.0) + 1.5])
    assert np.abs(_click_times(heard, rate, expected) - expected).max() < 0.001


# what is said, and what is written


def test_the_same_video_twice_is_joined_twice_and_that_is_said(
    soundreel: Soundreel, pieces: list[Path], tmp_path: Path
) -> None:
    a = pieces[0]
    done = soundreel("join", a, a, "-o", tmp_path / "j.mp4")
    assert "note: a.mp4 is joined 2 times" in done.err
    check_pictures(done.path, [a, a])
    check_clicks(done.path, np.concatenate([clicks_between(0, SECONDS), clicks_between(0, SECONDS) + SECONDS]))


def test_wrong_wishes_are_refused_and_leave_nothing(soundreel: Soundreel, pieces: list[Path], tmp_path: Path) -> None:
    a, b, _ = pieces
    (tmp_path / "text.mp4").write_text("no video")
    (tmp_path / "link.mp4").symlink_to(b)
    (tmp_path / "twin.mp4").hardlink_to(b)
    before = {name: (tmp_path / name).read_bytes() for name in files_below(tmp_path)}
    song = tmp_path / "song.flac"
    for code, words, says in [
        (2, [a], f"expected at least two videos to join, there is only '{a}'"),
        (2, [a, tmp_path / "no.mp4"], f"no such video: '{tmp_path / 'no.mp4'}'"),
        (2, [a, tmp_path], f"'{tmp_path}' is a directory"),
        (3, [a, tmp_path / "text.mp4"], "text.mp4' is"),
        (3, [a, song], "has no pictures in it"),
        (2, [a, b, "-o", b], "itself: what a video is made from is never replaced"),
        (2, [a, b, "-o", tmp_path / "link.mp4"], "itself: what a video is made from is never replaced"),
        (2, [a, b, "-o", tmp_path / "twin.mp4"], "itself: what a video is made from is never replaced"),
        (2, [a, b, "-o", tmp_path / "j.mkv"], "expected a name that ends in .mp4"),
        (2, [a, b, "-o", tmp_path / "no" / "j.mp4"], "cannot write into"),
        (2, [a, b, "--crf", "52"], "--crf is 52"),
        (2, [a, b, "--sound", tmp_path / "no.flac"], "no such sound"),
    ]:
        refused = soundreel("join", *words)
        assert (refused.code, refused.out, len(refused.err.splitlines())) == (code, "", 1), refused.err
        assert says in refused.err
        assert {name: (tmp_path / name).read_bytes() for name in files_below(tmp_path)} == before


def test_the_sound_is_never_the_output(soundreel: Soundreel, draft: Drafts, tmp_path: Path) -> None:
    """It may be a video itself."""
    pieces = [draft(tmp_path / f"{k}.mp4", k * SECONDS, sound="song.mp4") for k in range(2)]
    song = tmp_path / "song.mp4"
    before = song.read_bytes()
    refused = soundreel("join", *pieces, "-o", song)
    assert (refused.code, "itself: what a video is made from is never replaced" in refused.err) == (2, True)
    assert song.read_bytes() == before


def test_names_of_ours_replace_nothing_and_asked_for_ones_do(
    soundreel: Soundreel, pieces: list[Path], tmp_path: Path
) -> None:
    a, b, c = pieces
    made = [soundreel("join", a, b).path.name for _ in range(2)]
    assert made == ["a_joined.mp4", "a_joined_2.mp4"]
    again = soundreel("join", a, b, c, "-o", tmp_path / made[0], "--quiet")
    assert (again.err, probe_video(again.path).frames) == ("", 3 * FRAMES)


def test_info_tells_what_a_joined_video_is_made_of(soundreel: Soundreel, pieces: list[Path], tmp_path: Path) -> None:
    joined = soundreel("join", *pieces, "-o", tmp_path / "j.mp4").path
    told = soundreel("info", joined).out
    for name in "abc":
        assert f"joined from  {name}.mp4, 24 frames, engine draft (a draft, not a model render)" in told
    assert "heard        song.flac from 0 s on, 72 frames" in told
    record = json.loads(soundreel("info", joined, "--json").out)["joined"]
    recipes = [json.loads(soundreel("info", piece, "--json").out)["recipe"] for piece in pieces]
    assert [piece["recipe"] for piece in record["pieces"]] == recipes
    assert probe_video(joined).metadata["title"] == "song (draft)"
    refused = soundreel("generate", "--recipe", joined)
    assert (refused.code, "was joined from several videos" in refused.err) == (2, True)
    silent = soundreel("join", *pieces, "-o", tmp_path / "k.mp4", "--no-recipe").path
    assert not any("song.flac" in value or "a.mp4" in value for value in probe_video(silent).metadata.values())


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record.clear(),
        lambda record: record["pieces"].append(None),
        lambda record: record["sound"][0].update(frames=10**9),
        lambda record: record["sound"][0]["window"].update(start=float("nan")),
        lambda record: record["sound"][0]["window"].update(start=-1),
        lambda record: record.update(fps="1/0"),
    ],
)
def test_a_record_that_is_not_ours_says_nothing(
    soundreel: Soundreel, pieces: list[Path], tmp_path: Path, change: Callable[[dict[str, object]], None]
) -> None:
    a, b, c = pieces
    joined = soundreel("join", a, b, "-o", tmp_path / "j.mp4").path
    record = json.loads(probe_video(joined).metadata["soundreel_join"])
    change(record)
    with (
        av.open(str(joined)) as source,
        av.open(str(tmp_path / "x.mp4"), "w", container_options={"movflags": "use_metadata_tags"}) as target,
    ):
        target.metadata["soundreel_join"] = json.dumps(record)
        streams = {stream.index: target.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.size:
                packet.stream = streams[packet.stream_index]
                target.mux(packet)
    told = soundreel("info", tmp_path / "x.mp4")
    assert (told.code, "\x1b" in told.out) == (0, False)
    done = soundreel("join", tmp_path / "x.mp4", c, "-o", tmp_path / "xc.mp4")
    assert done.code == 0, done.err
    check_clicks(done.path, clicks_between(0, 3 * SECONDS))


def test_a_lost_picture_is_found(
    soundreel: Soundreel, pieces: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before, whole = files_below(tmp_path), joining._packets

    def damaged(*arguments: object) -> Iterator[object]:
        for number, packet in enumerate(whole(*arguments)):  # type: ignore[arg-type]
            if number == 30:
                changed = av.Packet(bytes(packet)[:-1] + b"\0")
                changed.pts, changed.dts, changed.time_base = packet.pts, packet.dts, packet.time_base
                changed.duration = packet.duration
                yield changed
            else:
                yield packet

    monkeypatch.setattr(joining, "_packets", damaged)
    done = soundreel("join", *pieces, "-o", tmp_path / "j.mp4")
    assert (done.code, done.out) == (3, "")
    assert "another picture packet 30" in done.err
    assert files_below(tmp_path) == before


def test_ctrl_c_leaves_what_was_there(
    soundreel: Soundreel, pieces: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    earlier = soundreel("join", *pieces[:2], "-o", tmp_path / "j.mp4").path.read_bytes()
    before = files_below(tmp_path)

    def stop(*arguments: object) -> Iterator[object]:
        raise KeyboardInterrupt

    monkeypatch.setattr(joining, "_packets", stop)
    done = soundreel("join", *pieces, "-o", tmp_path / "j.mp4")
    assert (done.code, done.err.splitlines()[-1]) == (130, "soundreel: cancelled, nothing was saved")
    assert (files_below(tmp_path), (tmp_path / "j.mp4").read_bytes()) == (before, earlier)


def test_a_flag_stops_it_at_once(pieces: list[Path], tmp_path: Path) -> None:
    before, flag = files_below(tmp_path), CancelFlag()
    request = Joining(videos=tuple(pieces), output=tmp_path / "j.mp4")
    with pytest.raises(Cancelled):
        join_videos(request, on_start=lambda _: flag.set(), cancel=flag)
    assert files_below(tmp_path) == before
