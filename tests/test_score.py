"""Scores of videos whose truth is known: in sync, moved by a known time, noise, broken, and what is no video."""

import json
import re
import tracemalloc
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from benchmarks import scoring
from benchmarks.scored_videos import (
    RATE,
    Picture,
    clicks,
    draft,
    irregular_times,
    loudness,
    moved_sound,
    noise_pictures,
    sound_of,
    speaking,
    video_with,
    with_sound,
)
from benchmarks.songs import synthesize
from PIL import Image

import soundreel
from command import REPO, run_here
from media_files import tone, write_sound
from soundreel.analysis.spectrum import SAMPLE_RATE
from soundreel.errors import Cancelled, InputError, MediaError
from soundreel.media.video import probe_video, read_frames
from soundreel.pipeline import generate
from soundreel.request import Request
from soundreel.scoring import Measured, face_networks, read_scores, score
from soundreel.types import Progress, Stage
from videos_of_others import recipe
from videos_of_others import video_with as video_of_others

MEDIA = REPO.parent / "shared" / "media"
SECONDS = 8.0
NEAR_MS, NEAR_LAG_MS = 20, 40

needs_faces = pytest.mark.skipif(bool(face_networks.missing()), reason="the packages that score lips are not here")
needs_portrait = pytest.mark.skipif(not (MEDIA / "pose.png").exists(), reason="the portrait is not here")


def sure(measured: Measured | None) -> Measured:
    assert measured is not None
    return measured


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("scored")


@pytest.fixture(scope="module")
def click_draft(folder: Path) -> Path:
    return draft(clicks(np.arange(0.25, SECONDS, 0.5), SECONDS), folder / "clicks.mp4")


@pytest.fixture(scope="module")
def irregular_draft(folder: Path) -> Path:
    return draft(clicks(irregular_times(7, SECONDS), SECONDS), folder / "irregular.mp4")


def delay_sound(video: Path, target: Path, seconds: Fraction) -> None:
    """Copy all packets of a video, those of its sound with later timestamps."""
    with av.open(str(video)) as source, av.open(str(target), "w") as copy:
        streams = {stream.index: copy.add_stream_from_template(stream) for stream in source.streams}
        for packet in source.demux():
            if packet.dts is None or packet.pts is None:
                continue
            if packet.stream.type == "audio":
                packet.pts += round(seconds / packet.time_base)
                packet.dts += round(seconds / packet.time_base)
            packet.stream = streams[packet.stream.index]
            copy.mux(packet)


class TestBeat:
    def test_a_draft_of_clicks_is_on_the_beat(self, click_draft: Path) -> None:
        beat = score(click_draft).beat
        assert beat is not None
        assert beat.offset_ms == pytest.approx(0, abs=NEAR_MS)
        assert beat.confidence > 0.7
        for aligned in (beat.onsets, sure(beat.beats)):
            assert aligned.value > 0.9
            assert aligned.control < 0.4
            assert aligned.chance < 0.02

    def test_frames_cannot_be_nearer_than_half_of_one(self, tmp_path: Path) -> None:
        """Every click comes 25 ms before the frame that is nearest to it."""
        beat = score(draft(clicks(np.arange(0.1, SECONDS, 0.5), SECONDS), tmp_path / "a.mp4"), lips=False).beat
        assert beat is not None
        assert beat.offset_ms == pytest.approx(0, abs=NEAR_MS)

    @pytest.mark.parametrize("milliseconds", [187.5, -187.5, 100, -100, 400, -400])
    def test_a_moved_sound_is_found_out(self, irregular_draft: Path, tmp_path: Path, milliseconds: float) -> None:
        sound = moved_sound(clicks(irregular_times(7, SECONDS), SECONDS), milliseconds)
        beat = score(with_sound(irregular_draft, sound, tmp_path / "moved.mp4"), lips=False).beat
        assert beat is not None
        assert beat.offset_ms == pytest.approx(milliseconds, abs=NEAR_MS)
        assert beat.onsets.value < beat.onsets.control + 0.1

    def test_a_steady_beat_may_be_a_beat_later(self, click_draft: Path, tmp_path: Path) -> None:
        sound = moved_sound(clicks(np.arange(0.25, SECONDS, 0.5), SECONDS), 187.5)
        beat = score(with_sound(click_draft, sound, tmp_path / "moved.mp4"), lips=False).beat
        assert beat is not None
        assert beat.offset_ms == pytest.approx(187.5, abs=NEAR_MS)
        assert beat.rival_ms == pytest.approx(-312.5, abs=NEAR_MS)

    @pytest.mark.parametrize(("milliseconds", "told"), [(187.5, 162.5), (-187.5, -212.5), (50, 0)])
    def test_a_steady_beat_between_frames_is_known_to_half_of_one(
        self, tmp_path: Path, milliseconds: float, told: float
    ) -> None:
        """All clicks come 25 ms before a frame, and nothing in the pictures tells that from a sound that is early."""
        sound = clicks(np.arange(0.1, SECONDS, 1.0), SECONDS)
        drawn = draft(sound, tmp_path / "a.mp4")
        beat = score(with_sound(drawn, moved_sound(sound, milliseconds), tmp_path / "moved.mp4"), lips=False).beat
        assert beat is not None
        assert beat.offset_ms == pytest.approx(told, abs=2)

    @pytest.mark.parametrize("picture", [None, REPO / "examples" / "cover.png"])
    def test_drafts_of_music_follow_it(self, tmp_path: Path, picture: Path | None) -> None:
        _, sound = synthesize("4/4", 5, 10)
        path = write_sound(tmp_path / "song.wav", sound[:, None], SAMPLE_RATE)
        request = Request(
            audio=path, ref_image=picture, engine="draft", width=96, height=96, full=True, output=tmp_path / "a.mp4"
        )
        beat = score(generate(request).path, lips=False).beat
        assert beat is not None
        assert beat.offset_ms == pytest.approx(0, abs=NEAR_MS)
        assert beat.onsets.value > beat.onsets.control + 0.15
        assert beat.onsets.chance < 0.02

    @pytest.mark.parametrize("seed", [1, 2])
    def test_noise_scores_like_its_control(self, tmp_path: Path, seed: int) -> None:
        sound = clicks(irregular_times(seed, SECONDS), SECONDS)
        beat = score(video_with(noise_pictures(seed, 128), sound, tmp_path / "a.mp4"), lips=False).beat
        assert beat is not None
        assert beat.onsets.value == pytest.approx(beat.onsets.control, abs=0.15)
        assert beat.onsets.chance > 0.02
        assert beat.offset_ms is None

    @pytest.mark.parametrize("ending", [".mkv", ".mov"])
    def test_a_sound_that_sets_in_late_by_its_timestamps(
        self, irregular_draft: Path, tmp_path: Path, ending: str
    ) -> None:
        late = tmp_path / f"late{ending}"
        delay_sound(irregular_draft, late, Fraction(3, 16))
        beat = score(late, lips=False).beat
        assert beat is not None
        assert beat.offset_ms == pytest.approx(187.5, abs=NEAR_MS)

    def test_scores_of_one_video_are_the_same_again(self, irregular_draft: Path) -> None:
        told = score(irregular_draft)
        assert (told.frames, told.seconds) == (128, SECONDS)
        assert score(irregular_draft) == told


def portrait() -> Picture:
    return np.asarray(Image.open(MEDIA / "pose.png").convert("RGB").resize((384, 216)))


@needs_faces
@needs_portrait
class TestLips:
    @pytest.mark.parametrize(("milliseconds", "fps"), [(0, 16), (187.5, 25), (-187.5, 16)])
    def test_lips_and_their_lag(self, tmp_path: Path, milliseconds: float, fps: int) -> None:
        sound = sound_of(MEDIA / "talk.wav")
        pictures = speaking(portrait(), loudness(sound, int(len(sound) / RATE * fps), fps))
        video = video_with(pictures, moved_sound(sound, milliseconds), tmp_path / "a.mp4", fps=fps)
        lips = score(video, lips=True).lips
        assert lips is not None
        assert lips.lag_ms == pytest.approx(milliseconds, abs=NEAR_LAG_MS)
        assert sure(lips.correlation).value > 0.6
        assert sure(lips.correlation).control < 0.4
        assert sure(lips.correlation).chance < 0.02
        assert lips.faces > 0.95

    @pytest.mark.parametrize("seed", [4, 5])
    def test_lips_that_follow_no_voice_score_like_their_control(self, tmp_path: Path, seed: int) -> None:
        sound, random = sound_of(MEDIA / "talk.wav"), np.random.default_rng(seed)
        openings = np.interp(np.arange(80), np.arange(0, 80, 3), random.random(27))
        lips = score(video_with(speaking(portrait(), openings), sound, tmp_path / "a.mp4"), lips=True).lips
        assert lips is not None
        assert sure(lips.correlation).value == pytest.approx(sure(lips.correlation).control, abs=0.2)

    def test_a_picture_that_only_speaks_is_not_frozen(self, tmp_path: Path) -> None:
        openings = 0.5 + 0.5 * np.sin(np.arange(64))
        sound = sound_of(MEDIA / "talk.wav", 4.0)
        assert score(video_with(speaking(portrait(), openings), sound, tmp_path / "a.mp4")).frozen == ()


@needs_faces
def test_without_a_face_lips_are_not_scored(click_draft: Path) -> None:
    told = score(click_draft, lips=True)
    assert told.lips is not None
    assert (told.lips.faces, told.lips.correlation, told.lips.lag_ms) == (0, None, None)
    assert "lips are not scored: no face is seen for long" in told.notes


class TestDrift:
    def test_what_fades_drifts(self, tmp_path: Path) -> None:
        random = np.random.default_rng(0)
        picture = random.integers(0, 256, (96, 96, 3)).astype(np.float32)
        faded = [np.roll(picture, 3 * j, axis=1) * (1 - j / 400) for j in range(240)]
        drift = score(video_with([f.astype(np.uint8) for f in faded], None, tmp_path / "a.mp4")).drift
        assert drift is not None
        assert drift.colour.value > 3 * drift.colour.control > 0
        assert drift.contrast.value < 0.8

    def test_frozen_and_black_stretches(self, tmp_path: Path) -> None:
        moving = list(noise_pictures(0, 32))
        frames = [*moving, *[moving[-1]] * 32, *[np.zeros((96, 96, 3), np.uint8)] * 16, *moving]
        sound = (0.1 * np.random.default_rng(0).standard_normal(RATE * 7)).astype(np.float32)
        told = score(video_with(frames, sound, tmp_path / "a.mp4"), lips=False)
        (frozen,), (black,) = told.frozen, told.black
        assert (frozen.start, frozen.stop) == pytest.approx((2.06, 4.0), abs=0.2)
        assert (black.start, black.stop) == pytest.approx((4.0, 5.0), abs=0.01)

    def test_flicker_in_silence(self, tmp_path: Path) -> None:
        frames = [np.full((64, 64, 3), 120 + (20 * (j % 2) if j >= 48 else 0), np.uint8) for j in range(96)]
        sound = np.concatenate([tone(3, RATE)[:, 0], np.zeros(3 * RATE, np.float32)])
        flicker = score(video_with(frames, sound, tmp_path / "a.mp4")).flicker
        assert flicker is not None
        assert flicker.value > 10 * flicker.control + 5


class TestShots:
    def test_the_recipe_tells_them_and_the_worst_are_named(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path, tune: Path
    ) -> None:
        words = ["--engine", "draft", "--width", "64", "--height", "64", "--full", "--cut", "2", "--cut", "4.5"]
        video = tmp_path / "a.mp4"
        assert run_here(capsys, tune, *words, "-o", video).code == 0
        told = json.loads(run_here(capsys, "score", video, "--json", "--worst", "2").out)
        assert [shot["start"] for shot in told["shots"]] == [0, 2, 4.5]
        assert len(told["worst"]) == 2
        weakness = [told["shots"][index]["weakness"] for index in told["worst"]]
        assert weakness == sorted((shot["weakness"] for shot in told["shots"]), reverse=True)[:2]
        shown = run_here(capsys, "score", video, "--worst", "2").out.splitlines()
        assert [line.split()[0] for line in shown[-2:]] == [str(index + 1) for index in told["worst"]]

    def test_cuts_tell_them_where_there_is_no_recipe(self, tmp_path: Path) -> None:
        cover = np.asarray(Image.open(REPO / "examples" / "cover.png").convert("RGB").resize((96, 96)))
        shots = (cover, 255 - cover, np.rot90(cover))
        frames = [np.roll(shot, j, axis=1) for shot in shots for j in range(24)]
        told = score(video_with(frames, None, tmp_path / "a.mp4"))
        assert [shot.start for shot in told.shots] == [0, 1.5, 3.0]

    def test_a_broken_shot_is_the_weakest(self, tmp_path: Path) -> None:
        times = irregular_times(3, SECONDS)
        whole = draft(clicks(times, SECONDS), tmp_path / "whole.mp4")
        pictures = list(read_frames(whole))
        pictures[64:] = [pictures[64]] * (len(pictures) - 64)
        told = score(video_with(pictures, clicks(times, SECONDS), tmp_path / "a.mp4"), lips=False)
        assert told.worst(1)[0].weak_in in {"still", "beat"}


class TestRenders:
    WORDS = ("--engine", "draft", "--width", "64", "--height", "64", "--frames", "48")

    def test_a_render_is_scored_and_info_shows_it(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path, tune: Path
    ) -> None:
        video = tmp_path / "a.mp4"
        done = run_here(capsys, tune, *self.WORDS, "--score", "-o", video, "--progress", "json")
        (result,) = [event for event in done.events if event["event"] == "result"]
        told = json.loads(run_here(capsys, "info", video, "--json").out)["recipe"]["scores"]
        assert told == result["scores"] == score(video).to_data()
        rows = run_here(capsys, "info", video).out.splitlines()
        assert [row for row in rows if row.startswith("onsets ")]
        assert "score" in {event.get("stage") for event in done.events}

    def test_the_video_is_otherwise_the_same(self, tmp_path: Path, tune: Path) -> None:
        def frames(name: str, *, asked: bool) -> list[bytes]:
            request = Request(
                audio=tune, engine="draft", width=64, height=64, frames=20, score=asked, output=tmp_path / name
            )
            return [frame.tobytes() for frame in read_frames(generate(request).path)]

        assert frames("a.mp4", asked=True) == frames("b.mp4", asked=False)

    def test_without_a_recipe_the_result_alone_has_them(self, tmp_path: Path, tune: Path) -> None:
        request = Request(
            audio=tune, engine="draft", width=64, height=64, frames=40, score=True, write_recipe=False,
            output=tmp_path / "a.mp4",
        )  # fmt: skip
        result = generate(request)
        assert read_scores(result.recipe["scores"]) is not None
        assert "soundreel" not in probe_video(result.path).metadata

    def test_ctrl_c_is_heard_while_it_is_scored(self, tmp_path: Path, tune: Path) -> None:
        def stop(progress: Progress) -> None:
            if progress.stage is Stage.SCORE:
                raise Cancelled("enough")

        request = Request(
            audio=tune, engine="draft", width=64, height=64, frames=20, score=True, output=tmp_path / "a.mp4"
        )
        with pytest.raises(Cancelled):
            generate(request, stop)
        assert not (tmp_path / "a.mp4").exists()
        assert read_scores(generate(request).recipe["scores"]) is not None


class TestStrangers:
    """What was not made by soundreel, and what is no video."""

    def test_without_sound(self, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
        video = video_with(noise_pictures(0, 20), None, tmp_path / "a.mp4")
        done = run_here(capsys, "score", video)
        assert (done.code, done.err) == (0, "")
        assert "it has no sound: neither beat nor lips are scored" in done.out

    def test_silence(self, tmp_path: Path) -> None:
        told = score(video_with(noise_pictures(0, 40), np.zeros(3 * RATE, np.float32), tmp_path / "a.mp4"))
        assert told.beat is None
        assert "the beat is not scored: the sound has too few accents" in told.notes

    def test_one_colour(self, tmp_path: Path) -> None:
        sound = clicks(irregular_times(1, 4), 4)
        told = score(video_with([np.full((64, 64, 3), 90, np.uint8)] * 64, sound, tmp_path / "a.mp4"))
        assert told.beat is None
        assert "the beat is not scored: the movement has too few accents" in told.notes
        assert sum(stretch.seconds for stretch in told.frozen) > 1.5

    @pytest.mark.parametrize("frames", [1, 2, 3])
    def test_hardly_any_frame(self, tmp_path: Path, frames: int) -> None:
        told = score(video_with(noise_pictures(0, frames), np.zeros(RATE, np.float32), tmp_path / "a.mp4"))
        assert (told.frames, told.beat, told.drift, len(told.shots)) == (frames, None, None, 1)

    @pytest.mark.parametrize("size", [2, 6, 18])
    def test_hardly_any_pixel(self, tmp_path: Path, size: int) -> None:
        sound = clicks(irregular_times(1, 3), 3)
        assert score(video_with(noise_pictures(0, 48, size=size), sound, tmp_path / "a.mp4")).frames == 48

    def test_what_is_no_video(self, capsys: pytest.CaptureFixture[str], tmp_path: Path, tune: Path) -> None:
        broken = tmp_path / "broken.mp4"
        broken.write_bytes(b"no video at all" * 99)
        expected = {tune: 3, broken: 3, tmp_path / "none.mp4": 2}
        for path, code in expected.items():
            done = run_here(capsys, "score", path)
            assert (done.code, done.out, done.err.count("\n")) == (code, "", 1), path

    def test_a_file_that_is_cut_off(self, tmp_path: Path, irregular_draft: Path) -> None:
        content, cut = irregular_draft.read_bytes(), tmp_path / "cut.mp4"
        cut.write_bytes(content[: len(content) // 2])
        assert "the file is cut off: what is there is scored" in score(cut).notes

    @pytest.mark.parametrize(
        "clips",
        [
            [{"index": 0, "seed": 0, "start": -5, "frames": 4, "shot": 0}],
            [{"index": 0, "seed": 0, "start": 0, "frames": 0, "shot": 0}],
            [{"index": 0, "seed": 0, "start": 0, "frames": "4", "shot": 0}],
            [{"index": 0, "seed": 0, "start": 900, "frames": 4, "shot": 0}],
            [{"index": 0, "seed": 0, "start": 0, "frames": 10**30, "shot": {}}],
            [{"index": 0, "seed": 0, "start": 0, "frames": 4, "shot": k} for k in range(3)],
        ],
    )
    def test_a_recipe_that_cannot_be_true(self, tmp_path: Path, clips: list[dict[str, Any]]) -> None:
        told = recipe() | {"plan": {"frames": 4, "audio_seconds": 0.25, "clips": clips}}
        assert len(score(video_of_others(told, tmp_path / "a.mp4")).shots) == 1

    def test_a_damaged_recipe_is_said(self, tmp_path: Path) -> None:
        told = score(video_of_others(recipe() | {"notes": 5}, tmp_path / "a.mp4"))
        assert "shots are taken to lie between hard cuts" in told.notes[0]

    @pytest.mark.parametrize(
        "damage",
        [
            {"seconds": "long"},
            {"shots": [3]},
            {"black": [{"start": 0.0, "stop": float("inf")}]},
            {"black": [{"start": float("nan"), "stop": 1.0}]},
            {"frames": 10**400},
            {"beat": {"onsets": {}}},
        ],
    )
    def test_scores_that_are_none_are_said(
        self, capsys: pytest.CaptureFixture[str], tmp_path: Path, click_draft: Path, damage: dict[str, Any]
    ) -> None:
        scores = score(click_draft, lips=False).to_data() | damage
        video = video_of_others(recipe() | {"scores": scores}, tmp_path / "a.mp4")
        assert "damaged" in run_here(capsys, "info", video).out

    def test_a_number_of_shots_that_cannot_be(self, capsys: pytest.CaptureFixture[str], click_draft: Path) -> None:
        for word in ("0", "-1", "few"):
            done = run_here(capsys, "score", click_draft, f"--worst={word}")
            assert (done.code, done.out) == (2, ""), word

    def test_missing_packages_are_named(self, monkeypatch: pytest.MonkeyPatch, click_draft: Path) -> None:
        monkeypatch.setattr(face_networks, "missing", lambda: "ai-edge-litert")
        with pytest.raises(InputError, match="pip install"):
            score(click_draft, lips=True)
        told = score(click_draft)
        assert told.lips is None
        assert any("pip install" in note for note in told.notes)


def test_scores_are_kept_as_they_are(click_draft: Path) -> None:
    told = score(click_draft)
    data = json.loads(json.dumps(told.to_data()))
    again = read_scores(data)
    assert again is not None
    assert again.to_data() == told.to_data()


def test_the_public_name(click_draft: Path) -> None:
    assert isinstance(soundreel.score(click_draft), soundreel.Scores)
    with pytest.raises(MediaError):
        soundreel.score(REPO / "examples" / "tune.flac")


def test_memory_does_not_grow_with_the_length(tmp_path: Path) -> None:
    def peak(frames: int) -> int:
        video = video_with(noise_pictures(1, frames, size=160), None, tmp_path / f"{frames}.mp4")
        tracemalloc.start()
        score(video, lips=False)
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        return most

    assert peak(160) < peak(40) + 120 * 2000  # a frame has 77,000 bytes


@pytest.mark.long
def test_the_benchmark_has_tables(capsys: pytest.CaptureFixture[str]) -> None:
    scoring.main(["--seeds", "4", "--size", "64", "96"])
    table = capsys.readouterr().out
    found = re.findall(r"^draft of (?:clicks|a song) +4 +(\S+) +(\S+) ", table, re.MULTILINE)
    assert len(found) == 10
    assert all(abs(float(moved) - float(told)) < NEAR_MS for moved, told in found)
    assert len(re.findall(r"^  score without lips .* of the draft$", table, re.MULTILINE)) == 2
