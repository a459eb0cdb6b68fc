"""JSON in files that may come from anyone: a work folder that was handed over, a downloaded model, a graph."""

import json
import os
import stat
from pathlib import Path
from typing import Any, Final

MOST_BYTES: Final = 256 * 2**20
"""Of a JSON file: a hundred times what soundreel writes for a render of ten thousand clips."""


def parse_json(text: str | bytes) -> Any:
    """The data in a JSON text; `ValueError` for whatever is wrong with it, also where it is nested too deeply."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def read_json(path: Path) -> Any:
    """The data in a JSON file.

    Raises:
        OSError: there is no such file, or it cannot be read.
        ValueError: it is no JSON, too large, or no plain file: nothing that waits forever is read.
    """
    handle = os.open(path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0))  # of a pipe, opening would wait for a writer
    with os.fdopen(handle, encoding="utf-8") as file:
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode) or status.st_size > MOST_BYTES:
            raise ValueError("it is no plain file, or far too large")
        return parse_json(file.read())
