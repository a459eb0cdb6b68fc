"""Which encoders the installed PyAV has."""

import av

ENCODERS = ("libx264", "aac")
"""The encoders that soundreel uses: H.264 for pictures, AAC for sound."""


def missing_encoders() -> list[str]:
    """The encoders of `ENCODERS` that the installed PyAV lacks; its wheels on PyPI have them all."""
    return [name for name in ENCODERS if name not in av.codecs_available]
