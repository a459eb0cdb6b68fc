"""Separated voices, kept in the user's cache by the content of the song: separated once, heard by all renders of it.

A file holds the voice of some steps of a song (`separation.masking`), mono, as it was computed. Where all of a part
that is asked for lies in one, that is taken. It is computed on the CPU, and so the same whatever GPU renders.
"""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from math import ceil, floor
from pathlib import Path
from typing import Final

import numpy as np
import platformdirs
from numpy.typing import NDArray

from soundreel.disk.digests import data_digest, file_digest, sampled_digest
from soundreel.disk.durable import make_folder, write_durably
from soundreel.media.audio import probe_sound, stream_sound
from soundreel.media.float_wav import write_float_wav
from soundreel.separation.masking import (
    CHANNELS,
    RATE,
    STEP_SAMPLES,
    STEP_SECONDS,
    MaskOf,
    Stereo,
    at_step,
    masked_steps,
    source_start,
)
from soundreel.types import Check, Progress, Report, Stage, go_on, heard
from soundreel.units import StrPath
from soundreel.weights.voice_separator import find_checkpoints

CACHE_BYTES: Final = 8 * 2**30
"""Size limit of the cache folder; the least recently used files are deleted to stay below."""

ALGORITHM: Final = 1
"""To be raised whenever the same song gets another voice."""

SAMPLE_BYTES: Final = 4

CURE: Final = "the separated voice is kept there: set XDG_CACHE_HOME to a folder with more room"


@dataclass(frozen=True, kw_only=True)
class Steps:
    """Which steps of a song."""

    first: int
    stop: int

    @classmethod
    def around(cls, start: float, seconds: float, whole: float) -> "Steps":
        """Those that hold `seconds` from `start` seconds on of a song of `whole` seconds; at least one."""
        last = max(1, ceil(whole / STEP_SECONDS))
        first = min(floor(start / STEP_SECONDS), last - 1)
        return cls(first=first, stop=max(first + 1, min(last, ceil((start + seconds) / STEP_SECONDS))))

    @property
    def start(self) -> float:
        """Seconds into the song."""
        return self.first * STEP_SECONDS

    def holds(self, other: "Steps") -> bool:
        """Whether the other ones are among them."""
        return self.first <= other.first and other.stop <= self.stop


@dataclass(frozen=True, kw_only=True)
class StoredVoice:
    """A file with the voice of some steps of a song."""

    path: Path
    steps: Steps


def separator_files() -> dict[str, str]:
    """Digests of the networks' files, by name. `WeightsError` where they are not installed."""
    return {f"separator {path.name}": sampled_digest(path) for path in find_checkpoints()}


def song_key(song: StrPath) -> str:
    """Under which the voice of a song is kept: a digest of all that it depends on."""
    return data_digest({"algorithm": ALGORITHM, "song": file_digest(song), "files": separator_files()})[:32]


def separated_voice(
    song: StrPath,
    key: str,
    wanted: Steps,
    report: Report | None = None,
    check: Check = go_on,
) -> StoredVoice:
    """The voice in a part of a song, separated now unless it is there.

    Args:
        key: of `song_key`.
        report: hears how far it is.
        check: called before each block of sound and each step; may raise to stop.

    Raises:
        InputError, MediaError: the song cannot be read.
        WeightsError: the networks are not installed.
        MediaError: the voice cannot be written.
    """
    kept = _find(key, wanted)
    if kept is not None:
        return kept
    from soundreel.separation.separator import voice_mask  # noqa: PLC0415 - it takes torch, and is rarely needed

    path = cache_folder() / f"{key}_{wanted.first}_{wanted.stop}.wav"
    count = wanted.stop - wanted.first

    def told(steps: Iterator[NDArray[np.float32]]) -> Iterator[NDArray[np.float32]]:
        for done in range(count):
            check()
            if report is not None:
                report(Progress(stage=Stage.SEPARATE, what="voice", done=done, total=count))
            yield next(steps)

    store(path, lambda: told(voice_steps(song, voice_mask, wanted, check)), count)
    return StoredVoice(path=path, steps=wanted)


def whole_voice(song: StrPath, report: Report | None = None, check: Check = go_on) -> Path:
    """A file with the voice in all of a song, on its time line; arguments and errors as of `separated_voice`."""
    return separated_voice(song, song_key(song), steps_of(song, 0.0, None), report, check).path


def voice_steps(song: StrPath, mask_of: MaskOf, steps: Steps, check: Check = go_on) -> Iterator[NDArray[np.float32]]:
    """The masked sound of some steps, mono, [441 · 1024] each; the last one of a song ends with it."""
    begin = source_start(steps.first)
    source = Counted(heard(stereo_blocks(song, at_step(begin)), check))
    place = (steps.first - begin) * STEP_SAMPLES
    for sound in masked_steps(source, mask_of, first=steps.first, stop=steps.stop):
        left = source.count - place
        yield sound[: max(0, left)] if left < len(sound) else sound
        place += len(sound)


def stereo_blocks(song: StrPath, start: float) -> Iterator[Stereo]:
    """A song from `start` seconds on at the separation's rate; of more than two channels their mean, twice."""
    for block in stream_sound(song, start=start, sample_rate=RATE):
        yield block if block.shape[1] == CHANNELS else np.repeat(block.mean(axis=1, keepdims=True), CHANNELS, axis=1)


class Counted:
    """Blocks, and how many samples came of them."""

    def __init__(self, blocks: Iterator[Stereo]) -> None:
        self._blocks = blocks
        self.count = 0

    def __iter__(self) -> Iterator[Stereo]:
        for block in self._blocks:
            self.count += len(block)
            yield block


def steps_of(song: StrPath, start: float, seconds: float | None) -> Steps:
    """The steps that hold a window of a song; None: to its end."""
    whole = probe_sound(song).seconds
    return Steps.around(start, max(0.0, whole - start) if seconds is None else seconds, whole)


# files


def cache_folder() -> Path:
    """Where they are kept."""
    return platformdirs.user_cache_path("soundreel") / "voices"


def store(path: Path, blocks: Callable[[], Iterator[NDArray[np.float32]]], steps: int) -> None:
    """Write mono blocks at the separation's rate, of about so many steps, to a file of the cache."""
    size = steps * STEP_SAMPLES * SAMPLE_BYTES
    make_folder(path.parent, cure=CURE)
    _make_room(path.parent, size)
    write_durably(path, lambda new: write_float_wav(new, blocks(), RATE), needed_bytes=size, cure=CURE)


def _find(key: str, wanted: Steps) -> StoredVoice | None:
    """A file that holds the steps, marked as used just now."""
    for path in cache_folder().glob(f"{key}_*.wav"):
        named = re.fullmatch(r"\w+_(\d+)_(\d+)", path.stem)
        if named is not None and (steps := Steps(first=int(named[1]), stop=int(named[2]))).holds(wanted):
            with suppress(FileNotFoundError):  # it has just made room for another
                os.utime(path)
                return StoredVoice(path=path, steps=steps)
    return None


def _make_room(folder: Path, size: int) -> None:
    kept = []
    for path in folder.glob("*.wav"):
        with suppress(FileNotFoundError):  # another process makes room, too
            kept.append((path.stat(), path))
    total = sum(status.st_size for status, _ in kept)
    for status, path in sorted(kept, key=lambda entry: entry[0].st_mtime):
        if total + size <= CACHE_BYTES:
            break
        path.unlink(missing_ok=True)
        path.with_suffix(".json").unlink(missing_ok=True)  # what is known of it
        total -= status.st_size
