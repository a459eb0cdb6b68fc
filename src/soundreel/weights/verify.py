"""Verifies weight files: size, checksum, header, kind of network."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from soundreel.errors import WeightsError
from soundreel.weights.catalog import Bundle, KnownFile, known_file
from soundreel.weights.headers import TORCH_SUFFIXES, WEIGHT_SUFFIXES, check_torch_file, open_weights
from soundreel.weights.scan import group_shards, inspect_files, weight_files_in

HASHED_BYTES = 16 * 2**20
"""Bytes that are read and hashed at a time."""

OnBytes: TypeAlias = Callable[[int, int], None]
"""Called with the bytes hashed and their total; may raise `Cancelled`."""


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Result of the checks of one file."""

    path: Path
    what: str  # "a Wan S2V transformer", or the name of the check for other files
    checked: tuple[str, ...] = ()  # of: size, sha256, header
    problem: str | None = None  # None: nothing wrong was found


def verify_bundle(bundle: Bundle, models: Path, on_bytes: OnBytes | None = None) -> Iterator[Verdict]:
    """Check every file of a bundle; a missing one is a problem."""
    place = bundle.place(models)
    for file in bundle.files:
        yield verify_file(place / file.path, file, on_bytes)


def verify_folder(folder: Path, on_bytes: OnBytes | None = None) -> Iterator[Verdict]:
    """Check every weight file of Wan models in a folder of any known layout."""
    for path in (path for group in group_shards(weight_files_in(folder)) for path in group):
        verdict = verify_file(path, known_file(path), on_bytes)
        if verdict.what or verdict.problem:
            yield verdict


def verify_file(path: Path, known: KnownFile | None = None, on_bytes: OnBytes | None = None) -> Verdict:
    """Check one file; `known` tells what it should be."""
    what, checked = "", []
    try:
        if known is not None and not known.about:
            _check_size(path, known)
            checked.append("size")
        if path.suffix.lower() in WEIGHT_SUFFIXES:
            what = _check_kind(path, known)
            checked.append("header")
        if known is not None and known.sha256 is not None:
            _check_sha256(path, known.sha256, on_bytes)
            checked.append("sha256")
        if known is not None and not path.is_file():
            raise _not_there(path)
    except WeightsError as error:
        return Verdict(path=path, what=what, checked=tuple(checked), problem=str(error))
    return Verdict(path=path, what=what, checked=tuple(checked))


def _check_size(path: Path, known: KnownFile) -> None:
    if not path.is_file():
        raise _not_there(path)
    size = path.stat().st_size
    if size != known.size_bytes:
        raise WeightsError(f"{str(path)!r} has {size:,} bytes instead of {known.size_bytes:,}: download it again")


def _not_there(path: Path) -> WeightsError:
    return WeightsError(f"{str(path)!r} is not there")


def _check_kind(path: Path, known: KnownFile | None) -> str:
    """Name of the network in the file, from its header, for a shard from those of all shards; raises `WeightsError`."""
    shards = tuple(weight_files_in(path))
    part = inspect_files(shards)
    if known is not None and path.suffix.lower() in TORCH_SUFFIXES:
        check_torch_file(path)
    what = "" if part is None else part.identity.what
    if known is None or known.component is None or (part is None and len(shards) > 1):
        return what
    if part is None or part.component is not known.component or not part.identity.suits:
        raise WeightsError(f"{str(path)!r} is {what or 'a file of another kind'}: expected the {known.component}")
    return what


def _check_sha256(path: Path, expected: str, on_bytes: OnBytes | None) -> None:
    digest = hashlib.sha256()
    size, done = path.stat().st_size, 0
    with open_weights(path) as file:
        while block := file.read(HASHED_BYTES):
            digest.update(block)
            done += len(block)
            if on_bytes is not None:
                on_bytes(done, size)
    if digest.hexdigest() != expected:
        raise WeightsError(
            f"{str(path)!r} has sha256 {digest.hexdigest()[:12]}… instead of {expected[:12]}…: download it again"
        )
