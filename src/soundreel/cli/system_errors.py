"""What the operating system refuses where no check of ours has foreseen it, in one plain sentence."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from soundreel.errors import InputError, MediaError, SoundreelError

IN_A_REMOVED_FOLDER = "the folder that you are in has been removed: change to one that is there, and try again"


@contextmanager
def system_errors_in_words() -> Iterator[None]:
    """An `OSError` inside the block that is about a file, or comes of a removed folder, becomes a `SoundreelError`."""
    try:
        yield
    except OSError as error:
        said = _in_words(error)
        if said is None:
            raise
        for note in getattr(error, "__notes__", ()):
            said.add_note(note)
        raise said from error


def _in_words(error: OSError) -> SoundreelError | None:
    """None: it is about no file, and so may be a bug of ours."""
    if _is_in_a_removed_folder():
        return InputError(IN_A_REMOVED_FOLDER)
    if error.filename is None or error.strerror is None:
        return None
    return MediaError(f"cannot use {os.fsdecode(error.filename)!r}: {error.strerror}")


def _is_in_a_removed_folder() -> bool:
    try:
        Path.cwd()
    except FileNotFoundError:
        return True
    return False
