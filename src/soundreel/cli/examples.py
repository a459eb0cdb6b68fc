"""The example sounds, picture and storyboard that `soundreel demo` renders."""

from importlib.resources import files
from pathlib import Path
from typing import Any

from soundreel.errors import InputError
from soundreel.request import Output, Request, Window
from soundreel.storyboard import read_storyboard

SOUND, PICTURE, STORYBOARD = "tune.flac", "cover.png", "song.toml"


def example_requests(output_dir: Path, frames: int | None = None) -> dict[str, Request]:
    """Draft renders of the example sounds, whole or `frames` long, and what each of them is."""
    folder = _folder()
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


def _folder() -> Path:
    """The folder of the example files: in the installed package, or beside `src/` in a working copy."""
    packaged = Path(str(files("soundreel"))) / "example"
    working_copy = Path(__file__).parents[3] / "examples"
    for folder in (packaged, working_copy):
        if (folder / SOUND).is_file():
            return folder
    raise InputError(f"the example files are not installed: looked in {packaged} and {working_copy}")
