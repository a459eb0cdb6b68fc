"""Chains that a process takes by claims: one is sampled while the last clip of the one before goes to the disk."""

import threading
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("torch", reason="the packages of soundreel[native] are not here")
pytest.importorskip("diffusers", reason="the packages of soundreel[native] are not here")

from draft_renders import frames_of
from native_renders import SPEECH, native_request
from soundreel.engines.native import engine as native_engine
from soundreel.errors import MediaError
from soundreel.pipeline import generate
from soundreel.render import claims as claim_files
from soundreel.render.clip_writer import ClipWriter
from soundreel.render.stored_clips import StoredClips
from soundreel.request import Request, WorkOptions
from soundreel.types import Clip, Progress, Stage
from weight_files import needs_golden

pytestmark = needs_golden

HANGS_SECONDS = 120

SHOTS: dict[str, Any] = {
    "audio": SPEECH,
    "width": 64,
    "height": 64,
    "frames": 19,
    "infer_frames": 8,
    "steps": 1,
    "guide_scale": 1.0,
    "cuts": (9 / 16, 14 / 16),
}
"""Three shots: clips 1 and 2, clip 3, clip 4."""


@pytest.fixture
def request_(tmp_path: Path) -> Request:
    return native_request(**SHOTS, output=tmp_path / "a.mp4")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """The frames of a render whose chains nobody shares."""
    folder = tmp_path_factory.mktemp("whole")
    return frames_of(generate(native_request(**SHOTS, output=folder / "a.mp4")).path)


def shared(folder: Path) -> WorkOptions:
    """As a server's worker renders it: others may take chains."""
    return WorkOptions(work_dir=folder / "work", is_shared=True)


def claimed(folder: Path) -> set[str]:
    """The chains that somebody has, by number."""
    return {path.name[len("claim_") :][:5].lstrip("0") for path in folder.rglob("claim_*")}


class Writing:
    """Holds the writer's thread in a clip, before its pictures are encoded, until it may go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, clip: int, error: Exception | None = None) -> None:
        self.may_go_on = threading.Event()
        self.encoded: list[int] = []
        encode = ClipWriter._encode

        def held(writer: ClipWriter, processed: Any, rendered: Any, *given: Any) -> None:
            number = rendered.clip.index + 1
            if number == clip and number not in self.encoded:
                assert self.may_go_on.wait(HANGS_SECONDS)
                if error is not None:
                    raise error
            encode(writer, processed, rendered, *given)
            self.encoded.append(number)

        monkeypatch.setattr(ClipWriter, "_encode", held)


def test_the_next_shot_is_sampled_while_the_last_clip_of_the_one_before_is_written(
    request_: Request, whole: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writing = Writing(monkeypatch, clip=2)
    seen: list[set[str]] = []

    def hear(progress: Progress) -> None:
        if progress.stage is Stage.RENDER and progress.clip == 3 and not writing.may_go_on.is_set():
            seen.append(claimed(tmp_path))
            writing.may_go_on.set()
        elif progress.stage is Stage.RENDER and progress.clip == 4:
            seen.append(claimed(tmp_path))

    made = generate(request_, hear, work=shared(tmp_path))
    assert writing.encoded == [1, 2, 3, 4]
    assert seen[0] == {"1", "2"}, "nobody else takes the shot that is not on the disk yet"
    assert seen[-1] <= {"2", "3"}, "what is on the disk is nobody's"
    assert frames_of(made.path) == whole
    assert not claimed(tmp_path)


def test_words_sound_and_picture_are_read_once_for_all_shots_of_a_process(
    request_: Request, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun: list[str] = []
    for name in ("prepare_scene", "ShotReferences"):
        before = getattr(native_engine, name)

        def noted(*given: Any, name: str = name, before: Any = before) -> Any:
            begun.append(name)
            return before(*given)

        monkeypatch.setattr(native_engine, name, noted)
    generate(request_, work=shared(tmp_path))
    assert sorted(begun) == ["ShotReferences", "prepare_scene"]


def test_a_claim_that_is_lost_costs_no_clip_that_was_on_its_way(
    request_: Request, whole: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Somebody took this process for dead; the shot in hand is rendered by whoever has it, here this process again."""
    monkeypatch.setattr(claim_files, "BEAT_SECONDS", 0.01)
    writing = Writing(monkeypatch, clip=2)
    is_lost = threading.Event()
    beat = claim_files.Claim.beat

    def beat_and_tell(claim: claim_files.Claim) -> None:
        beat(claim)
        if claim._is_lost:
            is_lost.set()

    monkeypatch.setattr(claim_files.Claim, "beat", beat_and_tell)

    def hear(progress: Progress) -> None:
        if progress.stage is Stage.RENDER and progress.clip == 3 and not writing.may_go_on.is_set():
            for path in tmp_path.rglob("claim_00002_*"):
                path.unlink()
            assert is_lost.wait(HANGS_SECONDS)
            writing.may_go_on.set()

    made = generate(request_, hear, work=shared(tmp_path))
    assert sorted(writing.encoded) == [1, 2, 3, 4], "none of them twice"
    assert frames_of(made.path) == whole


@pytest.mark.parametrize(
    ("clip", "is_shared"),
    [
        (2, True),
        *(pytest.param(clip, shared, marks=pytest.mark.long) for clip, shared in ((1, False), (2, False), (4, True))),
    ],
)
def test_a_clip_that_the_disk_loses_again_is_written_again(
    request_: Request, whole: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clip: int, is_shared: bool
) -> None:
    kept: list[int] = []
    keep = StoredClips.keep

    def lose(clips: StoredClips, one: Clip, *given: Any) -> Any:
        made = keep(clips, one, *given)
        kept.append(one.index + 1)
        if kept.count(clip) == 1:
            clips._intact.discard(clip - 1)
        return made

    monkeypatch.setattr(StoredClips, "keep", lose)
    made = generate(request_, work=WorkOptions(work_dir=tmp_path / "work", is_shared=is_shared))
    assert kept.count(clip) > 1
    assert frames_of(made.path) == whole
    assert not claimed(tmp_path)


def test_a_clip_that_cannot_be_written_ends_the_shot_that_was_begun_meanwhile(
    request_: Request, whole: list[bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        writing = Writing(patched, clip=2, error=MediaError("the disk is full"))

        def hear(progress: Progress) -> None:
            if progress.stage is Stage.RENDER and progress.clip == 3:
                writing.may_go_on.set()

        with pytest.raises(MediaError, match="the disk is full"):
            generate(request_, hear, work=shared(tmp_path))
    assert writing.encoded[0] == 1
    assert 2 not in writing.encoded
    assert not claimed(tmp_path)
    assert frames_of(generate(request_, work=shared(tmp_path)).path) == whole
