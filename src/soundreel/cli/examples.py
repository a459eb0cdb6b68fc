"""The example sounds, picture and storyboard that `soundreel demo` renders."""

from pathlib import Path
from typing import Any

from soundreel.disk.example_files import PICTURE, SOUND, STORYBOARD, example_folder
from soundreel.request import Output, Request, Window
from soundreel.storyboard import read_storyboard


def example_requests(output_dir: Path, frames: int | None = None) -> dict[str, Request]:
    """Draft renders of the example sounds, whole or `frames` long, and what each of them is."""
    folder = example_folder()
    shared: dict[str, Any] = {
        "audio": folder / SOUND,
        "engine": "draft",
        "window": Window(frames=frames, full=frames is None),
    }
    words = "dusk, teal and amber light"
    return {
        f"the example sound and nothing but the words “{words}”": Request(
            **shared, prompt=words, output=Output(path=output_dir / "tune_no_ref_draft.mp4")
        ),
        "the example sound and its cover": Request(
            **shared, ref_image=folder / PICTURE, output=Output(path=output_dir / "tune_with_ref_draft.mp4")
        ),
        "a song and its storyboard": _of_storyboard(
            folder / STORYBOARD, output_dir / "song_storyboard_draft.mp4", frames
        ),
    }


def _of_storyboard(storyboard: Path, output: Path, frames: int | None) -> Request:
    fields = read_storyboard(storyboard) | {"engine": "draft", "output": Output(path=output)}
    return Request(**fields if frames is None else fields | {"window": Window(frames=frames)})
