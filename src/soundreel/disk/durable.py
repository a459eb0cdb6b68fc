"""Files that are either whole and on the disk or not there, whenever the power fails or the user stops."""

import json
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, Final

from safetensors import SafetensorError

from soundreel.errors import MediaError

TEMPORARY: Final = ".tmp"
"""Ending of a file that is not whole yet."""


def write_durably(path: Path, fill: Callable[[Path], object], *, needed_bytes: int) -> None:
    """Let `fill` write a temporary file, bring it to the disk and give it its name; after an error it is gone.

    Raises:
        MediaError: the file cannot be written; names the folder, and the bytes needed where there is no room.
    """
    temporary = path.with_name(path.name + TEMPORARY)
    try:
        with telling(path, needed_bytes):
            fill(temporary)
            rename_durably(temporary, path)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise


def rename_durably(temporary: Path, path: Path) -> None:
    """Give a file its name, in place of what had it before; both its content and its name are on the disk."""
    sync(temporary)
    temporary.replace(path)
    sync(path.parent)


def sync(path: Path) -> None:
    """Wait until a file's content, or a folder's list of names, is on the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextmanager
def telling(path: Path, needed_bytes: int) -> Iterator[None]:
    """Failures to write `path` inside the block become `MediaError`."""
    try:
        yield
    except (OSError, SafetensorError) as error:
        why = getattr(error, "strerror", None) or str(error)
        free = shutil.disk_usage(path.parent).free if path.parent.is_dir() else 0
        raise MediaError(
            f"cannot write {path.name!r} in folder {str(path.parent)!r}: {why}; about {needed_bytes:,} bytes are "
            f"needed, {free:,} are free there"
        ) from error


@contextmanager
def uninterrupted() -> Iterator[None]:
    """Hold SIGINT and SIGTERM back until the block is done: the write in hand is finished, then the signal works."""
    if threading.current_thread() is not threading.main_thread():
        yield  # Python gives signals to the main thread only
        return
    came: list[int] = []

    def remember(number: int, _: FrameType | None) -> None:
        came.append(number)

    before = {number: signal.signal(number, remember) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    if came:
        signal.raise_signal(came[0])


def numbered(path: Path, number: int) -> Path:
    """`video.mp4` → `video_2.mp4`, for when the name is taken."""
    return path if number == 1 else path.with_name(f"{path.stem}_{number}{path.suffix}")


def write_json(path: Path, data: Mapping[str, Any]) -> None:
    """Write plain data, whole or not at all."""
    text = json.dumps(data, indent=1, ensure_ascii=False, default=os.fspath)
    write_durably(path, lambda temporary: temporary.write_text(text, encoding="utf-8"), needed_bytes=len(text.encode()))
