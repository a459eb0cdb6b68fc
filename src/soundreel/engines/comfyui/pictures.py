"""The pictures that a prompt has made: found in its outputs, counted, and split into clips."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path, PurePosixPath
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from soundreel.engines.comfyui.client import ServerFile
from soundreel.errors import EngineError, InputError, MediaError
from soundreel.media.image import load_plain_image
from soundreel.media.video import probe_video, read_swscale_frames
from soundreel.types import Check, Plan, go_on, heard
from soundreel.units import Frames

VIDEO_ENDINGS: Final = frozenset({".mp4", ".mkv", ".webm", ".mov", ".avi"})
PICTURE_ENDINGS: Final = frozenset({".png", ".webp", ".jpg", ".jpeg"})


_BOX_HEAD_BYTES: Final = 8


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Downloaded pictures: one video, or a file each."""

    files: tuple[Path, ...]

    @property
    def is_video(self) -> bool:
        """Whether the pictures are in one video."""
        return bool(self.files) and self.files[0].suffix in VIDEO_ENDINGS

    def count(self) -> int:
        """Number of pictures. Raises `MediaError` where a file cannot be read or is not whole."""
        if self.is_video:
            _check_boxes(self.files[0])
            return probe_video(self.files[0]).frames
        for file in self.files:
            _check_picture(file)
        return len(self.files)

    def read(self) -> Iterator[NDArray[np.uint8]]:
        """Yield the pictures, uint8 RGB [H, W, 3]."""
        return read_swscale_frames(self.files[0]) if self.is_video else map(load_plain_image, self.files)


def output_files(entry: Mapping[str, Any]) -> tuple[ServerFile, ...]:
    """The video, or else the pictures, of a prompt's history entry. Raises `EngineError` where it has neither."""
    nodes = [node for node in _values(entry.get("outputs")) if isinstance(node, Mapping)]
    lists = [items for node in nodes for items in node.values() if isinstance(items, list)]
    files = [
        ServerFile(
            filename=item["filename"], subfolder=str(item.get("subfolder", "")), type=str(item.get("type", "output"))
        )
        for item in chain.from_iterable(lists)
        if isinstance(item, Mapping) and isinstance(item.get("filename"), str)
    ]
    kept = [file for file in files if file.type == "output"] or files
    videos = [file for file in kept if ending(file) in VIDEO_ENDINGS]
    if videos:
        return (videos[-1],)
    pictures = tuple(file for file in kept if ending(file) in PICTURE_ENDINGS)
    if not pictures:
        raise EngineError("the graph ran, but saved neither a video nor pictures: end it with SaveVideo or SaveImage")
    return pictures


def check_count(pictures: Pictures, expected: int, *, exactly: bool) -> None:
    """Raise `EngineError` unless there are exactly `expected` pictures, or, unless `exactly`, at least as many."""
    try:
        found = pictures.count()
    except (MediaError, InputError) as error:  # an empty file is an input error
        raise EngineError(f"what the server made cannot be used: {error}") from error
    if found < expected or (exactly and found != expected):
        raise EngineError(f"the server made {found} frames, {expected} were expected")


def frames_of_clips(pictures: Pictures, plan: Plan, start: int, *, skip: int, check: Check = go_on) -> Iterator[Frames]:
    """The frames of each clip from index `start` on; `skip` pictures before the video's first are dropped.

    `check` is called before each picture and may raise to stop.

    Raises:
        EngineError: pictures of another size, or too few of them.
    """
    clips = plan.clips[start:]
    row = islice(heard(pictures.read(), check), skip + clips[0].start, None)
    height, width = plan.request.height, plan.request.width
    for clip in clips:
        frames = np.empty((clip.frames, height, width, 3), np.uint8)
        filled = 0
        for place, picture in enumerate(islice(row, clip.frames)):
            if picture.shape != frames.shape[1:]:
                rows, columns = picture.shape[:2]
                raise EngineError(
                    f"the server made pictures of {columns}×{rows} pixels, {width}×{height} were expected"
                )
            frames[place] = picture
            filled = place + 1
        if filled < clip.frames:
            raise EngineError(f"the server's pictures end at frame {clip.start + filled} of {plan.frames}")
        yield frames


def ending(file: ServerFile) -> str:
    """`.mp4`, in lower case."""
    return PurePosixPath(file.filename).suffix.lower()


def _check_picture(file: Path) -> None:
    """Raise `MediaError` unless a picture's container is whole; its pixels are not decoded."""
    try:
        with Image.open(file) as picture:
            picture.verify()
    except (OSError, SyntaxError) as error:  # PIL's for what is no PNG after all
        raise MediaError(f"{file.name!r} is no whole picture: {error}") from error


def _check_boxes(file: Path) -> None:
    """Raise `MediaError` for an mp4 file that ends within one of its boxes, even if its pictures can be read."""
    if file.suffix not in (".mp4", ".mov"):
        return
    end = file.stat().st_size
    with file.open("rb") as content:
        start = 0
        while start < end:
            content.seek(start)
            head = content.read(16)
            size = int.from_bytes(head[:4])
            size = int.from_bytes(head[8:]) if size == 1 else size or end - start  # 0: as far as the file goes
            if size < _BOX_HEAD_BYTES or start + size > end:
                raise MediaError(f"{file.name!r} is not whole: a part of {size} bytes begins at {start} of {end}")
            start += size


def _values(given: object) -> Iterable[Any]:
    return given.values() if isinstance(given, Mapping) else ()
