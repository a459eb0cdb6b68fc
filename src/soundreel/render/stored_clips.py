"""The clips of one render in its work folder: which of them are whole, and what a missing one begins from.

A clip counts when its files are as its record says and it was rendered from the carry that the clip before it in its
chain has now. Several processes may store clips of one render at the same time, each those of its own chains: what
others have stored is seen after `look_again`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from soundreel.disk.digests import file_digest
from soundreel.disk.durable import uninterrupted, write_durably, write_json, write_tensors
from soundreel.engines.base import Start
from soundreel.render.clip_records import ClipRecord, read_record
from soundreel.render.folder_files import ENGINE_FOLDER
from soundreel.render.negatives import NegativeStore
from soundreel.render.plan_file import CLIP_DIGITS, clip_file
from soundreel.render.prepared import PreparedRender
from soundreel.render.room import segment_bytes
from soundreel.types import Carry, Chain, Clip

Tensors = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class Beside:
    """What is kept beside the pictures of a clip."""

    handed_on: Tensors  # what the next one needs
    facts: Mapping[str, Any]  # what the recipe tells of it, ready for JSON


class StoredClips:
    """The clips of a render in a folder.

    Args:
        all_there: all negatives are, and one that is asked for and does not count is an error.
    """

    def __init__(self, folder: Path, render: PreparedRender, *, all_there: bool = False) -> None:
        self.folder, self.render = folder, render
        self._clips, self._fingerprints = render.plan.clips, render.clip_fingerprints
        self.negatives = NegativeStore(folder, render.plan, render.pixel_fingerprints, all_there=all_there)
        self._records: list[ClipRecord | None] = [None] * len(self._clips)
        self._intact: set[int] = set()
        self._read(self._clips)

    def look_again(self, clips: Iterable[Clip]) -> None:
        """See what other processes have stored of these clips by now."""
        clips = list(clips)
        self.negatives.look_again(clips)
        self._read(clips)

    def _read(self, clips: Iterable[Clip]) -> None:
        for clip in clips:
            self._records[clip.index] = self._read_record(clip)
            self._intact.discard(clip.index)
            if self._check_segment(clip):
                self._intact.add(clip.index)

    # where things are

    @property
    def scratch(self) -> Path:
        """The engine's own folder, for this request."""
        return self.folder / ENGINE_FOLDER / self.render.asked.fingerprint.digest[:CLIP_DIGITS]

    def segments(self) -> list[Path]:
        """The encoded clips, as many of the first ones as are whole."""
        missing = self._first_missing(self._clips)
        whole = len(self._clips) if missing is None else missing
        return [self.path(index, ".mp4") for index in range(whole)]

    def facts(self) -> list[Mapping[str, Any]]:
        """What was noted of each clip in `segments`."""
        return [record.facts for record in self._records[: len(self.segments())] if record is not None]

    def path(self, index: int, ending: str) -> Path:
        """A file of the clip with an index."""
        return clip_file(self.folder, index, self._fingerprints[index], ending)

    # what is there

    def missing(self, clips: Sequence[Clip] | None = None) -> list[int]:
        """Indexes of those clips that are not whole; None: of all."""
        return [clip.index for clip in (self._clips if clips is None else clips) if not self.has(clip.index)]

    def _first_missing(self, clips: Sequence[Clip]) -> int | None:
        return next((clip.index for clip in clips if not self.has(clip.index)), None)

    @property
    def done(self) -> int:
        """How many clips are whole."""
        return len(self._clips) - len(self.missing())

    def has(self, index: int) -> bool:
        """Whether clip `index` is whole and follows from the one before."""
        record = self._records[index]
        if record is None or index not in self._intact or record.before != self._carry_before(index):
            return False
        return self.negatives.digest(index) in ("", record.negative)

    def is_stored(self, index: int) -> bool:
        """Whether clip `index` is whole; whether it counts depends on the one before."""
        return self._records[index] is not None and index in self._intact

    def next_start(self, chain: Chain | None = None) -> Start | None:
        """The first clip to render, of a chain or of all, and the carry for it; None: all are there.

        What a damaged carry was for is rendered again from the clip before on.
        """
        index = self._first_missing(self._clips if chain is None else chain.clips)
        while index is not None and self.render.plan.continues(self._clips[index]):
            try:
                return self._start_at(index)
            except (OSError, SafetensorError, ValueError):
                index -= 1
                self._intact.discard(index)
        return None if index is None else Start(index=index, scratch=self.scratch, negatives=self.negatives)

    def _start_at(self, index: int) -> Start:
        """Raises `ValueError` where what the clip continues is neither kept nor can be made again."""
        handed_on, reach = self._read_carry(index - 1), self.render.engine.reach
        carry: Carry | None = Carry(tensors=handed_on)
        if reach is not None:
            kept = self.negatives.carry_after(index - 1)
            if kept is None and not self.negatives.can_begin(index, reach):
                raise ValueError(f"the negatives before clip {index + 1} are not there")
            carry = None if kept is None else Carry(tensors={**kept, **handed_on})
        return Start(index=index, carry=carry, scratch=self.scratch, negatives=self.negatives)

    def start_behind(self, index: int) -> Start:
        """The clip at `index`, right after the one before it has been rendered."""
        return Start(index=index, carry=None, scratch=self.scratch, negatives=self.negatives)

    def handed_on_before(self, start: Start) -> Tensors:
        """What the clip of a start gets of the one before, which is stored, in post-processing."""
        clip = self._clips[start.index]
        return self._read_carry(clip.index - 1) if self.render.plan.continues(clip) else {}

    def _carry_before(self, index: int) -> str | None:
        if not self.render.plan.continues(self._clips[index]):
            return ""
        record = self._records[index - 1]
        return None if record is None else record.carry

    def _read_carry(self, index: int) -> Tensors:
        record, path = self._records[index], self.path(index, ".safetensors")
        assert record is not None
        if not record.carry:
            return {}
        if file_digest(path) != record.carry:
            raise ValueError(f"{str(path)!r} is damaged")
        return load_file(path)

    def _read_record(self, clip: Clip) -> ClipRecord | None:
        """What is noted of a clip of this render; None where nothing is, or nothing that can be read."""
        record = read_record(self.path(clip.index, ".json"))
        return record if record is not None and record.fingerprint == self._fingerprints[clip.index] else None

    def _check_segment(self, clip: Clip) -> bool:
        """Whether a segment is as its record says; carries are looked at when they are needed."""
        record, path = self._records[clip.index], self.path(clip.index, ".mp4")
        return record is not None and path.is_file() and file_digest(path) == record.segment

    # what comes in and what goes

    def keep(self, clip: Clip, fill: Callable[[Path, int], object], beside: Callable[[], Beside]) -> Beside:
        """Store a rendered clip. Signals wait until it is done.

        Args:
            fill: writes the segment to a path, given about how many bytes it will take.
            beside: called then; what it says is returned.
        """
        before = self._carry_before(clip.index)
        assert before is not None
        self._intact.discard(clip.index)
        segment, carried = self.path(clip.index, ".mp4"), self.path(clip.index, ".safetensors")
        needed = self.bytes_of(clip.index)(clip)
        with uninterrupted():
            write_durably(segment, lambda path: fill(path, needed), needed_bytes=needed)
            told = beside()
            if told.handed_on:
                write_tensors(carried, told.handed_on)
            record = ClipRecord(
                fingerprint=self._fingerprints[clip.index],
                seed=clip.seed,
                before=before,
                segment=file_digest(segment),
                carry=file_digest(carried) if told.handed_on else "",
                negative=self.negatives.digest(clip.index),
                facts=told.facts,
            )
            write_json(self.path(clip.index, ".json"), vars(record))
        self._records[clip.index] = record
        self._intact.add(clip.index)
        return told

    def bytes_of(self, before: int) -> Callable[[Clip], int]:
        """What the segment of a clip takes: as many bytes per frame as those before an index, where there are any."""
        stored = [(clip.frames, self.path(clip.index, ".mp4")) for clip in self._clips[:before]]
        known = [(frames, path.stat().st_size) for frames, path in stored if path.exists()]
        if not known:
            return partial(segment_bytes, self.render)
        frames, size = map(sum, zip(*known, strict=True))
        return lambda clip: clip.frames * size // frames

    def forget(self, index: int) -> None:
        """Remove a clip's segment, carry and record; its negative stays."""
        for ending in (".json", ".mp4", ".safetensors"):
            self.path(index, ending).unlink(missing_ok=True)
        self._records[index] = None
