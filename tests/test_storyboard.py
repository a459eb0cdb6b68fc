"""Storyboard files: read with all that is wrong at once, proposed for songs, written down again from a video."""

import json
import math
import tomllib
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from command import REPO, run_here
from media_files import write_sound
from soundreel.analysis import Role, Section, Song, Span, VoiceSource, hear
from soundreel.errors import InputError
from soundreel.media.audio import probe_sound
from soundreel.pipeline import generate
from soundreel.planning import plan
from soundreel.request import Cut, Request, ShotRequest
from soundreel.storyboard import propose, read_storyboard, storyboard_text
from soundreel.storyboard.lyrics import Line, read_lyrics
from soundreel.storyboard.places import lines_of_keys
from soundreel.storyboard.schema import schema

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path, tune: Path) -> Write:
    """Writes a storyboard of the tune."""
    (tmp_path / "tune.flac").write_bytes(tune.read_bytes())

    def put(text: str, name: str = "song.toml", encoding: str = "utf-8") -> Path:
        path = tmp_path / name
        path.write_bytes(text.encode(encoding))
        return path

    return put


def request_of(path: Path) -> Request:
    return Request(**read_storyboard(path))


BOARD = """\
# the song
song = "tune.flac"

[defaults]
prompt = "sun"
negative = "text"
seed = 7
width = 96
height = 160

[defaults.sampling]
steps = 12

[[shot]]
name = "intro"   # begins with the song

[[shot]]
start = "0:01.5"
name = "verse"
section = "verse-1"
prompt = "rain"
negative = "snow"
seed = 3
cut = "continue"
"""


# reading


def test_a_storyboard_is_a_request(write: Write, tmp_path: Path) -> None:
    request = request_of(write(BOARD))
    assert (request.audio, request.storyboard) == (tmp_path / "tune.flac", tmp_path / "song.toml")
    assert (request.prompt, request.negative_prompt, request.seed, request.sampling.steps) == ("sun", "text", 7, 12)
    assert request.window.full
    assert request.shots == (
        ShotRequest(name="intro"),
        ShotRequest(
            start=1.5, name="verse", section="verse-1", prompt="rain", negative_prompt="snow", seed=3, cut=Cut.CONTINUE
        ),
    )


@pytest.mark.parametrize(
    "changed",
    [
        lambda text: "\ufeff" + text,
        lambda text: text.replace("\n", "\r\n"),
        lambda text: text.replace(" = ", "\t=\t"),
        lambda text: text.replace("\n\n", "\n\t\n"),
    ],
    ids=["BOM", "CRLF", "tabs", "blank lines with tabs"],
)
def test_editors_may_write_it_as_they_do(write: Write, changed: Callable[[str], str]) -> None:
    assert request_of(write(changed(BOARD), "other.toml")).shots == request_of(write(BOARD)).shots


def test_the_json_twin_says_the_same(write: Write) -> None:
    twin = write(json.dumps(tomllib.loads(BOARD)), "song.json")
    assert request_of(twin).replace(storyboard=None) == request_of(write(BOARD)).replace(storyboard=None)


WRONG = """\
song = "nowhere.mp3"
titel = "x"

[defaults]
promt = "sun"
width = 100
ref_image = "no.png"

[defaults.sampling]
steps = "many"

[[shot]]
name = "a"

[[shot]]
start = 5
name = "a"
colour = '''
name = "in a text"
'''

[[shot]]
start = 4
cut = "soft"
pose_video = "no.mp4"

[[shot]]
name = "12"
"""


def test_all_mistakes_are_told_at_once_each_with_its_line_and_key(write: Write) -> None:
    with pytest.raises(InputError) as error:
        read_storyboard(write(WRONG))
    told = str(error.value).splitlines()
    assert "song.toml' has 12 mistakes:" in told[0]
    said = [line.strip() for line in told[1:]]
    assert [line.partition(":")[0] for line in said] == [
        "line 1, song",
        "line 2, titel",
        "line 5, defaults.promt",
        "line 7, defaults.ref_image",
        "line 10, defaults.sampling.steps",
        "line 17, shot 'a' name",
        "line 18, shot 'a' colour",
        "line 23, shot 3 start",
        "line 24, shot 3 cut",
        "line 25, shot 3 pose_video",
        "line 27, shot '12'",
        "line 28, shot '12' name",
    ]
    assert said[2].endswith("is not known; did you mean prompt?")
    assert "shots overlap" in said[7]


def test_the_command_says_each_mistake_in_a_line_of_its_own(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    board = write(WRONG)
    done = run_here(capsys, board)
    first, *told = done.err.splitlines()
    assert (done.code, first) == (2, f"soundreel: storyboard {str(board)!r} has 12 mistakes:")
    assert [line[:7] for line in told] == ["  line "] * 12
    event = json.loads(run_here(capsys, board, "--progress", "json").err)
    assert event["details"] == [line[2:] for line in told]


def test_what_only_the_whole_shows_is_told_with_its_line(write: Write) -> None:
    with pytest.raises(InputError, match=r"line 8, defaults.width: width is 100: expected a multiple of 16"):
        read_storyboard(write(BOARD.replace("width = 96", "width = 100")))


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('name = "intro"', 'stop = 1.2\nname = "intro"', "the next shot begins at 1.5 s: there is a gap of 0.3 s"),
        ('name = "intro"', 'stop = 2\nname = "intro"', "there is an overlap of 0.5 s"),
        ('name = "intro"', 'name = "verse"', "shot 'verse' name: is 'verse', which shot 1 is called already"),
        ('start = "0:01.5"', 'start = "1:2:3:4"', "expected seconds, or a time as 1:23.5"),
        ('start = "0:01.5"', 'start = "bar 999"', "there is no bar 999: expected 1 to"),
        ('start = "0:01.5"', 'start = "bar 2 beat 9"', "bar 2 has 4 beats, and no beat 9"),
        ('start = "0:01.5"\n', "", "shot 'verse': has no start"),
        ("[[shot]]", "[shot]", "cannot be understood"),
        ('prompt = "sun"', 'prompt = "{lyrics}"', "beside the song there is no .lrc or .srt"),
        ('cut = "continue"', 'cut = "continue', "cannot be understood: .*line 24"),
    ],
)
def test_one_mistake_is_one_line(write: Write, old: str, new: str, says: str) -> None:
    with pytest.raises(InputError, match=says):
        read_storyboard(write(BOARD.replace(old, new)))


def test_bars_are_those_that_are_heard(write: Write, tune: Path) -> None:
    song = hear(tune)
    request = request_of(write(BOARD.replace('"0:01.5"', '"bar 2 beat 3"')))
    second = next(bar for bar in song.bars if bar.number == 2)
    beats = [beat for beat in song.beats if second.start <= beat < second.stop]
    assert request.shots[1].start == pytest.approx(beats[2])


def test_the_last_stop_ends_the_video(write: Write) -> None:
    request = request_of(write(BOARD + "stop = 4.0\n"))
    assert plan(request, 9.0).frames == 64


def test_lines_of_keys_know_texts_and_lists() -> None:
    lines = (
        *("a = [", '"b = 1", # ]', "]", 'c = """', "[x]", "d = 2", '"""', '[e."f.g"]', "h.i = {j = 1}"),
        *("[[k]]", "[[k]]", "l = 1", "[k.m]", "n = 1"),
    )
    text = "\n".join(lines)
    tomllib.loads(text)
    assert lines_of_keys(text) == {
        ("a",): 1, ("c",): 4, ("e", "f.g"): 8, ("e", "f.g", "h"): 9, ("e", "f.g", "h", "i"): 9,
        ("k", 0): 10, ("k", 1): 11, ("k", 1, "l"): 12, ("k", 1, "m"): 13, ("k", 1, "m", "n"): 14,
    }  # fmt: skip


# the schema


def test_the_published_schema_is_that_of_the_fields() -> None:
    """Made anew by: python -c "import json; from soundreel.storyboard.schema import schema; …"."""
    published = json.loads((REPO / "docs" / "storyboard.schema.json").read_text(encoding="utf-8"))
    assert published == schema()
    jsonschema.Draft202012Validator.check_schema(published)


def test_storyboards_follow_the_schema(write: Write, tmp_path: Path) -> None:
    check = jsonschema.Draft202012Validator(schema())
    for data in (tomllib.loads(BOARD), json.loads(storyboard_text(Request(**requests(tmp_path)), tmp_path / "a.json"))):
        assert list(check.iter_errors(data)) == []
    wrong = tomllib.loads(WRONG)
    paths = {".".join(map(str, error.absolute_path)) for error in check.iter_errors(wrong)}
    assert {"", "defaults.sampling.steps", "shot.1", "shot.2.cut"} <= paths


# lyrics


def test_lyrics_go_to_the_shots_in_which_they_are_sung(write: Write) -> None:
    write("[offset:500]\n[ar:nobody]\n[00:00.70]one\n[00:01.30][00:02.10]two <00:01.50>words\n", "tune.lrc")
    request = request_of(write(BOARD.replace('"sun"', '"sings: {lyrics}"').replace('prompt = "rain"\n', "")))
    assert [shot.prompt for shot in request.shots] == ["sings: one / two words", "sings: two words"]


def test_lyrics_of_srt(tmp_path: Path) -> None:
    path = tmp_path / "a.srt"
    path.write_text(
        "1\r\n00:01:02,500 --> 00:01:04,000\r\n<i>la</i>\r\nla\r\n\r\n2\r\n00:00:01,000 --> 00:00:02,000\r\nlo\r\n"
    )
    assert read_lyrics(path) == (Line(start=1.0, text="lo"), Line(start=62.5, text="la la"))
    path.write_text("nothing")
    with pytest.raises(InputError, match="no line with a time"):
        read_lyrics(path)


# proposals


def a_song(seconds: float, *, bar: float | None = 2.0, voice: tuple[Span, ...] = (), known: bool = True) -> Song:
    """A song whose second half is as strong as can be."""
    downbeats = () if bar is None else tuple(np.arange(0.1, seconds, bar).tolist())
    half = seconds / 2
    section = {"letter": "A", "confidence": 1.0, "voiced": 0.0}
    return Song(
        seconds=seconds,
        beats=downbeats,
        downbeats=downbeats,
        bars=(),
        meter=None,
        tempo_bpm=60.0 if downbeats else 0.0,
        tempi=(),
        beat_confidence=1.0,
        downbeat_confidence=1.0,
        sections=(
            Section(start=0.0, stop=half, role=Role.VERSE, number=1, energy=0.0, **section),
            Section(start=half, stop=seconds, role=Role.CHORUS, number=1, energy=1.0, **section),
        ),
        energy=np.repeat(np.array([0.0, 1.0], np.float32), max(1, int(seconds * 5))),
        voice=voice,
        voice_source=VoiceSource.STEM if known else VoiceSource.SPECTRUM,
    )


def cuts_of(song: Song) -> list[float]:
    shots = propose(Request(audio="a.wav"), song).shots
    assert len({shot.name for shot in shots}) == len(shots)
    return [shot.start for shot in shots]


def test_cuts_lie_on_downbeats_and_are_closer_where_the_song_is_strong() -> None:
    song = a_song(120.0)
    cuts = cuts_of(song)
    assert all(min(abs(cut - beat) for beat in song.downbeats) < 0.001 for cut in cuts[1:])
    weak = [after - before for before, after in pairwise(cuts) if after < 60]
    strong = [after - before for before, after in pairwise(cuts) if before > 60]
    assert np.mean(weak) > 1.5 * np.mean(strong)


def test_sections_that_sound_alike_are_said_to_and_others_not() -> None:
    song = a_song(40.0)
    alone = replace(song, sections=(song.sections[0], replace(song.sections[1], letter="B")))
    said = ["\n".join(sum(propose(Request(audio="a.wav"), one).remarks.before.values(), ())) for one in (song, alone)]
    assert [text.count("like other parts A") for text in said] == [2, 0]
    assert "like other parts" not in said[1]


@given(st.lists(st.tuples(st.floats(0, 110), st.floats(0.3, 40)), max_size=8), st.sampled_from([None, 1.0, 2.0]))
@settings(max_examples=40, deadline=None)
def test_no_cut_lies_in_a_voice_that_is_known(spans: list[tuple[float, float]], bar: float | None) -> None:
    voice: list[Span] = []
    for start, length in sorted(spans):
        if not voice or start > voice[-1].stop + 0.1:
            voice.append(Span(start=start, stop=min(120.0, start + length)))
    cuts = cuts_of(a_song(120.0, bar=bar, voice=tuple(voice)))
    assert not [cut for cut in cuts for span in voice if span.start + 0.001 < cut < span.stop - 0.001]


@pytest.mark.parametrize("seconds", [0.2, 3.0, 10.0, 10_800.0])
@pytest.mark.parametrize("bar", [None, 2.0])
def test_any_length_has_shots_that_can_be_planned(seconds: float, bar: float | None) -> None:
    song = a_song(seconds, bar=bar, voice=(Span(start=0.0, stop=seconds),), known=False)
    made = propose(Request(audio="a.wav"), song)
    planned = plan(Request(audio="a.wav", shots=made.shots, full=True), seconds)
    assert planned.frames == math.ceil(seconds * 16)
    assert len(planned.shots) <= 700


def test_a_storyboard_is_proposed_for_speech_noise_and_silence(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(1)
    for name, samples in {"noise": rng.standard_normal(16_000 * 12) / 9, "silence": np.zeros(16_000 * 3)}.items():
        sound, target = (
            write_sound(tmp_path / f"{name}.wav", samples.astype(np.float32)[:, None], 16_000),
            tmp_path / f"{name}.toml",
        )
        assert run_here(capsys, "storyboard", sound, "-o", target).code == 0
        assert plan(request_of(target), probe_sound(sound).seconds).frames == (192 if name == "noise" else 48)


def test_a_proposal_is_never_written_over_work(
    write: Write, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = write(BOARD)
    sound = tmp_path / "tune.flac"
    done = run_here(capsys, "storyboard", sound, "-o", mine)
    assert (done.code, mine.read_text()) == (2, BOARD)
    assert "may hold your work" in done.err
    assert run_here(capsys, "storyboard", sound, "-o", mine, "--replace", "--prompt", "moon", "-q").code == 0
    assert request_of(mine).prompt == "moon"
    assert all("moon" in (shot.prompt or "") for shot in request_of(mine).shots)


# there and back


def requests(tmp_path: Path) -> dict[str, Any]:
    return {
        "audio": tmp_path / "tune.flac",
        "shots": [
            {"name": "a", "prompt": 'says "hi" \\ \x7f', "seed": 4},
            {"start": 0.7, "cut": "continue", "section": "verse-1", "negative_prompt": "é\n\t"},
            {"start": 1 / 3 + 1, "ref_image": tmp_path / "cover.png", "drive": "vocals"},
            {"start": 2.0, "drive": tmp_path / "mix"},
        ],
        "full": True,
        "width": 96,
        "height": 160,
        "sigmas": (1.0, 0.5),
        "crf": 30,
        "clip_seeds": (9, 8),
        "drive": "vocals+mix",
    }


@pytest.mark.parametrize("name", ["again.toml", "again.json"])
def test_what_is_written_is_read_back(write: Write, tmp_path: Path, cover: Path, name: str) -> None:
    (tmp_path / "cover.png").write_bytes(cover.read_bytes())
    (tmp_path / "mix").write_bytes(cover.read_bytes())  # a file that is called as what drives else
    request = Request(**requests(tmp_path))
    target = write(storyboard_text(request, tmp_path / name), name)
    back = request_of(target).replace(storyboard=None)
    assert [round(shot.start, 5) for shot in back.shots] == [round(shot.start, 5) for shot in request.shots]
    assert back.replace(shots=()) == request.replace(shots=())
    assert [vars(shot) | {"start": 0} for shot in back.shots] == [vars(shot) | {"start": 0} for shot in request.shots]


def test_storyboard_video_storyboard(
    write: Write, tmp_path: Path, cover: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own.png").write_bytes(cover.read_bytes())
    own = 'seed = 3\nref_image = "own.png"\ndrive = "tune.flac"'
    board = write(BOARD.replace("seed = 3", own).replace("width = 96", "width = 64"))
    video, again = tmp_path / "song.mp4", tmp_path / "again.toml"
    made = run_here(capsys, board, "--engine", "draft", "--height", "64", "-o", video)
    assert made.code == 0, made.err
    with monkeypatch.context() as patch:
        patch.delattr("soundreel.media.video.scan_packets")  # its recipe is in its header, however long it is
        assert run_here(capsys, "storyboard", video, "-o", again).code == 0
    first, second = request_of(board), request_of(again)
    assert second.shots == first.shots
    assert (second.prompt, second.seed, second.sampling, second.height) == (first.prompt, 7, first.sampling, 64)
    once_more = generate(second.replace(output=str(tmp_path / "again.mp4")))
    assert [clip.seed for clip in once_more.plan.clips] == [clip.seed for clip in plan(first, 9.2).clips]


def test_the_storyboard_of_another_song_is_said(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    board = write(BOARD.replace("[defaults]", f'song_sha256 = "{"0" * 64}"\n\n[defaults]', 1))
    done = run_here(capsys, "plan", board, "--engine", "draft")
    assert done.code == 0
    assert "song.toml was made for another song than this tune.flac" in done.out


def test_options_win_over_defaults(write: Write, capsys: pytest.CaptureFixture[str]) -> None:
    board = write(BOARD)
    done = run_here(
        capsys, "plan", board, "--engine", "draft", "--json", "--audio-start", "1", "--frames", "20", "--seed", "9"
    )
    found = json.loads(done.out)
    assert (found["frames"], found["audio_start"], found["seed"], found["width"]) == (20, 1.0, 9, 96)
    assert [shot["name"] for shot in found["shots"]] == ["intro", "verse"]
