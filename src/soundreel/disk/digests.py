"""What a file holds, as a short text: the whole of it, or samples where it is tens of gigabytes."""

import hashlib
import json
from pathlib import Path
from typing import Any, Final

from soundreel.units import StrPath

BLOCK_BYTES: Final = 2**20

SAMPLED_BLOCKS: Final = 32
"""Of a file that is larger than so many blocks, as many are read, first and last among them."""


def file_digest(path: StrPath) -> str:
    """SHA-256 of all of a file."""
    with Path(path).open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sampled_digest(path: StrPath) -> str:
    """Size in bytes and SHA-256 of 32 MiB of a file: its beginning, its end, and blocks evenly between.

    Two different models are told apart in milliseconds. A change of a few bytes between the blocks is not seen:
    `soundreel models verify` reads all.
    """
    path = Path(path)
    size = path.stat().st_size
    last = max(size - BLOCK_BYTES, 0)
    spread = [last * k // (SAMPLED_BLOCKS - 1) for k in range(SAMPLED_BLOCKS)]
    places = spread if size > SAMPLED_BLOCKS * BLOCK_BYTES else range(0, size, BLOCK_BYTES)
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for place in places:
            file.seek(place)
            digest.update(file.read(BLOCK_BYTES))
    return f"{size}-{digest.hexdigest()}"


def data_digest(data: Any) -> str:
    """SHA-256 of plain data, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()
