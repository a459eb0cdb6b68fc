"""The negatives of a render: what each clip is printed from (latents), on the disk as soon as it is sampled.

    clip_00001_5a6b7c8d.latents.safetensors    what the engine prints the first clip from
    clip_00001_5a6b7c8d.latents.json           its fingerprint and checksum, and the negative that it was sampled after
    carry_00001_5a6b7c8d.safetensors           what the clip after it continues, of a chain's newest clip only

The digits are the beginning of a fingerprint of the clip's pixels: encoding has no part in it. A negative counts when
its file is as its record says and it was sampled after the negative that the clip before it in its chain has now.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from soundreel.disk.digests import file_digest
from soundreel.disk.durable import uninterrupted, write_durably, write_json, write_tensors
from soundreel.disk.json_form import Form, misfit
from soundreel.disk.plain_json import read_json
from soundreel.errors import InputError
from soundreel.types import Clip, Plan

DIGITS: Final = 8

DIGEST_KEY: Final = "sha256"
"""Metadata key of a carry: the checksum of its tensors."""

Tensors = Mapping[str, NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class NegativeRecord:
    """What a negative's JSON file says."""

    fingerprint: str
    seed: int
    before: str  # checksum of the negative that it was sampled after; "": none
    checksum: str
    facts: Mapping[str, Any] = field(default_factory=dict)


_FORM: Final[Form] = {"fingerprint": str, "seed": int, "before": str, "checksum": str, "facts": dict}


class NegativeStore:
    """The negatives of one plan in a folder.

    Args:
        fingerprints: of the pixels of each clip.
        all_there: a negative that is asked for and does not count is an error, not a clip to sample.
    """

    def __init__(self, folder: Path, plan: Plan, fingerprints: Sequence[str], *, all_there: bool = False) -> None:
        self._folder, self._plan, self._fingerprints, self._all_there = folder, plan, fingerprints, all_there
        self._records = [self._read(clip) for clip in plan.clips]
        self._intact: dict[int, bool] = {}

    def look_again(self, clips: Iterable[Clip]) -> None:
        """See what other processes have stored of these clips by now."""
        for clip in clips:
            self._records[clip.index] = self._read(clip)
            self._intact.pop(clip.index, None)

    def digest(self, index: int) -> str:
        """Checksum of a clip's negative; "" where none counts."""
        record = self._records[index]
        return record.checksum if record is not None and self.has(index) else ""

    def has(self, index: int) -> bool:
        """Whether the negative of a clip is whole and follows from the one before."""
        record, clip = self._records[index], self._plan.clips[index]
        if record is None or not self._is_intact(index, record):
            return False
        before = self._records[index - 1] if self._plan.continues(clip) else None
        return record.before == ("" if before is None else before.checksum)

    def find(self, index: int) -> Tensors | None:
        """The tensors of a clip's negative; None: there is none that counts.

        Raises:
            InputError: there is none, and all were said to be there.
        """
        if self.has(index):
            return load_file(self._path(index, ".safetensors"))
        if self._all_there:
            raise InputError(f"the latents of clip {index + 1} are not kept in {str(self._folder)!r}")
        return None

    def facts(self, index: int) -> Mapping[str, Any]:
        """What was noted of a clip's negative."""
        record = self._records[index]
        return {} if record is None else record.facts

    def keep(self, clip: Clip, tensors: Tensors, facts: Mapping[str, Any]) -> None:
        """Store the negative of a clip; signals wait until it is on the disk."""
        index, path = clip.index, self._path(clip.index, ".safetensors")
        before = self._records[index - 1] if self._plan.continues(clip) else None
        with uninterrupted():
            write_tensors(path, tensors)
            record = NegativeRecord(
                fingerprint=self._fingerprints[index],
                seed=clip.seed,
                before="" if before is None else before.checksum,
                checksum=file_digest(path),
                facts=facts,
            )
            write_json(self._path(index, ".json"), vars(record))
        self._records[index] = record
        self._intact[index] = True

    def keep_carry(self, index: int, tensors: Tensors) -> None:
        """Store what the clip after the one with this index continues, in place of every other carry of its chain."""
        arrays = {name: np.ascontiguousarray(array) for name, array in tensors.items()}
        path, size = self._carry_path(index), sum(array.nbytes for array in arrays.values())
        metadata = {DIGEST_KEY: _digest(arrays), "negative": self.digest(index)}
        write_durably(path, lambda temporary: save_file(arrays, temporary, metadata), needed_bytes=size)
        self._forget_carries(index, path)

    def carry_after(self, index: int) -> Tensors | None:
        """What the clip after the one with this index continues; None: it is not kept, or not of this negative."""
        path = self._carry_path(index)
        try:
            with safe_open(path, "numpy") as file:
                metadata = file.metadata() or {}
            arrays = load_file(path)
        except (OSError, SafetensorError, ValueError):
            return None
        whole = metadata.get(DIGEST_KEY) == _digest(arrays) and metadata.get("negative") == self.digest(index)
        return arrays if whole else None

    def can_begin(self, index: int, reach: int) -> bool:
        """Whether what the clip with this index continues can be printed again."""
        clip = self._plan.clips[index]
        if not self._plan.continues(clip):
            return True
        frames = 0
        for before in range(index - 1, self._plan.chain_of(clip).clips[0].index - 1, -1):
            if not self.has(before):
                return False
            frames += self._plan.clips[before].frames
            if frames >= reach:
                return True
        return True

    def forget(self, index: int) -> None:
        """Remove a clip's negative and carry."""
        for path in (self._path(index, ".json"), self._path(index, ".safetensors"), self._carry_path(index)):
            path.unlink(missing_ok=True)
        self._records[index] = None

    def forget_carries(self) -> None:
        """Remove what only goes on: when all clips are there nothing does."""
        for path in self._folder.glob("carry_*.safetensors"):
            path.unlink(missing_ok=True)

    def end_chain(self, index: int) -> None:
        """The last clip of a chain, which has this index, is there: nothing goes on from the others."""
        self._forget_carries(index)

    def _forget_carries(self, index: int, but: Path | None = None) -> None:
        """Of the chain of a clip; also those of other takes and renders: all can be made again from negatives."""
        for clip in self._plan.chain_of(self._plan.clips[index]).clips:
            for path in self._folder.glob(f"carry_{clip.index + 1:05d}_*.safetensors"):
                if path != but:
                    path.unlink(missing_ok=True)

    def _read(self, clip: Clip) -> NegativeRecord | None:
        try:
            data = read_json(self._path(clip.index, ".json"))
            record = NegativeRecord(**data) if misfit(data, _FORM) is None else None
        except (OSError, ValueError, TypeError):
            return None
        return record if record is not None and record.fingerprint == self._fingerprints[clip.index] else None

    def _is_intact(self, index: int, record: NegativeRecord) -> bool:
        if index not in self._intact:
            path = self._path(index, ".safetensors")
            self._intact[index] = path.is_file() and file_digest(path) == record.checksum
        return self._intact[index]

    def _path(self, index: int, ending: str) -> Path:
        return self._folder / f"clip_{index + 1:05d}_{self._fingerprints[index][:DIGITS]}.latents{ending}"

    def _carry_path(self, index: int) -> Path:
        return self._folder / f"carry_{index + 1:05d}_{self._fingerprints[index][:DIGITS]}.safetensors"


def _digest(arrays: Tensors) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(name.encode())
        digest.update(np.ascontiguousarray(arrays[name]).data)
    return digest.hexdigest()
