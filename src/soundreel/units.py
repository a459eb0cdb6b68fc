"""Constants of the model and the files, and the types of paths and pictures.

Shapes: T frames, H rows, W columns, 3 = RGB.
"""

import os
from typing import TYPE_CHECKING, TypeAlias

if TYPE_CHECKING:  # numpy takes a third of the time in which `soundreel --help` has to answer
    import numpy as np
    from numpy.typing import NDArray

MODEL_FPS = 16
"""Frames per second of Wan 2.2 S2V, before interpolation."""

FRAMES_PER_LATENT = 4
"""Pictures that one latent frame stands for."""

LEAD_IN_FRAMES = 3
"""Frames that the first clip decodes after the reference and drops."""

VAE_STRIDE, PATCH_SIZE = 8, 2
"""Pixels per latent pixel and latent pixels per token of the transformer, along each side."""

SIZE_MULTIPLE = VAE_STRIDE * PATCH_SIZE
"""Pixels per token along each side: width and height are multiples of this."""

GIB = 2**30
"""Bytes."""

DEFAULT_CRF, MAX_CRF = 18, 51
"""H.264 quality (constant rate factor): 0 is lossless, the largest is the worst."""

MAX_FPS = 240
"""Highest rate of a video that is written."""

MAX_SIDE_PIXELS = 16384
"""Largest side that H.264 can carry."""

MAX_STEPS = 1000
"""Noise levels that the model was trained on: there are no more to step through."""

MAX_CLIPS = 99_999
"""Of one render: names of files have five digits for a clip's number."""

MAX_CLIP_FRAMES = 16_384
"""Longest clip: what a ComfyUI node takes. The model was trained on 80 frames."""

MAX_SECONDS = 10**9
"""Longest time that is taken for one: 31 years."""

PATIENCE = 2
"""Signals to stop that are waited for; the next one ends the process, tidy or not: what was kept is on the disk."""

StrPath = str | os.PathLike[str]

Frames: TypeAlias = "NDArray[np.uint8]"
"""Pictures, uint8 RGB, shape [T, H, W, 3]."""
