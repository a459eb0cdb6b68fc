"""The driving sound: which part of the file is read, and what there is where the file has none."""

import ast
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import soundreel
from media_files import click_train, tone, write_sound
from numbered_sound import RATE, SAMPLES_PER_FRAME, STEP, write_numbered_sound
from soundreel import planning
from soundreel.analysis import analyse
from soundreel.driving_sound import AFTERSOUND_SECONDS, DrivingSound, driving_sound
from soundreel.media.audio import probe_sound, read_model_sound
from soundreel.request import AvAlign, Request
from soundreel.types import Plan

SOURCE = Path(soundreel.__file__).parent

AFTER = round(AFTERSOUND_SECONDS * RATE)


def make_plan(audio: Path, **fields: Any) -> Plan:
    request = Request(audio=audio, **fields)
    return planning.plan(request, probe_sound(audio).seconds)


def frames_in(samples: NDArray[np.float32]) -> list[int]:
    """The number of the frame that each sixteenth of a second holds near its end; -1: silence."""
    heard = samples[SAMPLES_PER_FRAME * 9 // 10 :: SAMPLES_PER_FRAME]
    return [round(float(value) * 32768 / STEP) - 1 for value in heard]


@pytest.fixture
def numbered(tmp_path: Path) -> Path:
    """100 frames, 6.25 s."""
    return write_numbered_sound(tmp_path / "numbered.wav", 100)


class TestOneDoor:
    DOORS = frozenset({"model_sound_blocks", "read_model_sound", "analyse", "features_of"})
    """What hands out sound to be heard or what it does."""

    def test_nobody_else_asks_the_file(self) -> None:
        """Beside the modules that make these functions, and may use them in themselves."""
        makers = {SOURCE / "media" / "audio.py", *(SOURCE / "analysis").glob("*.py")}
        users = {path for path in SOURCE.rglob("*.py") if self._names(path) & self.DOORS} - makers
        assert users == {SOURCE / "driving_sound.py"}

    def test_engines_do_not_open_sound_at_all(self) -> None:
        streams = {"stream_sound", "open_sound", "probe_sound", "sound_file"}
        asking = {path.name for path in (SOURCE / "engines").rglob("*.py") if self._names(path) & streams}
        says = "one plans for itself, and needs the length; the other hands the song itself on to an exported graph"
        assert asking == {"export.py", "input_files.py"}, says

    @staticmethod
    def _names(path: Path) -> set[str]:
        """Every name that a module imports, says or takes from something."""
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        imported = {part for node in nodes if isinstance(node, ast.alias) for part in node.name.split(".")}
        said = {node.id for node in nodes if isinstance(node, ast.Name)}
        return imported | said | {node.attr for node in nodes if isinstance(node, ast.Attribute)}


class TestWindow:
    def test_frame_j_of_the_samples_is_the_sound_of_frame_j(self, numbered: Path) -> None:
        heard = DrivingSound.of(make_plan(numbered, audio_start=2.0, frames=20)).samples(20 / 16)
        assert len(heard) == 20 * SAMPLES_PER_FRAME + AFTER
        assert frames_in(heard) == list(range(32, 52))

    def test_a_little_is_heard_after_the_window(self, numbered: Path) -> None:
        """The sound goes on: what is heard of it is what comes next in the file, and no more."""
        plan = make_plan(numbered, audio_duration=1.0, frames=24)
        heard = DrivingSound.of(plan).samples(plan.seconds)
        assert len(heard) == 24 * SAMPLES_PER_FRAME + AFTER
        assert frames_in(heard) == [*range(16), *[-1] * 8]
        after = heard[RATE : RATE + AFTER]
        assert {round(float(value) * 32768 / STEP) - 1 for value in after} == {16}
        assert not heard[RATE + AFTER :].any()

    def test_where_the_file_ends_there_is_silence_to_the_last_sample(self, numbered: Path) -> None:
        plan = make_plan(numbered, audio_start=5.0, frames=40)
        heard = DrivingSound.of(plan).samples(plan.seconds)
        assert len(heard) == 40 * SAMPLES_PER_FRAME + AFTER
        assert frames_in(heard) == [*range(80, 100), *[-1] * 20]

    @pytest.mark.parametrize("seconds", [0.0, 1.5])
    def test_a_shot_after_the_end_of_the_sound_is_silent(self, numbered: Path, seconds: float) -> None:
        heard = DrivingSound(path=numbered, start=7.0, seconds=0.0).samples(seconds)
        assert len(heard) == round(seconds * RATE) + AFTER
        assert not heard.any()

    def test_the_stream_is_the_same_sound(self, tmp_path: Path) -> None:
        """Of another rate too: what the native engine streams is what the comfyui engine uploads."""
        path = write_sound(tmp_path / "tone.flac", tone(25.0, 44_100), 44_100)
        driving = DrivingSound.of(make_plan(path, audio_start=1.3, full=True))
        streamed = np.concatenate(list(driving.blocks()))
        np.testing.assert_array_equal(streamed, read_model_sound(path, start=1.3))
        assert driving.seconds is not None
        np.testing.assert_array_equal(driving.samples(driving.seconds)[: len(streamed)], streamed)

    def test_shots_hear_the_whole_between_them(self, numbered: Path) -> None:
        plan = make_plan(numbered, audio_start=1.0, frames=90, cuts=(2.25, 6.4))
        whole = DrivingSound.of(plan).samples(plan.seconds)
        shots = [planning.chain_plan(plan, shot) for shot in plan.chains]
        parts = [DrivingSound.of(shot).samples(shot.seconds)[: shot.frames * SAMPLES_PER_FRAME] for shot in shots]
        np.testing.assert_array_equal(np.concatenate(parts), whole[: 90 * SAMPLES_PER_FRAME])


class TestReference:
    """What the official code hears: from the start to the end of the file, however much of it is rendered."""

    def test_the_whole_file(self, numbered: Path) -> None:
        plan = make_plan(numbered, audio_start=2.0, frames=5, av_align="reference")
        heard = np.concatenate(list(driving_sound(plan).blocks()))
        assert frames_in(heard) == list(range(32, 100))

    def test_or_the_seconds_that_were_asked_for_and_nothing_after(self, numbered: Path) -> None:
        plan = make_plan(numbered, audio_start=2.0, audio_duration=1.5, frames=5, av_align="reference")
        driving = driving_sound(plan)
        heard = np.concatenate(list(driving.blocks()))
        assert (len(heard), frames_in(heard)) == (24 * SAMPLES_PER_FRAME, list(range(32, 56)))
        assert frames_in(driving.samples(2.0)) == [*range(32, 56), *[-1] * 8]
        assert not driving.samples(2.0)[24 * SAMPLES_PER_FRAME :].any()

    @pytest.mark.parametrize("align", AvAlign)
    def test_it_is_chosen_by_the_request(self, numbered: Path, align: AvAlign) -> None:
        plan = make_plan(numbered, frames=5, av_align=align)
        kind = DrivingSound.as_reference if align is AvAlign.REFERENCE else DrivingSound.of
        assert driving_sound(plan) == kind(plan)
        assert DrivingSound.as_reference(plan) != DrivingSound.of(plan)


class TestFeatures:
    def test_they_are_of_the_window(self, tmp_path: Path) -> None:
        path = write_sound(tmp_path / "clicks.wav", click_train(8.0, 22_050, every=1.0, first=0.5), 22_050)
        plan = make_plan(path, audio_start=3.0, frames=40)
        features = DrivingSound.of(plan).features(plan.frames)
        assert features.loudness.shape == (40,)
        np.testing.assert_allclose(features.onset_times, [0.5, 1.5], atol=0.02)
        direct = analyse(path, start=3.0, seconds=plan.audio_seconds, frames=40)
        np.testing.assert_array_equal(features.onset, direct.onset)
