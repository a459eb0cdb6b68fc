"""A source of a stereo sound of any length: its spectrum times a mask, in steps of 10.24 s and in flat memory.

Frames of 4096 samples, 1024 apart, as in Spleeter: frame t covers the samples 1024·(t − 4) … 1024·t. Masks are made for
a *segment* of 512 frames at once. Segments begin `STEP_FRAMES` apart and lie on the time line of the whole file: so the
mask of a moment does not depend on which part of the file is asked for. Where two overlap, one is faded into the other.

A *step* is what one segment adds: 441 · 1024 samples, a whole number of samples at every common rate.
Axes: 2 channels, T frames, F frequencies, n samples.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Final

import numpy as np
from numpy.typing import NDArray

RATE: Final = 44_100
FRAME: Final = 4096
HOP: Final = 1024
BEFORE: Final = FRAME // HOP
"""Frames that a hop of samples lies in."""

SEGMENT_FRAMES: Final = 512
STEP_FRAMES: Final = 441
STEP_SAMPLES: Final = STEP_FRAMES * HOP
STEP_SECONDS: Final = STEP_SAMPLES / RATE
"""10.24."""

CHANNELS: Final = 2
FREQUENCIES: Final = FRAME // 2 + 1

WINDOW: Final = np.hanning(FRAME + 1)[:-1].astype(np.float32)
"""Periodic, so that the squares of overlapping ones add up to 1.5 everywhere."""

OVERLAP: Final = SEGMENT_FRAMES - STEP_FRAMES
FADE: Final = np.clip((np.arange(OVERLAP, dtype=np.float32) - BEFORE + 0.5) / (OVERLAP - 2 * BEFORE), 0, 1)
"""Share of the later segment in the frames of two; none where the step before still ends."""

Stereo = NDArray[np.float32]
"""[n, 2] at `RATE`."""

Spectrum = NDArray[np.complex64]
"""[2, T, F]."""

Mask = NDArray[np.float32]
"""[2, T, F], 0 to 1."""

MaskOf = Callable[[NDArray[np.float32]], Mask]
"""The mask for the magnitudes [2, 512, F] of a segment."""


def masked_steps(blocks: Iterable[Stereo], mask_of: MaskOf, *, first: int, stop: int) -> Iterator[NDArray[np.float32]]:
    """The masked sound as mono, [441 · 1024] for each step from `first` to before `stop`; silence after the end.

    `blocks` are the sound from the step `source_start(first)` of the file on.
    """
    segment = max(first - 1, 0)  # the one before is faded out
    before: Mask | None = None
    for spectrum in _segments(blocks, segment):
        mask = mask_of(np.abs(spectrum))
        own = mask[:, : STEP_FRAMES + BEFORE].copy()
        if before is not None:
            own[:, :OVERLAP] = before + FADE[:, None] * (own[:, :OVERLAP] - before)
        before = mask[:, STEP_FRAMES:]
        if segment >= first:
            yield _inverse(spectrum[:, : STEP_FRAMES + BEFORE] * own)
        segment += 1
        if segment == stop:
            return


def at_step(step: int) -> float:
    """When a step begins, in seconds; a hair later, so that its first sample at any rate is not missed by rounding."""
    return step * STEP_SAMPLES / RATE + 1e-6


def source_start(first: int) -> int:
    """The step at which the sound for `masked_steps` begins."""
    return max(first - 2, 0)


def _segments(blocks: Iterable[Stereo], first: int) -> Iterator[Spectrum]:
    """Spectra of the segments from `first` on, without end, for sound that begins a step before it, or at 0."""
    lead, length = BEFORE * HOP, (SEGMENT_FRAMES - 1) * HOP + FRAME
    held = np.zeros((lead, CHANNELS), np.float32) if first == 0 else np.empty((0, CHANNELS), np.float32)
    dropped = 0 if first == 0 else STEP_SAMPLES - lead
    source = iter(blocks)
    while True:
        pieces, count = [held], len(held)
        while count < dropped + length and (block := next(source, None)) is not None:
            pieces.append(block)
            count += len(block)
        held = np.concatenate(pieces)[dropped:]
        yield _spectrum(held[:length] if len(held) >= length else np.pad(held, ((0, length - len(held)), (0, 0))))
        dropped = STEP_SAMPLES


def _spectrum(sound: Stereo) -> Spectrum:
    """[512 · 1024 + 3072, 2] → [2, 512, F]."""
    frames = np.lib.stride_tricks.sliding_window_view(sound, FRAME, axis=0)[::HOP]  # [T, 2, 4096]
    return np.fft.rfft(frames.transpose(1, 0, 2) * WINDOW, axis=-1).astype(np.complex64)


def _inverse(spectrum: Spectrum) -> NDArray[np.float32]:
    """Mono samples of a step, from its frames [2, 4 + 441, F]: the first hop is the one that frames 1 to 4 share."""
    frames = np.fft.irfft(spectrum[:, 1:].mean(axis=0), axis=-1) * WINDOW  # [3 + 441, 4096]
    sound = np.zeros(((STEP_FRAMES + 2 * (BEFORE - 1)) * HOP), np.float64).reshape(-1, HOP)  # [hops, 1024]
    for part in range(BEFORE):
        sound[part : part + len(frames)] += frames[:, part * HOP : (part + 1) * HOP]
    return (sound[BEFORE - 1 : BEFORE - 1 + STEP_FRAMES] / 1.5).reshape(-1).astype(np.float32)
