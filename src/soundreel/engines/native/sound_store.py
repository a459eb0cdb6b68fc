"""A disk cache for wav2vec2 features: computed once per sound, read clip by clip, shared by renders.

A file is float32 [T, S, C] in NumPy's format, frame by frame. With the full-size model two hours of sound take 11.8 GB,
a clip 8 MB.

Legend: S states, C width, T video frames.
"""

import os
import weakref
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from types import EllipsisType
from typing import BinaryIO, TypeAlias

import numpy as np
import platformdirs
import torch
from torch import Tensor

from soundreel.disk.digests import data_digest, sampled_digest
from soundreel.disk.durable import make_folder, write_durably
from soundreel.engines.native.long_sound import Survey
from soundreel.errors import EngineError

CACHE_BYTES = 16 * 2**30
"""Size limit of the cache folder; the least recently used files are deleted to stay below."""

ALGORITHM = 1
"""Version of the algorithm, part of the key: to be raised whenever the same sound gets other features."""

FLOAT_BYTES = 4

CURE = "the features of the sound are kept there: set XDG_CACHE_HOME to a folder with more room"


@dataclass(frozen=True, kw_only=True)
class StoredSound:
    """Features [S, C, T] on disk: `sound[..., a:b]` reads columns, even after the file was deleted."""

    handle: int  # of the open file
    offset: int  # of the first value, in bytes
    shape: tuple[int, int, int]  # S, C, T

    def __post_init__(self) -> None:
        weakref.finalize(self, os.close, self.handle)

    def __getitem__(self, key: tuple[EllipsisType, slice]) -> Tensor:
        states, width, frames = self.shape
        first, stop, _ = key[1].indices(frames)
        values = np.empty((stop - first, states, width), np.float32)
        os.preadv(self.handle, [values.data], self.offset + first * states * width * FLOAT_BYTES)
        return torch.from_numpy(values).permute(1, 2, 0)


Columns: TypeAlias = Tensor | StoredSound
"""Features [S, C, T], one column for each sampled frame, of which a clip takes its own."""


def features_key(found: Survey, encoder: Sequence[Path], device: torch.device, frames: int, shift: int) -> str:
    """The cache key: a digest of all that the features depend on."""
    parts = {
        "algorithm": ALGORITHM,
        "sound": found.digest,
        "encoder": [sampled_digest(path) for path in encoder],
        "device": device.type,
        "frames": frames,
        "shift": shift,
    }
    return data_digest(parts)


def cached_features(key: str, columns: Iterator[Tensor], *, frames: int, in_memory: bool) -> Columns:
    """The features stored under `key`; or else those of `columns`, pieces [S, C, t] of T = `frames`, which are stored.

    With `in_memory` the result is a tensor [S, C, T], and failure to write the cache is ignored.

    Raises:
        EngineError: the features are not to be held in memory and cannot be written.
    """
    stored = _find(key, frames)
    if not in_memory:
        return stored or _store(key, columns, frames)
    if stored is not None:
        return stored[..., :]
    features = torch.cat(list(columns), dim=2)
    with suppress(EngineError):
        _store(key, iter([features]), frames)
    return features


def cache_folder() -> Path:
    """Folder of the cache."""
    return platformdirs.user_cache_path("soundreel") / "sound"


def _find(key: str, frames: int) -> StoredSound | None:
    """The features stored under `key`; None if there are none, or not all `frames`."""
    path = cache_folder() / f"{key}.npy"
    try:
        with path.open("rb") as file:
            shape, offset = _read_header(file)
            if os.fstat(file.fileno()).st_size != offset + FLOAT_BYTES * int(np.prod(shape)) or shape[0] != frames:
                return None
            os.utime(path)
            return StoredSound(handle=os.dup(file.fileno()), offset=offset, shape=(shape[1], shape[2], shape[0]))
    except (OSError, ValueError):
        return None


def _read_header(file: BinaryIO) -> tuple[tuple[int, ...], int]:
    np.lib.format.read_magic(file)
    shape, _, _ = np.lib.format.read_array_header_1_0(file)
    return shape, file.tell()


def _store(key: str, columns: Iterator[Tensor], frames: int) -> StoredSound:
    path = cache_folder() / f"{key}.npy"
    make_folder(path.parent, error=EngineError, cure=CURE)
    first = next(columns)
    states, width, _ = first.shape
    size = frames * states * width * FLOAT_BYTES
    _make_room(path.parent, size)

    def fill(temporary: Path) -> None:
        with temporary.open("wb") as file:
            header = {"descr": "<f4", "fortran_order": False, "shape": (frames, states, width)}
            np.lib.format.write_array_header_1_0(file, header)
            for piece in chain([first], columns):
                file.write(np.ascontiguousarray(piece.permute(2, 0, 1).float().cpu().numpy()).data)

    write_durably(path, fill, needed_bytes=size, error=EngineError, cure=CURE)
    stored = _find(key, frames)
    assert stored is not None, "the pieces are as many frames as announced"
    return stored


def _make_room(folder: Path, size: int) -> None:
    kept = sorted(((path.stat(), path) for path in folder.glob("*.npy")), key=lambda entry: entry[0].st_mtime)
    total = sum(status.st_size for status, _ in kept)
    for status, path in kept:
        if total + size <= CACHE_BYTES:
            break
        path.unlink(missing_ok=True)
        total -= status.st_size
