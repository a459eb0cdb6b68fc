"""What hearing a long sound in windows changes: features of 100 s, windowed against whole, tiny and full-size.

`python -m benchmarks.sound_windows [CHECKPOINT]`: a random wav2vec2 of the published size, and the audio encoder of
CHECKPOINT where one is given. Relative L2 over all frames, over the worst frame, and near the joins of windows.
"""

import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from soundreel.engines.native.long_sound import CORE_SECONDS, encode_columns, survey
from soundreel.engines.native.sound import SoundEncoder, frame_features
from soundreel.models.wav2vec2 import Wav2Vec2
from soundreel.units import MODEL_FPS
from soundreel.weights.audio_keys import CONV_STRIDES
from soundreel.weights.find import find_model

SECONDS, RATE = 100, 16_000
NEAR_FRAMES = 8
"""Half a second."""


def full_size() -> SoundEncoder:
    """Random weights in the shape of wav2vec2-large-xlsr-53."""
    torch.manual_seed(0)
    network = Wav2Vec2(
        hidden_size=1024,
        num_hidden_layers=24,
        num_attention_heads=16,
        intermediate_size=4096,
        do_stable_layer_norm=True,
        feat_extract_norm="layer",
        conv_dim=[512] * 7,
        conv_kernel=[10, 3, 3, 3, 3, 2, 2],
        conv_stride=CONV_STRIDES,
        conv_bias=True,
        num_conv_pos_embeddings=128,
        num_conv_pos_embedding_groups=16,
    )
    network.train(mode=False)
    return SoundEncoder(network)


def sound() -> NDArray[np.float32]:
    """Notes, drums and breath that grow louder: no two seconds alike."""
    t = np.arange(SECONDS * RATE) / RATE
    rng = np.random.default_rng(0)
    notes = np.repeat(rng.choice([220, 262, 330, 392, 440], SECONDS * 2), RATE // 2)
    drum = rng.standard_normal(t.size) * np.exp(-(t % 0.5) / 0.05)
    loud = 0.05 + 0.3 * t / SECONDS + 0.1 * np.sin(2 * np.pi * t / 17)
    wave: NDArray[np.float32] = (loud * (np.sin(2 * np.pi * notes * t) + drum)).astype(np.float32)
    return wave


def compare(name: str, encoder: SoundEncoder) -> None:
    """Print one row."""
    samples, frames = sound(), SECONDS * MODEL_FPS

    def blocks() -> Iterator[NDArray[np.float32]]:
        yield from np.array_split(samples, SECONDS // 10)

    begun = time.perf_counter()
    windowed = torch.cat(list(encode_columns(encoder, survey(blocks()), blocks, frames, 0)), dim=2)
    between = time.perf_counter()
    whole = frame_features(encoder.features(samples), frames)
    ended = time.perf_counter()
    error, size = (windowed - whole).double(), whole.double()
    by_frame = error.flatten(0, 1).norm(dim=0) / size.flatten(0, 1).norm(dim=0)
    by_state = error.flatten(1).norm(dim=1) / size.flatten(1).norm(dim=1)
    joins = torch.arange(CORE_SECONDS, SECONDS, CORE_SECONDS) * MODEL_FPS
    near = torch.cat([by_frame[join - NEAR_FRAMES : join + NEAR_FRAMES] for join in joins])
    print(
        f"{name:<12}{error.norm() / size.norm():>10.1e}{by_frame.max():>13.1e}{near.mean():>12.1e}"
        f"{by_state.max():>14.1e}{between - begun:>10.1f} s{ended - between:>8.1f} s"
    )


@torch.no_grad()
def main(checkpoint: Path | None = None) -> None:
    """Print the table."""
    heading = f"{'wav2vec2':<12}{'all':>10}{'worst frame':>13}{'near joins':>12}{'worst state':>14}"
    print(f"{heading}{'windows':>12}{'whole':>10}")
    if checkpoint is not None:
        compare("checkpoint", SoundEncoder.load(find_model(checkpoint)))
    compare("full-size", full_size())


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
