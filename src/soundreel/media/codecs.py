"""What the PyAV build at hand can encode."""

import av

ENCODERS = ("libx264", "aac")
"""All that soundreel writes: H.264 pictures and an AAC track."""


def missing_encoders() -> list[str]:
    """The encoders of `ENCODERS` that this PyAV lacks; its wheels from PyPI have them all."""
    return [name for name in ENCODERS if name not in av.codecs_available]
