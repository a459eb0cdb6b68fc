"""A signal at a random moment of every stage of a render: nothing is lost, and what is said is true."""

import json
import os
import random
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pytest

from command import Outcome, files_below, finish, run_here, start
from media_files import quick_sound
from moments import DRAFT_STAGES, NATIVE_STAGES, Marks, moment, read_marks
from soundreel.media.video import read_frames

PROGRAM = (str(Path(__file__).with_name("moments.py")),)
LONG_ROUNDS = 12

DRAFT = ("--size", "64x64", "--crf", "8", "--frames", "35", "--infer-frames", "8", "--engine", "draft")


@dataclass(frozen=True)
class Render:
    """A command of some clips, and what comes of it when nobody disturbs it."""

    words: tuple[str, ...]
    clips: int
    frames: list[bytes]
    marks: Marks

    @classmethod
    def undisturbed(cls, folder: Path, clips: int, *words: str) -> Self:
        """Rendered into a folder."""
        render = cls(words, clips, [], [])
        assert finish(start(folder / "marks", "0", "0", *render.command(folder), program=PROGRAM)).code == 0
        return cls(words, clips, frames_of(folder / "a.mp4"), read_marks(folder / "marks"))

    def command(self, place: Path) -> list[str]:
        """The words of it, into some folder."""
        return ["generate", *self.words, "-o", str(place / "a.mp4"), "--progress", "json"]


def frames_of(video: Path) -> list[bytes]:
    return [frame.tobytes() for frame in read_frames(video)]


@pytest.fixture(scope="module")
def draft(tmp_path_factory: pytest.TempPathFactory, tune: Path) -> Render:
    folder = tmp_path_factory.mktemp("draft")
    sound = quick_sound(tune, tmp_path_factory.mktemp("quick"))
    return Render.undisturbed(folder, 5, str(sound), *DRAFT, "--interpolate", "motion")


@pytest.fixture(scope="module")
def native(tmp_path_factory: pytest.TempPathFactory) -> Render:
    pytest.importorskip("torch", reason="the packages of soundreel[native] are not here")
    pytest.importorskip("diffusers", reason="the packages of soundreel[native] are not here")
    videos = pytest.importorskip("native_videos")
    if not videos.GOLDEN.is_dir():
        pytest.skip("../shared/golden is not here")
    words = (str(videos.NATIVE["audio"]), *videos.AS_OPTIONS, "--steps", "2", "--no-keep-work")
    return Render.undisturbed(tmp_path_factory.mktemp("native"), videos.CLIPS, *words)


@pytest.fixture
def disturb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[[Render, str, int], None]:
    """Stops a render at a random moment, then gives the same command again."""

    def run(render: Render, stage: str, seed: int) -> None:
        chance, place = random.Random(f"{stage} {seed}"), tmp_path / "out"
        stop = chance.choice([signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
        when = moment(render.marks, stage, chance)
        if when.isdecimal() and chance.random() < 0.3:
            when += f",{int(when) + chance.randrange(1, 1000)}"  # once more, while it tidies up
        words = (tmp_path / "marks", str(stop.value), when, *render.command(place))
        done = finish(start(*words, program=PROGRAM))
        told = f"{stop.name} at {when}: {done}"
        whole, sampled = numbers(place, "clip_?????_????????.json"), numbers(place, "clip_*.latents.json")
        assert not (place / "a.mp4").exists() or frames_of(place / "a.mp4") == render.frames, told
        if stop is signal.SIGKILL:
            assert done.code in {-stop, 0}, told
            if chance.random() < 0.5 and cut_power(place, chance):
                whole, sampled = set(), set()
        elif done.code != -stop:  # a SIGTERM before the first line of ours
            assert what_was_said(done) in may_be_said(place, render.clips, len(whole), len(sampled - whole)), told
            assert not list(place.rglob("*.tmp")), told
        again = run_here(capsys, *render.command(place))
        drawn = {event["clip"] for event in again.events if event.get("stage") == "render"}
        assert again.code == 0, told
        assert frames_of(place / "a.mp4") == render.frames, told
        assert not drawn & (whole | sampled), told
        assert files_below(place) == ["a.mp4"], told

    return run


def numbers(place: Path, pattern: str) -> set[int]:
    """Of the clips that have such a file."""
    return {int(path.name.split("_")[1]) for path in place.rglob(pattern)}


def what_was_said(done: Outcome) -> tuple[int, str]:
    """The exit code, and the message in the last event; before events are told, and after, it is a line."""
    last = (done.err.splitlines() or [""])[-1]
    if not last.startswith("{"):
        return done.code, last.removeprefix("soundreel: ")
    return done.code, json.loads(last).get("message", "")


def may_be_said(place: Path, clips: int, whole: int, sampled: int) -> list[tuple[int, str]]:
    """Exit codes and messages of a render that was stopped.

    Args:
        whole: number of clips that it has left.
        sampled: number of those beside them that it has left the latents of.
    """
    if (place / "a.mp4").exists():
        return [(0, ""), *stopped("", f", the video is there: {place / 'a.mp4'}")]
    if whole or sampled:
        (work,) = (place / ".soundreel").iterdir()
        latents = f" and the latents of {sampled} more" if sampled else ""
        return stopped(f", {whole} of {clips} clips{latents} are kept, go on with: soundreel resume {work}")
    return stopped("", ", nothing was saved")


def stopped(*what: str) -> list[tuple[int, str]]:
    return [(130, f"cancelled{left}") for left in what]


def cut_power(folder: Path, chance: random.Random) -> bool:
    """The file written last loses its end; returns whether there is one."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.stat().st_size]
    if files:
        last = max(files, key=lambda path: path.stat().st_mtime_ns)
        os.truncate(last, chance.randrange(last.stat().st_size))
    return bool(files)


SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.long) for seed in range(1, LONG_ROUNDS))]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("stage", DRAFT_STAGES)
def test_a_draft_is_stopped(draft: Render, disturb: Callable[[Render, str, int], None], stage: str, seed: int) -> None:
    disturb(draft, stage, seed)


def test_a_stop_while_it_waits_for_a_thread_leaves_nobody_waiting(draft: Render, tmp_path: Path) -> None:
    words = (tmp_path / "marks", str(signal.SIGINT.value), "lock", *draft.command(tmp_path))
    done = finish(start(*words, program=PROGRAM))
    whole = numbers(tmp_path, "clip_?????_????????.json")
    assert what_was_said(done) in may_be_said(tmp_path, draft.clips, len(whole), 0)


@pytest.mark.long
@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("stage", NATIVE_STAGES)
def test_a_native_render_is_stopped(
    native: Render, disturb: Callable[[Render, str, int], None], stage: str, seed: int
) -> None:
    disturb(native, stage, seed)
