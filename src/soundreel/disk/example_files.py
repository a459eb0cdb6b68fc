"""The example sounds, picture and storyboard, which come with the package."""

from importlib.resources import files
from pathlib import Path
from typing import Final

from soundreel.errors import InputError

SOUND: Final = "tune.flac"
SONG: Final = "song.mp3"
PICTURE: Final = "cover.png"
STORYBOARD: Final = "song.toml"


def example_folder() -> Path:
    """Where they are: in the installed package, or beside `src/` in a working copy.

    Raises:
        InputError: they are not installed.
    """
    packaged = Path(str(files("soundreel"))) / "example"
    working_copy = packaged.parents[2] / "examples"
    for folder in (packaged, working_copy):
        if (folder / SOUND).is_file():
            return folder
    raise InputError(f"the example files are not installed: looked in {packaged} and {working_copy}")
