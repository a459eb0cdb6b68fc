"""The pictures that a prompt has made: found in its outputs, downloaded, counted, and split into clips."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path, PurePosixPath
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from soundreel.engines.comfyui.client import Client, ServerFile
from soundreel.errors import EngineError, MediaError
from soundreel.media.image import load_plain_image
from soundreel.media.video import probe_video, read_swscale_frames
from soundreel.types import Check, Clip, Plan, Progress, Report, Stage, go_on, heard
from soundreel.units import Frames

VIDEO_ENDINGS: Final = frozenset({".mp4", ".mkv", ".webm", ".mov", ".avi"})
PICTURE_ENDINGS: Final = frozenset({".png", ".webp", ".jpg", ".jpeg"})


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """Downloaded pictures: one video, or a file each."""

    files: tuple[Path, ...]

    @property
    def is_video(self) -> bool:
        """Whether the pictures are in one video."""
        return bool(self.files) and self.files[0].suffix in VIDEO_ENDINGS

    def count(self) -> int:
        """Number of pictures. Raises `MediaError` where the video cannot be read."""
        return probe_video(self.files[0]).frames if self.is_video else len(self.files)

    def read(self) -> Iterator[NDArray[np.uint8]]:
        """Yield the pictures, uint8 RGB [H, W, 3]."""
        return read_swscale_frames(self.files[0]) if self.is_video else map(load_plain_image, self.files)


def output_files(entry: Mapping[str, Any]) -> tuple[ServerFile, ...]:
    """The video, or else the pictures, of a prompt's history entry. Raises `EngineError` where it has neither."""
    items = chain.from_iterable(lists for node in entry.get("outputs", {}).values() for lists in node.values())
    files = [
        ServerFile(filename=item["filename"], subfolder=item.get("subfolder", ""), type=item.get("type", "output"))
        for item in items
        if isinstance(item, Mapping) and "filename" in item
    ]
    kept = [file for file in files if file.type == "output"] or files
    videos = [file for file in kept if _ending(file) in VIDEO_ENDINGS]
    if videos:
        return (videos[-1],)
    pictures = tuple(file for file in kept if _ending(file) in PICTURE_ENDINGS)
    if not pictures:
        raise EngineError("the graph ran, but saved neither a video nor pictures: end it with SaveVideo or SaveImage")
    return pictures


def download(client: Client, files: tuple[ServerFile, ...], folder: Path, report: Report) -> Pictures:
    """Download `files` into `folder`, except those that are there already.

    Raises:
        FileGoneError: the server no longer has one.
        UnreachableError: the connection is lost again and again.
    """
    folder.mkdir(exist_ok=True)
    paths = tuple(folder / f"{number:05d}{_ending(file)}" for number, file in enumerate(files, start=1))
    for number, (file, path) in enumerate(zip(files, paths, strict=True)):
        if path.exists():
            continue

        def on_bytes(done: int, total: int, number: int = number) -> None:
            done_files, files_total = (done, total) if len(files) == 1 else (number, len(files))
            report(Progress(stage=Stage.DOWNLOAD, done=done_files, total=files_total))

        client.download(file, path, on_bytes)
    return Pictures(files=paths)


def check_count(pictures: Pictures, expected: int, *, exactly: bool) -> None:
    """Raise `EngineError` unless there are exactly `expected` pictures, or, unless `exactly`, at least as many."""
    try:
        found = pictures.count()
    except MediaError as error:
        raise EngineError(f"what the server made cannot be used: {error}") from error
    if found < expected or (exactly and found != expected):
        raise EngineError(f"the server made {found} frames, {expected} were expected")


def clips_of(
    pictures: Pictures, plan: Plan, start: int, *, skip: int, check: Check = go_on
) -> Iterator[tuple[Clip, Frames]]:
    """The clips from index `start` on with their frames; `skip` pictures before the video's first are dropped.

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
        yield clip, frames


def _ending(file: ServerFile) -> str:
    return PurePosixPath(file.filename).suffix.lower()
