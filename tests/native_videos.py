"""Whole renders by the native engine, as small as they can be: three clips of 5 + 8 + 4 frames, a step each.

At 32 pixels each way the newest three latents of the motion frames reach the next clip.
"""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from soundreel.media.video import read_frames
from soundreel.pipeline import generate
from soundreel.request import Request, WorkOptions
from soundreel.types import Progress, Result, Stage
from weight_files import GOLDEN, OFFICIAL

CLIPS = 3

NATIVE = {
    "audio": GOLDEN / "inputs" / "speech_2s.wav",
    "engine": "native",
    "device": "cpu",
    "models": OFFICIAL,
    "width": 32,
    "height": 32,
    "frames": 17,
    "infer_frames": 8,
    "steps": 1,
}

AS_OPTIONS = (
    *("--engine", "native", "--device", "cpu", "--models", str(OFFICIAL), "--size", "32x32"),
    *("--frames", "17", "--infer-frames", "8"),
)
"""The same on the command line, without the sound and the steps."""


class StopHereError(Exception):
    """What no part of soundreel raises."""


@dataclass
class Render:
    """A render into `folder`, run as often as it is called, and what was seen of the last run."""

    folder: Path
    events: list[Progress] = field(default_factory=list)
    told: str = ""

    def __call__(
        self, listen: Callable[[Progress], object] = lambda progress: None, *, work: Any = None, **fields: Any
    ) -> Result:
        self.events.clear()

        def hear(progress: Progress) -> None:
            self.events.append(progress)
            listen(progress)

        request = Request(**NATIVE | {"output": self.video} | fields)
        return generate(request, hear, on_start=self._start, work=work or WorkOptions())

    def _start(self, render: Any) -> None:
        self.told = render.resumed

    @property
    def video(self) -> Path:
        return self.folder / "a.mp4"

    @property
    def frames(self) -> list[bytes]:
        return [frame.tobytes() for frame in read_frames(self.video)]

    @property
    def work(self) -> Path:
        (work,) = (self.folder / ".soundreel").iterdir()
        return work

    @property
    def sampled(self) -> set[int]:
        """Numbers of the clips that the model was asked for."""
        return {event.clip for event in self.events if event.stage is Stage.RENDER}

    @property
    def loaded(self) -> set[str]:
        return {event.what for event in self.events if event.stage is Stage.LOAD}

    def latents(self, clip: int | str = "*") -> list[Path]:
        """Stored negatives, of all clips or of the one with a number."""
        number = clip if isinstance(clip, str) else f"{clip:05d}"
        return sorted(self.folder.rglob(f"clip_{number}_*.latents.safetensors"))

    def carries(self) -> list[str]:
        return sorted(path.name for path in self.folder.rglob("carry_*"))

    def copy_to(self, folder: Path) -> "Render":
        """The same, work folder and all, somewhere else."""
        shutil.copytree(self.folder, folder, dirs_exist_ok=True)
        return Render(folder)


def break_at(clip: int) -> Callable[[Progress], None]:
    """Breaks a render off after the first step of a clip."""

    def listen(progress: Progress) -> None:
        if progress.stage is Stage.RENDER and progress.clip == clip:
            raise StopHereError

    return listen
