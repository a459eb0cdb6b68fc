"""What of a spectrum is voice, by Spleeter's two networks."""

from functools import cache
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray

from soundreel.models.spectrogram_unet import SpectrogramUNet
from soundreel.separation.masking import FREQUENCIES, Mask
from soundreel.weights.voice_separator import find_checkpoints, load_network

HEARD_FREQUENCIES: Final = 1024
"""That the networks take, up to 11 kHz; of those above nothing is taken for voice."""

FLOOR: Final = 1e-10


@cache
def _networks() -> tuple[SpectrogramUNet, ...]:
    """Of the voice and of all else; 79 MB."""
    return tuple(load_network(path) for path in find_checkpoints())


@torch.inference_mode()
def voice_mask(magnitudes: NDArray[np.float32]) -> Mask:
    """The voice's share of the power, for the magnitudes [2, 512, F] of a segment.

    Raises:
        WeightsError: the networks are not installed.
    """
    mix = torch.from_numpy(np.ascontiguousarray(magnitudes[:, :, :HEARD_FREQUENCIES]))[None]
    voice, rest = (network(mix)[0].square() for network in _networks())
    mask = np.zeros((*magnitudes.shape[:2], FREQUENCIES), np.float32)
    mask[:, :, :HEARD_FREQUENCIES] = ((voice + FLOOR / 2) / (voice + rest + FLOOR)).numpy()
    return mask
