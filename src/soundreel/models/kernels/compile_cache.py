"""Where Triton keeps compiled kernels from one process to the next; a folder that takes nothing keeps nobody waiting.

Triton itself keeps them, in `~/.triton/cache` or where the environment variable says. It writes each kernel before it
runs it, so that where it cannot write, as on a full disk, nothing would run.
"""

import logging
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from soundreel.models.kernels.once import once

VARIABLE: Final = "TRITON_CACHE_DIR"
HOME_VARIABLE: Final = "TRITON_HOME"
MANAGER_VARIABLE: Final = "TRITON_CACHE_MANAGER"

NEW_VARIABLE: Final = "SOUNDREEL_KERNELS_ARE_NEW"
"""Set for the processes of a render that are started while its first one compiles."""

NEEDED_BYTES: Final = 32 * 2**20
"""That the kernels of a render take, and some more."""

_leaving: Final = threading.Lock()

log = logging.getLogger(__name__)


@once
def ensure_room() -> None:
    """Let Triton write elsewhere, for this process, where its folder does not take what is to be compiled, or later no
    more (`kept_kernels`)."""
    is_new()
    os.environ.setdefault(MANAGER_VARIABLE, "soundreel.models.kernels.kept_kernels:KeptKernels")
    folder = cache_folder()
    reason = why_it_takes_nothing(folder)
    if reason is not None:
        leave(folder, reason)


@once
def is_new() -> bool:
    """Whether no kernel was compiled on this machine before this process: then many are, and several at once is faster.

    Where they only have to be read again, threads that do so at once would hold up those that have other work.
    """
    if NEW_VARIABLE in os.environ:
        return True
    folder = cache_folder()
    return not folder.is_dir() or not any(folder.iterdir())


def tell_children() -> None:
    """Let processes that are started from now on take kernels for new where this one does."""
    if is_new():
        os.environ[NEW_VARIABLE] = "1"


def leave(folder: Path, reason: str) -> bool:
    """Let Triton write to another folder than this one from now on, and say why; returns whether there is any."""
    with _leaving:
        if cache_folder() != folder:  # another thread has left it
            return True
        for place in _other_places():
            if why_it_takes_nothing(place) is None:
                os.environ[VARIABLE] = tempfile.mkdtemp(prefix="soundreel-kernels-", dir=place)
                log.warning(
                    "compiled kernels cannot be kept in %s (%s): the next render compiles them again", folder, reason
                )
                return True
    return False


def cache_folder() -> Path:
    """Triton's."""
    given = os.environ.get(VARIABLE)
    return Path(given) if given else Path(os.environ.get(HOME_VARIABLE) or Path.home()) / ".triton" / "cache"


def why_it_takes_nothing(folder: Path) -> str | None:
    """What the system says against writing so much to a folder; None: nothing."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder) as file:
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, NEEDED_BYTES)
            else:
                file.write(b"\0" * NEEDED_BYTES)
    except OSError as error:
        return error.strerror or str(error)
    return None


def _other_places() -> Iterator[Path]:
    with suppress(FileNotFoundError):  # no folder for temporary files takes any
        yield Path(tempfile.gettempdir())
    yield Path("/dev/shm")  # noqa: S108 - a folder of its own is made there
