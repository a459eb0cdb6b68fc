"""wav2vec2 features of driving sound of any length, in linear time and constant memory, by overlapping windows.

wav2vec2's attention is over its whole input, which limits the reference to some minutes. Sound of up to
`WHOLE_SECONDS` is one input here too, exactly as there. Longer sound is encoded `CORE_SECONDS` at a time with
`CONTEXT_SECONDS` before and after, normalized by mean and variance of the whole. benchmarks/notes.md has the error.

Legend: n samples, S states, T50 states at 50 per second, C width, T video frames.
"""

import hashlib
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from soundreel.engines.native.sound import (
    SAMPLES_PER_STATE,
    VARIANCE_FLOOR,
    SoundEncoder,
    feature_index,
    feature_length,
    frame_features,
)
from soundreel.media.audio import MODEL_SAMPLE_RATE

Samples = NDArray[np.float32]
"""Mono at 16 kHz, [n]."""

WHOLE_SECONDS = 60
CORE_SECONDS = 40
CONTEXT_SECONDS = 10


@dataclass(frozen=True, kw_only=True)
class Survey:
    """Statistics of a sound, from one pass over it."""

    count: int
    mean: float
    variance: float
    digest: str  # SHA-256 of the samples
    samples: Samples | None  # all of them, if not longer than `WHOLE_SECONDS`

    def normalize(self, samples: Samples) -> Samples:
        """A part of the sound, scaled by mean and variance of the whole."""
        scale = 1 / math.sqrt(self.variance + VARIANCE_FLOOR)
        return ((samples - self.mean) * scale).astype(np.float32)


def survey(blocks: Iterable[Samples]) -> Survey:
    """Mean and variance of the sound in `blocks`, in double precision by the parallel algorithm of Chan et al."""
    count, mean, squares = 0, 0.0, 0.0
    digest = hashlib.sha256()
    kept: list[Samples] | None = []
    for block in blocks:
        digest.update(np.ascontiguousarray(block).data)
        values = block.astype(np.float64)
        total = count + len(block)
        difference = values.mean() - mean
        squares += ((values - values.mean()) ** 2).sum() + difference**2 * count * len(block) / total
        mean += difference * len(block) / total
        count = total
        if count > WHOLE_SECONDS * MODEL_SAMPLE_RATE:
            kept = None
        if kept is not None:
            kept.append(block)
    return Survey(
        count=count,
        mean=float(mean),
        variance=float(squares / max(count, 1)),
        digest=digest.hexdigest(),
        samples=None if kept is None else np.concatenate([np.empty(0, np.float32), *kept]),
    )


def encode_columns(
    encoder: SoundEncoder, found: Survey, blocks: Callable[[], Iterable[Samples]], frames: int, shift: int
) -> Iterator[Tensor]:
    """The T = `frames` columns of `frame_features`, in pieces [S, C, t]; `blocks` reads the sound again."""
    if found.samples is not None:
        yield frame_features(encoder.features(found.samples), frames, shift=shift)
        return
    states = _window_states(encoder, found, blocks())
    yield from pick_columns(states, encoder.count_states(found.count), frames, shift)


def _window_states(encoder: SoundEncoder, found: Survey, blocks: Iterable[Samples]) -> Iterator[Tensor]:
    """Hidden states of the whole sound, in pieces [S, t, C], one for each core."""
    rate = MODEL_SAMPLE_RATE
    core, context = CORE_SECONDS * rate // SAMPLES_PER_STATE, CONTEXT_SECONDS * rate // SAMPLES_PER_STATE
    total = encoder.count_states(found.count)
    begin, held = 0, np.empty(0, np.float32)  # `held` begins with sample `begin`
    source = iter(blocks)
    for first in range(0, total, core):
        window = max(first - context, 0) * SAMPLES_PER_STATE
        stop = (first + core + context) * SAMPLES_PER_STATE
        pieces = [held[window - begin :]]
        count = window + len(pieces[0])
        while count < stop and (block := next(source, None)) is not None:
            pieces.append(block)
            count += len(block)
        begin, held = window, np.concatenate(pieces)
        states = encoder.states_of(found.normalize(held[: stop - begin]))
        before = first - window // SAMPLES_PER_STATE
        yield states[:, before : before + min(core, total - first)]


def pick_columns(states: Iterable[Tensor], total: int, frames: int, shift: int) -> Iterator[Tensor]:
    """T50 = `total` states in pieces [S, t, C] → T = `frames` columns in pieces [S, C, t].

    The same as `to_feature_rate` and `frame_features`: linear between states, zeros after the end.
    """
    length = feature_length(total)
    index = np.array([feature_index(max(frame - shift, 0)) for frame in range(frames)])
    index = index[index < length]
    place = index * ((total - 1) / max(length - 1, 1))
    lower = np.minimum(place.astype(np.int64), total - 2)
    weight = torch.from_numpy((place - lower).astype(np.float32))
    done, begin = 0, 0
    held: Tensor | None = None  # the last state of the piece before
    for piece in states:
        known = piece if held is None else torch.cat([held, piece], dim=1)
        first = begin - (held is not None)
        begin += piece.shape[1]
        stop = int(np.searchsorted(lower, begin - 1))  # frames whose two states are known
        if stop > done:
            at = torch.from_numpy(lower[done:stop] - first).to(piece.device)
            share = weight[done:stop].to(piece.device)[:, None]
            yield (known[:, at] * (1 - share) + known[:, at + 1] * share).transpose(1, 2)
        done, held = stop, known[:, -1:]
    if held is not None and done < frames:
        yield held.new_zeros(held.shape[0], held.shape[2], frames - done)
