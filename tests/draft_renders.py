"""Renders of one small request by the draft engine, again and again: broken off, gone on with, drawn anew.

5 clips (5 + 8 + 8 + 8 + 6 frames); only the clips that a command draws are reported as progress.
"""

import json
import os
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from command import SMALL, Outcome, run_here
from soundreel.errors import Cancelled
from soundreel.media.video import read_frames
from soundreel.pipeline import generate
from soundreel.request import Request, WorkOptions
from soundreel.types import Progress, Result, Stage

CLIPS = 5

WORDS = (*SMALL, *["--frames", "35", "--infer-frames", "8", "--engine", "draft"])
"""The same request on the command line."""


class Render:
    """Renders one request again and again, and remembers which clips were drawn."""

    def __init__(self, folder: Path, **fields: Any) -> None:
        self.folder = folder
        small = {"width": 64, "height": 64, "frames": 35, "infer_frames": 8, "engine": "draft"}
        self.request = Request(**({"output": folder / "a.mp4"} | small | fields))
        self.drawn: set[int] = set()
        self.told = ""

    def __call__(self, *, stop_in: int | None = None, **work: Any) -> Result:
        """Render; with `stop_in` cancelled in the middle of that clip."""
        self.drawn = set()

        def listen(progress: Progress) -> None:
            if progress.stage is Stage.RENDER:
                self.drawn.add(progress.clip)
                if progress.clip == stop_in and progress.step > 0:
                    raise Cancelled("enough")

        def begin(render: Any) -> None:
            self.told = render.resumed

        return generate(self.request, listen, on_start=begin, work=WorkOptions(**work))

    def break_off(self, clip: int = 4, **work: Any) -> str:
        """Cancel in `clip`; returns what the user is told."""
        with pytest.raises(Cancelled) as stop:
            self(stop_in=clip, **work)
        return "; ".join(getattr(stop.value, "__notes__", []))

    @property
    def work(self) -> Path:
        """The only work folder."""
        (folder,) = (self.folder / ".soundreel").iterdir()
        return folder

    @property
    def frames(self) -> list[bytes]:
        return frames_of(self.folder / "a.mp4")

    def segments(self) -> dict[str, bytes]:
        return clip_files(self.work, ".mp4")

    def clip(self, number: int, ending: str) -> Path:
        """A file of the clip with that number, of which there is one take."""
        (path,) = self.work.glob(f"clip_{number:05d}_*{ending}")
        return path


def clip_files(folder: Path, ending: str = "") -> dict[str, bytes]:
    """What the files of all clips in a work folder hold."""
    return {path.name: path.read_bytes() for path in sorted(folder.glob(f"clip_*{ending}"))}


def plain_names(files: Iterable[str]) -> list[str]:
    """Without the digits of fingerprints."""
    return [re.sub(r"(clip_\d{5})_[0-9a-f]{8}", r"\1", name) for name in files]


def frames_of(video: Path) -> list[bytes]:
    """The decoded pictures of a video."""
    return [frame.tobytes() for frame in read_frames(video)]


@dataclass(frozen=True, kw_only=True)
class Drawing:
    """What a command that renders has done."""

    outcome: Outcome
    drawn: set[int]  # numbers of the clips that the engine drew
    path: Path  # of the video

    @property
    def frames(self) -> list[bytes]:
        return frames_of(self.path)


class Soundreel:
    """Runs the `soundreel` command in this process."""

    def __init__(self, capsys: pytest.CaptureFixture[str], tune: Path) -> None:
        self._capsys, self.tune = capsys, tune

    def __call__(self, *words: str | os.PathLike[str]) -> Outcome:
        return run_here(self._capsys, *words)

    def draw(self, *words: str | os.PathLike[str]) -> Drawing:
        """Run a command that renders, which must succeed."""
        done = self(*words, "--progress", "json")
        assert done.code == 0, done.err
        drawn = {event["clip"] for event in done.events if event.get("stage") == "render"}
        return Drawing(outcome=done, drawn=drawn, path=done.path)

    def generate(self, *words: str | os.PathLike[str]) -> Drawing:
        """Draw the request of 5 clips, with other options where they are given."""
        return self.draw("generate", self.tune, *WORDS, *words)

    def seeds(self, video: Path) -> list[int]:
        """Seeds of a video's clips, by its recipe."""
        recipe = json.loads(self("info", video, "--json").out)["recipe"]
        return [clip["seed"] for clip in recipe["plan"]["clips"]]
