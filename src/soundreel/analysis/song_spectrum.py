"""What is kept of a song while it streams by: accents, harmony, timbre and level, a few numbers for each moment.

Letters: H hops (100 per second), F frames (16 per second), B bands of the flux, T bands of the timbre.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields

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

FRAMES_PER_SECOND = SAMPLE_RATE // FRAME_SAMPLES

ACCENT_EDGES_HZ = (150.0, 2000.0)
"""Between the low accents (bass drum, bass), those in the middle (snare, chords, voice) and the high ones (cymbals)."""

TIMBRE_BANDS = 20
TIMBRE_HZ = (60.0, 14_000.0)
TIMBRE_FLOOR = 1e-7
"""Power in a band below which there is silence: -70 dB."""


@dataclass(frozen=True, kw_only=True, eq=False)
class SongSpectrum:
    """A song in a few numbers for each moment; about 9 MB per hour."""

    accents: Rows  # [H, 3] spectral flux in loudness of low, middle and high frequencies
    flux_db: Rows  # [H] spectral flux in dB, mean over bands
    onset_shift: Rows  # [H] seconds from the hop to the steepest rise of the amplitude near it
    levels: Rows  # [F, 4] 0..1: loudness, low, mid, high
    chroma: Rows  # [F, 12]
    timbre: Rows  # [F, T] level in dB of bands as wide for the ear, -70 in silence

    @property
    def seconds(self) -> float:
        """Length, rounded up to a whole frame."""
        return len(self.levels) / FRAMES_PER_SECOND


def spectrum_of_song(blocks: Iterable[Samples]) -> SongSpectrum:
    """Take in a stream of mono blocks [any length] at `SAMPLE_RATE`; memory grows by the result alone."""
    samples = 0

    def counted() -> Iterator[Samples]:
        nonlocal samples
        for block in blocks:
            samples += len(block)
            yield block

    parts = [_chunk(chunk) for chunk in chunks(counted(), size=CHUNK_SAMPLES, margin=MARGIN)]
    hops, frames = -(-samples // HOP_SAMPLES), -(-samples // FRAME_SAMPLES)
    lengths = {"accents": hops, "flux_db": hops, "onset_shift": hops}
    return SongSpectrum(
        **{
            field.name: np.concatenate([getattr(part, field.name) for part in [_NOTHING, *parts]])[
                : lengths.get(field.name, frames)
            ]
            for field in fields(SongSpectrum)
        }
    )


_NOTHING = SongSpectrum(
    accents=np.empty((0, 3), np.float32),
    flux_db=np.empty(0, np.float32),
    onset_shift=np.empty(0, np.float32),
    levels=np.empty((0, 4), np.float32),
    chroma=np.empty((0, 12), np.float32),
    timbre=np.empty((0, TIMBRE_BANDS), np.float32),
)


def _chunk(chunk: Samples) -> SongSpectrum:
    """The same of the middle of a chunk, [MARGIN + CHUNK_SAMPLES + MARGIN]."""
    power = power_spectrum(windows_of(chunk, FRAME_WINDOW, hop=FRAME_SAMPLES, first=0, count=CHUNK_FRAMES))
    levels = levels_of(power)
    flux_db, accents = _accents(chunk)
    shift, is_sound_end = onset_shifts(chunk)
    return SongSpectrum(
        accents=(accents * ~is_sound_end[:, None]).astype(np.float32),
        flux_db=(flux_db * ~is_sound_end).astype(np.float32),
        onset_shift=shift.astype(np.float32),
        levels=levels.astype(np.float32),
        chroma=(chroma_of(power) * (levels[:, :1] > 0)).astype(np.float32),
        timbre=_timbre(power).astype(np.float32),
    )


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
