"""What the operating system refuses where no check of ours has foreseen it, in one plain sentence."""

import errno
import os
from pathlib import Path

from soundreel.cli import address_space
from soundreel.errors import EngineError, InputError, MediaError, SoundreelError

IN_A_REMOVED_FOLDER = "the folder that you are in has been removed: change to one that is there, and try again"

SHORTAGES = ("can't start new thread", "allocate memory", "insufficient memory", "failed to map segment")
"""What Python and libraries say, in small letters, where there is no memory left."""


def in_words(error: Exception) -> Exception:
    """An error that comes of the system and not of us as a `SoundreelError`; others as they are.

    It is an `OSError` that is about a file or comes of a removed folder, or whatever is raised where there is no memory
    left. Errors of ours get a note where little address space may be their reason.
    """
    if isinstance(error, SoundreelError):
        limit = address_space.tight_limit()
        if limit is not None and isinstance(error, EngineError | MediaError):
            error.add_note(address_space.in_words(limit))
        return error
    said = _without_memory(error) or (_refused(error) if isinstance(error, OSError) else None)
    if said is None:
        return error
    for note in getattr(error, "__notes__", ()):
        said.add_note(note)
    return said


def _refused(error: OSError) -> SoundreelError | None:
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


def _without_memory(error: Exception) -> EngineError | None:
    """None: it has another reason."""
    text = " ".join(str(error).split())
    is_short = isinstance(error, MemoryError) or getattr(error, "errno", None) == errno.ENOMEM
    if not is_short and not any(words in text.lower() for words in SHORTAGES):
        return None
    limit = address_space.tight_limit()
    limited = "" if limit is None else f"; {address_space.in_words(limit)}"
    return EngineError(
        f"there is not enough memory ({text or type(error).__name__}): a smaller --width and --height, or "
        f"--infer-frames, takes less{limited}"
    )
