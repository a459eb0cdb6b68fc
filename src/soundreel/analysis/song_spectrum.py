"""What is kept of a song while it streams by: accents, harmony, timbre and level, a few numbers for each moment.

Letters: H hops (100 per second), F frames (16 per second), B bands of the flux, T bands of the timbre, W moments of
`wavering` (32 per second).
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from soundreel.analysis.spectrum import (
    CHUNK_FRAMES,
    CHUNK_HOPS,
    CHUNK_SAMPLES,
    FLUX_FLOOR_DB,
    FLUX_LAG,
    FRAME_SAMPLES,
    FRAME_WINDOW,
    HOP_SAMPLES,
    HOP_WINDOW,
    LOUDNESS_EXPONENT,
    MARGIN,
    SAMPLE_RATE,
    Rows,
    Values,
    band_flux,
    bin_hz,
    chroma_of,
    flux_band_edges,
    levels_of,
    onset_shifts,
    power_spectrum,
    windows_of,
)
from soundreel.analysis.streaming import Samples, chunks
from soundreel.analysis.wavering import HOP, wavering_of

FRAMES_PER_SECOND = SAMPLE_RATE // FRAME_SAMPLES

ACCENT_EDGES_HZ = (150.0, 2000.0)
"""Between the low accents (bass drum, bass), those in the middle (snare, chords, voice) and the high ones (cymbals)."""

TIMBRE_BANDS = 20
TIMBRE_HZ = (60.0, 14_000.0)
TIMBRE_FLOOR = 1e-7
"""Power in a band below which there is silence: -70 dB."""


COLUMN_HOPS = {
    "accents": HOP_SAMPLES,
    "flux_db": HOP_SAMPLES,
    "onset_shift": HOP_SAMPLES,
    "levels": FRAME_SAMPLES,
    "chroma": FRAME_SAMPLES,
    "timbre": FRAME_SAMPLES,
    "wavering": HOP,
}
"""Samples from one row of a column of `SongSpectrum` to the next."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SongSpectrum:
    """A song in a few numbers for each moment; about 12 MB per hour."""

    seconds: float  # length
    accents: Rows  # [H, 3] spectral flux in loudness of low, middle and high frequencies
    flux_db: Rows  # [H] spectral flux in dB, mean over bands
    onset_shift: Rows  # [H] seconds from the hop to the steepest rise of the amplitude near it
    levels: Rows  # [F, 4] 0..1: loudness, low, mid, high
    chroma: Rows  # [F, 12]
    timbre: Rows  # [F, T] level in dB of bands as wide for the ear, -70 in silence
    wavering: Rows  # [W] share of bands in which pitches waver, as a voice's do


def spectrum_of_song(blocks: Iterable[Samples]) -> SongSpectrum:
    """Take in a stream of mono blocks [any length] at `SAMPLE_RATE`; memory grows by the result alone."""
    samples = 0

    def counted() -> Iterator[Samples]:
        nonlocal samples
        for block in blocks:
            samples += len(block)
            yield block

    found = (_columns(chunk) for chunk in chunks(counted(), size=CHUNK_SAMPLES, margin=MARGIN))
    parts = list(found) or [_columns(np.zeros(MARGIN + CHUNK_SAMPLES + MARGIN, np.float32))]  # of no sound: no rows
    columns = {
        name: np.concatenate([part[name] for part in parts])[: -(-samples // hop)] for name, hop in COLUMN_HOPS.items()
    }
    return SongSpectrum(seconds=samples / SAMPLE_RATE, **columns)


def _columns(chunk: Samples) -> dict[str, Rows]:
    """The columns of `SongSpectrum` for the middle of a chunk, [MARGIN + CHUNK_SAMPLES + MARGIN]."""
    power = power_spectrum(windows_of(chunk, FRAME_WINDOW, hop=FRAME_SAMPLES, first=0, count=CHUNK_FRAMES))
    levels = levels_of(power)
    flux_db, accents = _accents(chunk)
    shift, is_sound_end = onset_shifts(chunk)
    columns = {
        "accents": accents * ~is_sound_end[:, None],
        "flux_db": flux_db * ~is_sound_end,
        "onset_shift": shift,
        "levels": levels,
        "chroma": chroma_of(power) * (levels[:, :1] > 0),
        "timbre": _timbre(power),
        "wavering": wavering_of(chunk),
    }
    return {name: values.astype(np.float32, copy=False) for name, values in columns.items()}


def _accents(chunk: Samples) -> tuple[Values, Values]:
    """Spectral flux in dB [H], and in loudness of low, middle and high frequencies [H, 3]."""
    windows = windows_of(chunk, HOP_WINDOW, hop=HOP_SAMPLES, first=-FLUX_LAG, count=CHUNK_HOPS + FLUX_LAG)
    edges = flux_band_edges()
    bands = np.add.reduceat(power_spectrum(windows), edges, axis=1)
    db = 10 * np.log10(1 + bands * np.float32(10 ** (-FLUX_FLOOR_DB / 10)))
    rises = band_flux(bands**LOUDNESS_EXPONENT)
    middle, high = np.searchsorted(edges * (SAMPLE_RATE / HOP_WINDOW), ACCENT_EDGES_HZ)
    parts = (rises[:, :middle], rises[:, middle:high], rises[:, high:])
    return band_flux(db).mean(axis=1), np.stack([part.mean(axis=1) for part in parts], axis=1)


def _timbre(power: Values) -> Values:
    """Levels in dB [F, T] of bands that are equally wide on a logarithmic scale, of the power spectrum [F, K]."""
    edges = np.searchsorted(bin_hz(), np.geomspace(*TIMBRE_HZ, TIMBRE_BANDS + 1))
    bands = np.add.reduceat(power, np.maximum.accumulate(edges), axis=1)[:, :TIMBRE_BANDS]
    decibels: Values = 10 * np.log10(bands + np.float32(TIMBRE_FLOOR))
    return decibels
