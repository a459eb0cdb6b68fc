"""ComfyUI's AUDIO: a dict of `waveform`, float32 [batch, channels, samples], and `sample_rate`."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

CATEGORY = "soundreel"

Audio = dict[str, Any]


def to_audio(samples: NDArray[np.float32], sample_rate: int) -> Audio:
    """Sound [samples, channels] as AUDIO."""
    waveform = torch.from_numpy(np.ascontiguousarray(samples.T))[None]
    return {"waveform": waveform, "sample_rate": sample_rate}


def to_samples(audio: Audio) -> NDArray[np.float32]:
    """The first sound of a batch, float32 [samples, channels]."""
    samples: NDArray[np.float32] = audio["waveform"][0].float().cpu().numpy().T
    return samples


def seconds_of(audio: Audio) -> float:
    """How long a sound is."""
    return float(audio["waveform"].shape[-1] / audio["sample_rate"])
