"""Levels, centroid, chroma and spectral flux of one chunk of sound.

Letters: F frames (16 per second), H hops (100 per second), K frequency bins, B bands.
Powers are relative to a full-scale sine, which has power 1 (0 dB).
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray

from soundreel.analysis.streaming import Samples
from soundreel.units import MODEL_FPS

Rows = NDArray[np.float32]
Values = NDArray[np.floating[Any]]

SAMPLE_RATE = 32_000
"""Hz at which sound is analysed: whole numbers of samples per frame and per hop, and frequencies up to 16 kHz."""

HOPS_PER_SECOND = 100
"""Rate of the spectral flux: a hop of 10 ms, as usual for onset and beat trackers."""

CHUNK_FRAMES = 64
FRAME_SAMPLES = SAMPLE_RATE // MODEL_FPS
HOP_SAMPLES = SAMPLE_RATE // HOPS_PER_SECOND
CHUNK_SAMPLES = CHUNK_FRAMES * FRAME_SAMPLES
CHUNK_HOPS = CHUNK_SAMPLES // HOP_SAMPLES

FRAME_WINDOW = 4096
"""Samples (128 ms) in the window of a frame: windows overlap by half, so that every click is in one."""

HOP_WINDOW = 1024
"""Samples (32 ms) in the window of a hop."""

MARGIN = FRAME_WINDOW // 2
"""Samples before and after a chunk that its windows reach into."""

RANGE_DB = 60.0
"""A level of 0 dB becomes 1, one of -60 dB or less exactly 0."""

LOWEST_HZ = 20.0
LOW_BAND_HZ = 200.0
HIGH_BAND_HZ = 2000.0

CHROMA_HZ = (60.0, 5000.0)
PEAK_OVER_SURROUNDINGS_DB = 15.0
"""A spectral peak this far above its surroundings is a pitch; in noise the probability is below 1e-7 per bin."""

SURROUNDING_BINS = 32
"""Bins on either side of a peak that are its surroundings: 250 Hz."""

LOWEST_FLUX_HZ = 30.0
"""Lower edge of the first band of the spectral flux."""

FLUX_FLOOR_DB = -72.0
"""Level of a band below which increases do not count: the noise floor of recordings and codecs."""

FLUX_LAG = 2
"""Hops over which flux is measured: the window of hop h - 2 ends before h."""

LOUDNESS_EXPONENT = 0.3
"""Loudness is proportional to this power of acoustic power (Stevens's power law)."""

ONSET_SEARCH_MS = 20
"""Largest distance of an onset's exact time from its hop."""


@dataclass(frozen=True, kw_only=True)
class ChunkFeatures:
    """Features of a chunk of F = `CHUNK_FRAMES` frames and H = `CHUNK_HOPS` hops."""

    levels: Rows  # [F, 4] 0..1: loudness, low, mid, high
    centroid_hz: Rows  # [F]
    chroma: Rows  # [F, 12]
    flux_db: Rows  # [H] spectral flux in dB, mean over bands
    flux_loudness: Rows  # [H] spectral flux in loudness, mean over bands
    onset_shift: Rows  # [H] seconds from the hop to the steepest rise of the amplitude near it


def analyse_chunk(chunk: Samples) -> ChunkFeatures:
    """Features of the middle of `chunk`, [MARGIN + CHUNK_SAMPLES + MARGIN]."""
    power = power_spectrum(windows_of(chunk, FRAME_WINDOW, hop=FRAME_SAMPLES, first=0, count=CHUNK_FRAMES))
    levels = levels_of(power)
    audible = levels[:, 0] > 0
    flux_db, flux_loudness = _spectral_flux(chunk)
    onset_shift, is_sound_end = onset_shifts(chunk)
    return ChunkFeatures(
        levels=_rows(levels),
        centroid_hz=_rows(_centroid(power) * audible),
        chroma=_rows(chroma_of(power) * audible[:, None]),
        flux_db=_rows(flux_db * ~is_sound_end),  # where sound stops abruptly, its spectrum spreads as at an onset
        flux_loudness=_rows(flux_loudness * ~is_sound_end),
        onset_shift=_rows(onset_shift),
    )


def _rows(values: Values) -> Rows:
    return values.astype(np.float32, copy=False)


def windows_of(chunk: Samples, length: int, *, hop: int, first: int, count: int) -> Samples:
    """Views [count, length] of windows centred on the hops `first`, `first` + 1, … of the chunk's middle."""
    begin = MARGIN + first * hop - length // 2
    return sliding_window_view(chunk, length)[begin : begin + count * hop : hop]


def power_spectrum(windows: Samples) -> Values:
    """Power spectrum [n, K] of windows [n, length]; each row sums to 1 for a full-scale sine."""
    length = windows.shape[-1]
    taper = _hann(length)
    spectrum = np.fft.rfft(windows * taper)
    scale = 4.0 / (length * np.sum(taper**2))  # Parseval's theorem; 2 for the one side, 2 for a sine's mean square
    return (spectrum.real**2 + spectrum.imag**2) * np.float32(scale)


def _hann(length: int) -> Rows:
    return (0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)).astype(np.float32)


def bin_hz() -> Values:
    """Frequencies [K] of the bins of a frame's window."""
    return np.arange(FRAME_WINDOW // 2 + 1) * (SAMPLE_RATE / FRAME_WINDOW)


def levels_of(power: Values) -> Values:
    """Levels 0..1 of loudness and the three bands, [F, 4], of the power spectrum [F, K]."""
    hz = bin_hz()
    edges = (LOWEST_HZ, LOW_BAND_HZ, HIGH_BAND_HZ, np.inf)
    bands = [(low <= hz) & (hz < high) for low, high in pairwise(edges)]
    weights = np.stack([_loudness_weight(hz) * (hz >= LOWEST_HZ), *bands], axis=1).astype(np.float32)
    silence = np.float32(10 ** (-RANGE_DB / 10))
    # not by BLAS, whose last bits depend on the number of threads
    weighted: Values = np.einsum("fk,kw->fw", power, weights)
    levels: Values = np.clip(1 + 10 * np.log10(np.maximum(weighted, silence)) / RANGE_DB, 0, 1)
    return levels


def _loudness_weight(hz: Values) -> Values:
    """Power gain of K-weighting (ITU-R BS.1770-5, annex 1, tables 1 and 2), 1 at 1 kHz."""
    z = np.exp(-2j * np.pi * hz / 48_000)  # the tables are given for 48 kHz
    head = np.polyval([1.19839281085285, -2.69169618940638, 1.53512485958697], z)
    head /= np.polyval([0.73248077421585, -1.69065929318241, 1.0], z)
    low_cut = np.polyval([1.0, -2.0, 1.0], z) / np.polyval([0.99007225036621, -1.99004745483398, 1.0], z)
    gain: Values = np.abs(head * low_cut) ** 2
    return gain * 10**-0.0691


def _centroid(power: Values) -> Values:
    """Spectral centroid [F] in Hz: the mean frequency, weighted by magnitude.

    Bins 60 dB below the strongest one are left out: they are noise, but so many that they would move the mean.
    """
    magnitude = np.sqrt(power) * (power > power.max(axis=1, keepdims=True) * 1e-6)
    total = magnitude.sum(axis=1)
    centroid: Values = np.einsum("fk,k->f", magnitude, bin_hz().astype(np.float32)) / np.where(total > 0, total, 1)
    return centroid


def chroma_of(power: Values) -> Values:
    """Chroma [F, 12]: share of each pitch class, C first, in the magnitudes of the spectral peaks; 0 without peaks.

    Peaks are located between bins by quadratic interpolation of the log power (J. O. Smith, Spectral Audio Signal
    Processing, "Quadratic interpolation of spectral peaks"), which separates semitones from 60 Hz on.
    """
    hz_per_bin = SAMPLE_RATE / FRAME_WINDOW
    first, last = (round(hz / hz_per_bin) for hz in CHROMA_HZ)
    db = 10 * np.log10(power[:, : last + SURROUNDING_BINS + 1] + 1e-15)
    left, here, right = db[:, first - 1 : last - 1], db[:, first:last], db[:, first + 1 : last + 1]
    stands_out = here > _surroundings(db)[:, first:last] + PEAK_OVER_SURROUNDINGS_DB
    peak = (here > left) & (here >= right) & stands_out
    row, column = np.nonzero(peak)
    curve = left[peak] - 2 * here[peak] + right[peak]
    position = first + column + 0.5 * (left[peak] - right[peak]) / curve
    semitone = np.round(12 * np.log2(position * hz_per_bin / 440.0)).astype(int) + 9
    chroma = np.zeros((len(power), 12), np.float32)
    np.add.at(chroma, (row, semitone % 12), 10 ** (here[peak] / 20))
    total = chroma.sum(axis=1, keepdims=True)
    return chroma / np.where(total > 0, total, 1)


def _surroundings(db: Values) -> Values:
    """Mean level within `SURROUNDING_BINS` of each bin, [F, K]."""
    width = 2 * SURROUNDING_BINS + 1
    padded = np.pad(db, ((0, 0), (SURROUNDING_BINS + 1, SURROUNDING_BINS)), mode="reflect")
    running = np.cumsum(padded, axis=1, dtype=np.float64)
    return (running[:, width:] - running[:, :-width]) / width


def _spectral_flux(chunk: Samples) -> tuple[Values, Values]:
    """Spectral flux around each hop, [H] in dB and [H] in loudness, mean over bands.

    This is SuperFlux (Böck and Widmer, DAFx 2013): a band counts by how far it exceeds the maximum of its own and its
    neighbours' level `FLUX_LAG` hops before, so that vibrato and glides are no onsets. In dB soft onsets count as much
    as loud ones, which finds them all; in loudness those on the beat stand out.
    """
    windows = windows_of(chunk, HOP_WINDOW, hop=HOP_SAMPLES, first=-FLUX_LAG, count=CHUNK_HOPS + FLUX_LAG)
    bands = np.add.reduceat(power_spectrum(windows), flux_band_edges(), axis=1)
    db = 10 * np.log10(1 + bands * np.float32(10 ** (-FLUX_FLOOR_DB / 10)))
    return band_flux(db).mean(axis=1), band_flux(bands**LOUDNESS_EXPONENT).mean(axis=1)


def band_flux(bands: Values) -> Values:
    """How far each band exceeds itself and its neighbours `FLUX_LAG` hops before, [H, B], of [H + FLUX_LAG, B]."""
    before = np.pad(bands[:-FLUX_LAG], ((0, 0), (1, 1)), mode="edge")
    before = np.maximum(np.maximum(before[:, :-2], before[:, 1:-1]), before[:, 2:])
    flux: Values = np.maximum(bands[FLUX_LAG:] - before, 0)
    return flux


def flux_band_edges() -> NDArray[np.intp]:
    """First bins of the bands: one bin wide at low frequencies, an eighth of an octave at high ones."""
    hz_per_bin = SAMPLE_RATE / HOP_WINDOW
    edges_hz = LOWEST_FLUX_HZ * 2 ** np.arange(0, np.log2(SAMPLE_RATE / 2 / LOWEST_FLUX_HZ), 1 / 8)
    return np.unique(np.round(edges_hz / hz_per_bin)).astype(np.intp)


def onset_shifts(chunk: Samples) -> tuple[Values, NDArray[np.bool_]]:
    """Seconds from each hop to the steepest rise near it, [H], and whether the sound rather stops there, [H]."""
    sharpened = _steepness(np.diff(chunk, prepend=chunk[:1]))  # high frequencies show the onset, low ones hide it
    offset = (np.argmax(sharpened, axis=1) - ONSET_SEARCH_MS) / 1000
    plain = _steepness(chunk)
    return offset, -plain.min(axis=1) > 3 * plain.max(axis=1)


def _steepness(chunk: Samples) -> Values:
    """Steepness of the amplitude at the milliseconds around each hop, [H, 2 ONSET_SEARCH_MS + 1].

    It is the mean amplitude just after a millisecond less that just before it. Both means have exponentially decaying
    weights, so that the steepness is greatest exactly at the first millisecond of a click or a step.
    """
    millisecond = SAMPLE_RATE // 1000
    envelope = np.abs(chunk).reshape(-1, millisecond).mean(axis=1)
    after = np.exp(-np.arange(16) / 4.0)
    before = np.exp(-np.arange(24, 0, -1) / 8.0)
    kernel = np.concatenate([-before / before.sum(), after / after.sum()]).astype(np.float32)
    hop = HOP_SAMPLES // millisecond
    begin = MARGIN // millisecond - len(before) - ONSET_SEARCH_MS
    near = sliding_window_view(np.correlate(envelope, kernel), 2 * ONSET_SEARCH_MS + 1)
    return near[begin : begin + CHUNK_HOPS * hop : hop]
