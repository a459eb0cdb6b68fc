"""What is noted of a stored clip, beside its segment: what it is of, and checksums that tell whether it is whole."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from soundreel.disk.json_form import Form, misfit
from soundreel.disk.plain_json import read_json


@dataclass(frozen=True, kw_only=True)
class ClipRecord:
    """What a clip's JSON file says."""

    fingerprint: str
    seed: int
    before: str  # checksum of the carry that the clip was rendered from; "": none
    segment: str  # checksum
    carry: str  # checksum; "": none
    negative: str = ""  # checksum of what it was printed from; "": the engine keeps none
    facts: Mapping[str, Any] = field(default_factory=dict)


_FORM: Final[Form] = {
    "fingerprint": str,
    "seed": int,
    "before": str,
    "segment": str,
    "carry": str,
    "negative": str,
    "facts": dict,
}


def read_record(path: Path) -> ClipRecord | None:
    """A clip's record; None where there is none that can be read."""
    try:
        data = read_json(path)
        return ClipRecord(**data) if misfit(data, _FORM) is None else None
    except (OSError, ValueError, TypeError):
        return None
