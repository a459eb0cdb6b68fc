"""Sound to the features that drive the video: wav2vec2 states, one column per video frame.

Legend: n samples, S states (25: the input of each of 24 layers, then the normed output), T50 and T30 features at
50 and 30 per second, C width of the encoder (1024), T video frames.
Formulas: Wan-Video/Wan2.2 (Apache-2.0), `AudioEncoder`.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from transformers import Wav2Vec2Model

from soundreel.engines.native.network import Placed
from soundreel.request import AvAlign
from soundreel.units import MODEL_FPS
from soundreel.weights.catalog import Component
from soundreel.weights.components import load_part
from soundreel.weights.find import ModelFiles
from soundreel.weights.load import OnLoad

ENCODER_RATE = 50.0
"""wav2vec2 states per second of sound."""

FEATURE_RATE = 30
"""Features per second that the video frames are picked from."""

VARIANCE_FLOOR = 1e-7


class SoundEncoder(Placed[Wav2Vec2Model]):
    """Turns mono sound at 16 kHz into features, the whole of it at once."""

    @classmethod
    def load(
        cls,
        model: ModelFiles,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        on_load: OnLoad | None = None,
    ) -> "SoundEncoder":
        """Load the model's audio encoder; raises `WeightsError`."""
        part = model[Component.AUDIO_ENCODER]
        return cls(load_part(part, Wav2Vec2Model, device=device, dtype=dtype, on_load=on_load))

    def states(self, samples: NDArray[np.float32]) -> Tensor:
        """[n] mono at 16 kHz → float32 [S, T50, C] on the network's device; T50 = 0 for less than 25 ms."""
        return self.states_of(normalize(samples) if len(samples) else samples)

    @torch.no_grad()
    def states_of(self, normalized: NDArray[np.float32]) -> Tensor:
        """The same for sound that is normalized already."""
        config = self.network.config
        if self.count_states(len(normalized)) < 1:
            return torch.zeros(config.num_hidden_layers + 1, 0, config.hidden_size, device=self.device)
        heard = torch.from_numpy(normalized).to(self.device, self.dtype)
        output = self.network(heard.unsqueeze(0), output_hidden_states=True)
        # the last hidden state is normed only there, whichever version of transformers
        return torch.cat([*output.hidden_states[:-1], output.last_hidden_state]).float()

    def features(self, samples: NDArray[np.float32]) -> Tensor:
        """[n] mono at 16 kHz → float32 [S, T30, C] on the network's device."""
        return to_feature_rate(self.states(samples))

    def count_states(self, samples: int) -> int:
        """T50 of n samples."""
        config = self.network.config
        for kernel, stride in zip(config.conv_kernel, config.conv_stride, strict=True):
            samples = (samples - kernel) // stride + 1
        return samples


def normalize(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Zero mean and unit variance over all of the sound; silence stays silent."""
    samples = np.asarray(samples, dtype=np.float32)
    scaled: NDArray[np.float32] = (samples - samples.mean()) / np.sqrt(samples.var() + VARIANCE_FLOOR)
    return scaled


def feature_length(states: int) -> int:
    """T50 → T30, as truncated double arithmetic gives it: 205 → 122, and not 123."""
    return int(states / ENCODER_RATE * FEATURE_RATE)


def to_feature_rate(states: Tensor) -> Tensor:
    """[S, T50, C] → [S, T30, C], linear in time, first and last kept."""
    length = feature_length(states.shape[1])
    if length == 0:
        return states[:, :0]
    return functional.interpolate(states.transpose(1, 2), size=length, mode="linear", align_corners=True).transpose(
        1, 2
    )


def feature_index(frame: int) -> int:
    """Which feature drives a sampled frame: the nearest in time, halves to the even one."""
    return round(frame / MODEL_FPS * FEATURE_RATE)


def frame_features(features: Tensor, frames: int, *, shift: int = 0) -> Tensor:
    """[S, T30, C] → [S, C, T]: one column per sampled frame, zeros where the sound has ended.

    Args:
        features: at 30 per second.
        frames: T, sampled frames of all clips, lead-in included.
        shift: frames by which the sound is heard later, the first column repeated: with the lead-in's length,
            output frame j is driven by the sound at j/16 s; with 0 by that at (j + lead-in)/16 s, as in the reference.
    """
    index = torch.tensor([feature_index(max(frame - shift, 0)) for frame in range(frames)], device=features.device)
    length = features.shape[1]
    heard = index < length
    if length == 0:
        return features.new_zeros(features.shape[0], features.shape[2], frames)
    columns = features[:, index.clamp(max=length - 1)] * heard[:, None]
    return columns.transpose(1, 2)


def lead_in_shift(lead_in: int, align: AvAlign) -> int:
    """The `shift` of `frame_features` for a plan whose first clip drops `lead_in` frames."""
    return lead_in if align is AvAlign.SOUND else 0
