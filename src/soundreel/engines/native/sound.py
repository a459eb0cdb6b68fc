"""Driving sound → wav2vec2 features, one column per video frame.

Legend: n samples, S hidden states (25: the input of each of 24 layers, then the normed output), T50 and T30
features at 50 and 30 per second, C width of the encoder (1024), T video frames.
Formulas: Wan-Video/Wan2.2 (Apache-2.0), `AudioEncoder`.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from soundreel.engines.native.network import LoadedNetwork
from soundreel.media.audio import MODEL_SAMPLE_RATE
from soundreel.models.wav2vec2 import Wav2Vec2
from soundreel.request import AvAlign
from soundreel.units import MODEL_FPS
from soundreel.weights.catalog import Component

SAMPLES_PER_STATE = 320
"""Stride of wav2vec2's convolutions: 20 ms."""

ENCODER_RATE = MODEL_SAMPLE_RATE / SAMPLES_PER_STATE
"""50 wav2vec2 states per second of sound."""

FEATURE_RATE = 30
"""Features per second after resampling; each video frame takes one of them."""

VARIANCE_FLOOR = 1e-7


class SoundEncoder(LoadedNetwork[Wav2Vec2]):
    """wav2vec2: mono sound at 16 kHz → features. The whole sound is one input; see `long_sound` for long ones."""

    component = Component.AUDIO_ENCODER
    kind = Wav2Vec2

    def states(self, samples: NDArray[np.float32]) -> Tensor:
        """Samples [n] → hidden states, float32 [S, T50, C] on the network's device; T50 = 0 for less than 25 ms."""
        return self.states_of(normalize(samples) if len(samples) else samples)

    @torch.no_grad()
    def states_of(self, normalized: NDArray[np.float32]) -> Tensor:
        """`states` of samples that are normalized already."""
        if self.count_states(len(normalized)) < 1:
            return torch.zeros(self.network.layers + 1, 0, self.network.width, device=self.device)
        samples = torch.from_numpy(normalized).to(self.device, self.dtype)
        return torch.cat(self.network(samples.unsqueeze(0))).float()

    def features(self, samples: NDArray[np.float32]) -> Tensor:
        """Samples [n] → features, float32 [S, T30, C] on the network's device."""
        return to_feature_rate(self.states(samples))

    def count_states(self, samples: int) -> int:
        """T50 for n samples."""
        for kernel, stride in zip(self.network.kernels, self.network.strides, strict=True):
            samples = (samples - kernel) // stride + 1
        return samples


def normalize(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Samples scaled to zero mean and unit variance; silence stays silent."""
    samples = np.asarray(samples, dtype=np.float32)
    scaled: NDArray[np.float32] = (samples - samples.mean()) / np.sqrt(samples.var() + VARIANCE_FLOOR)
    return scaled


def feature_length(states: int) -> int:
    """T50 → T30, truncated in double precision as in the reference: 205 → 122, not 123."""
    return int(states / ENCODER_RATE * FEATURE_RATE)


def to_feature_rate(states: Tensor) -> Tensor:
    """[S, T50, C] → [S, T30, C] by linear interpolation with the ends aligned."""
    length = feature_length(states.shape[1])
    if length == 0:
        return states[:, :0]
    return functional.interpolate(states.transpose(1, 2), size=length, mode="linear", align_corners=True).transpose(
        1, 2
    )


def feature_index(frame: int) -> int:
    """Index of the feature that drives a sampled frame: the nearest in time, ties to the even index."""
    return round(frame / MODEL_FPS * FEATURE_RATE)


def frame_features(features: Tensor, frames: int, *, shift: int = 0) -> Tensor:
    """[S, T30, C] → [S, C, T]: one column per sampled frame, zeros where the sound has ended.

    Args:
        features: at 30 per second.
        frames: T, sampled frames of all clips, lead-in included.
        shift: frames by which the sound is delayed, the first column repeated. With the lead-in's length, output
            frame j is driven by the sound at j/16 s; with 0 by that at (j + lead-in)/16 s, as in the reference.
    """
    index = torch.tensor([feature_index(max(frame - shift, 0)) for frame in range(frames)], device=features.device)
    length = features.shape[1]
    has_sound = index < length
    if length == 0:
        return features.new_zeros(features.shape[0], features.shape[2], frames)
    columns = features[:, index.clamp(max=length - 1)] * has_sound[:, None]
    return columns.transpose(1, 2)


def lead_in_shift(lead_in: int, align: AvAlign) -> int:
    """`shift` for `frame_features` where the first clip drops `lead_in` frames."""
    return lead_in if align is AvAlign.SOUND else 0
