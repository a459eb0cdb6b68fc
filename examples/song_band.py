"""The band that plays the scores of `song_score`: every sound is synthesized with numpy.

Sounds are float32; a voice has shape [samples], the mix [samples, 2]. Steady tones are looked up in wave tables, so
that three minutes take a few seconds. What is made here is dedicated to the public domain (CC0 1.0).
"""

from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from song_score import FADED_DB, Note, Score

Sound = NDArray[np.float32]

TABLE: Final = 4096
"""Samples in a wave table, one period of a tone."""

PANS: Final = {
    "kick": 0.0,
    "snare": 0.08,
    "hat": 0.35,
    "ride": -0.35,
    "tom": 0.2,
    "piano": -0.25,
    "guitar": 0.3,
    "organ": 0.15,
}
LEVELS: Final = {
    "kick": 0.75, "snare": 0.45, "rim": 0.3, "hat": 0.16, "ride": 0.14, "crash": 0.25, "tom": 0.5, "bass": 0.38,
    "piano": 0.26, "guitar": 0.22, "organ": 0.13, "pad": 0.12, "voice": 0.5,
}  # fmt: skip
WET: Final = {"voice": 0.25, "snare": 0.15, "piano": 0.2, "pad": 0.3, "guitar": 0.15, "rim": 0.15}

VOWELS: Final = (
    (730, 1090, 2440), (530, 1840, 2480), (270, 2290, 3010), (570, 840, 2410), (440, 1020, 2240),
)  # fmt: skip
"""Formants in Hz of a, e, i, o, u (G. Peterson and H. Barney, Control methods used in a study of the vowels, 1952)."""

BANDWIDTHS: Final = (80.0, 110.0, 170.0)


def play(score: Score, sample_rate: int = 44_100) -> Sound:
    """The song, [samples, 2], peak at -1 dB."""
    return mix(render(score, sample_rate), score, sample_rate)


def render(score: Score, sample_rate: int) -> dict[str, Sound]:
    """Each instrument by itself, [samples]."""
    count = round(score.seconds * sample_rate)
    stems: dict[str, Sound] = {}
    for index, note in enumerate(score.notes):
        stem = stems.setdefault(note.part, np.zeros(count + 4 * sample_rate, np.float32))
        sound = _sound(note, sample_rate, index)
        begin = round(note.start * sample_rate)
        stop = min(begin + len(sound), len(stem))
        stem[begin:stop] += np.float32(note.loudness * LEVELS[note.part]) * sound[: stop - begin]
    gate = _gate(score, sample_rate)
    return {part: stem[:count] * gate for part, stem in stems.items()}


def mix(stems: dict[str, Sound], score: Score, sample_rate: int) -> Sound:
    """Instruments placed between left and right, with room around them and the noise floor of a recording."""
    count = round(score.seconds * sample_rate)
    both = np.zeros((count, 2), np.float32)
    wet = np.zeros(count, np.float32)
    for part, stem in stems.items():
        pan = PANS.get(part, 0.0)
        both[:, 0] += np.float32(np.cos(np.pi / 4 * (1 + pan))) * stem
        both[:, 1] += np.float32(np.sin(np.pi / 4 * (1 + pan))) * stem
        wet += np.float32(WET.get(part, 0.0)) * stem
    random = np.random.default_rng(score.wish.seed)
    gate = _gate(score, sample_rate)
    both += (_room(wet, sample_rate, random) * gate)[:, None]
    both = np.tanh(0.9 * both / max(1e-6, float(np.percentile(np.abs(both[::7]), 99.9))))
    both *= np.float32(10 ** (-1 / 20)) / max(1e-6, float(np.abs(both).max()))
    both += random.standard_normal((count, 2), dtype=np.float32) * np.float32(10 ** (-78 / 20)) * gate[:, None]
    if score.fade is not None:
        time = np.arange(count) / sample_rate
        faded = np.clip((time - score.fade[0]) / (score.fade[1] - score.fade[0]), 0, 1)
        both *= (10 ** (FADED_DB * faded / 20)).astype(np.float32)[:, None]
    mixed: Sound = both.astype(np.float32, copy=False)
    return mixed


def _gate(score: Score, sample_rate: int) -> Sound:
    """0 in silences, 1 elsewhere. [samples]"""
    gate = np.ones(round(score.seconds * sample_rate), np.float32)
    for start, stop in score.silences:
        begin = round(start * sample_rate)
        gate[begin : round(stop * sample_rate)] = 0.0
        edge = gate[max(0, begin - sample_rate // 50) : begin]
        edge *= np.linspace(1, 0, len(edge), dtype=np.float32)
    return gate


def _sound(note: Note, rate: int, index: int) -> Sound:
    if note.part == "voice":
        return _voice(note, rate, index)
    if note.part in {"bass", "piano", "guitar", "organ", "pad"}:
        return _tone(note.part, round(note.pitch), max(1, round(note.seconds * 50)), rate)
    if note.part == "tom":
        return _tom(round(note.pitch), rate)
    return _stroke(note.part, rate, index % 4)


def _hertz(pitch: float) -> float:
    return float(440.0 * 2 ** ((pitch - 69) / 12))


def _table(amplitudes: NDArray[np.float64]) -> Sound:
    """One period of a tone whose harmonics have these amplitudes, the fundamental first."""
    spectrum = np.zeros(TABLE // 2 + 1, complex)
    harmonics = amplitudes[: TABLE // 4]
    phases = np.pi * np.arange(len(harmonics)) ** 2 / len(harmonics)  # spread, so that peaks stay low
    spectrum[1 : len(harmonics) + 1] = harmonics * np.exp(1j * phases)
    wave = np.fft.irfft(spectrum)
    table: Sound = (wave / np.sqrt((wave**2).mean() * 2)).astype(np.float32)
    return table


def _look_up(table: Sound, cycles: NDArray[np.float64]) -> Sound:
    """The tone at these phases, counted in periods."""
    tone: Sound = table[(cycles * TABLE).astype(np.int64) % TABLE]
    return tone


@lru_cache(maxsize=4096)
def _tone(part: str, pitch: int, fiftieths: int, rate: int) -> Sound:
    """A note of an instrument, `fiftieths` of a second long."""
    hertz, seconds = _hertz(pitch), fiftieths / 50
    release = {"pad": 0.4, "organ": 0.06, "bass": 0.05, "guitar": 0.15, "piano": 0.2}[part]
    time = np.arange(round((seconds + release) * rate)) / rate
    k = np.arange(1, max(2, int(min(9000, rate / 2.2) / hertz)) + 1, dtype=float)
    held = np.clip((seconds + release - time) / release, 0, 1)
    cycles = hertz * time
    if part == "pad":
        wave = _look_up(_table(1 / k**1.7), cycles * 1.003) + _look_up(_table(1 / k**1.7), cycles * 0.997)
        return (0.6 * wave * np.clip(time / 0.25, 0, 1) * held).astype(np.float32)
    if part == "organ":
        drawbars = np.isin(k, (1, 2, 3, 4, 6, 8)) / k**0.5
        return (_look_up(_table(drawbars), cycles) * np.clip(time / 0.012, 0, 1) * held).astype(np.float32)
    bright_power, dark_power, quick, slow, attack = {
        "bass": (0.9, 1.6, 0.15, 0.8, 0.005),
        "piano": (0.8, 1.7, 0.12, 0.9, 0.003),
        "guitar": (0.6, 1.3, 0.08, 0.6, 0.002),
    }[part]
    dark = _look_up(_table(1 / k**dark_power), cycles) * np.exp(-time / slow)
    bright = _look_up(_table(1 / k**bright_power), cycles) * np.exp(-time / quick)
    struck: Sound = ((dark + 0.7 * bright) * np.clip(time / attack, 0, 1) * held).astype(np.float32)
    return struck


def _voice(note: Note, rate: int, index: int) -> Sound:
    """A sung note: harmonics of a glottal source under the formants of a vowel, with vibrato, a scoop and breath."""
    random = np.random.default_rng(index)
    time = np.arange(round((note.seconds + 0.06) * rate)) / rate
    depth = 0.35 * np.clip((time - 0.18) / 0.25, 0, 1)
    vibrato = depth * np.sin(2 * np.pi * random.uniform(5.0, 6.3) * time + random.uniform(0, 6.28))
    scoop = -random.uniform(0.3, 1.2) * np.exp(-time / 0.05)
    drift = 0.1 * np.sin(2 * np.pi * random.uniform(0.5, 1.2) * time)
    hertz = _hertz(note.pitch) * 2 ** ((vibrato + scoop + drift) / 12)
    cycles = np.cumsum(hertz) / rate
    opening, closing = (_vowel(VOWELS[v % 5], _hertz(note.pitch), rate) for v in (note.sound, note.sound + 1))
    glide = np.clip((time - 0.5 * note.seconds) / (0.5 * note.seconds + 1e-3), 0, 0.6)
    tone = (1 - glide) * _look_up(opening, cycles) + glide * _look_up(closing, cycles)
    breath = 0.03 * random.standard_normal(len(time)) * (1 + 4 * np.exp(-time / 0.03))
    envelope = np.clip(time / 0.04, 0, 1) * np.clip((note.seconds + 0.06 - time) / 0.07, 0, 1)
    shimmer = 1 + 0.12 * np.sin(2 * np.pi * 5.5 * time) * depth
    sung: Sound = ((tone * shimmer + breath) * envelope).astype(np.float32)
    return sung


@lru_cache(maxsize=256)
def _vowel(formants: tuple[int, int, int], hertz: float, rate: int) -> Sound:
    harmonics = hertz * np.arange(1, max(2, int(min(5500, rate / 2.2) / hertz)) + 1)
    gain = np.zeros(len(harmonics))
    for centre, width, level in zip(formants, BANDWIDTHS, (1.0, 0.6, 0.3), strict=True):
        gain += level / (1 + ((harmonics - centre) / width) ** 2) ** 0.5
    return _table(gain / np.arange(1, len(harmonics) + 1) ** 0.6)


@lru_cache(maxsize=64)
def _tom(pitch: int, rate: int) -> Sound:
    time = np.arange(round(0.35 * rate)) / rate
    hertz = _hertz(pitch) * (1 + 0.5 * np.exp(-time / 0.03))
    return (np.sin(2 * np.pi * np.cumsum(hertz) / rate) * np.exp(-time / 0.12) * np.clip(time / 0.001, 0, 1)).astype(
        np.float32
    )


@lru_cache(maxsize=64)
def _stroke(part: str, rate: int, variant: int) -> Sound:
    """A stroke of a drum or cymbal; four variants of each."""
    random = np.random.default_rng([len(part), ord(part[0]), variant])
    length = {"kick": 0.4, "snare": 0.3, "rim": 0.08, "hat": 0.09, "ride": 0.5, "crash": 2.0}[part]
    time = np.arange(round(length * rate)) / rate
    noise = random.standard_normal(len(time))
    edge = np.clip(time / 0.0007, 0, 1)
    if part == "kick":
        hertz = 46 + 100 * np.exp(-time / 0.028)
        sound = np.sin(2 * np.pi * np.cumsum(hertz) / rate) * np.exp(-time / 0.12) + 0.2 * noise * np.exp(-time / 0.004)
    elif part == "snare":
        skin = sum(np.sin(2 * np.pi * hertz * time) for hertz in (185.0, 287.0)) * np.exp(-time / 0.05)
        sound = 0.45 * skin + 0.6 * _band(noise, rate, 1000, 8000) * np.exp(-time / 0.07)
    elif part == "rim":
        sound = np.sin(2 * np.pi * 1700 * time) * np.exp(-time / 0.008) + 0.5 * _band(noise, rate, 1500, 6000) * np.exp(
            -time / 0.015
        )
    else:
        decay = {"hat": 0.018, "ride": 0.12, "crash": 0.6}[part]
        sound = _band(noise, rate, 5500, 13_000) * np.exp(-time / decay)
    return (sound * edge).astype(np.float32)


def _band(noise: NDArray[np.float64], rate: int, low: float, high: float) -> NDArray[np.float64]:
    spectrum = np.fft.rfft(noise)
    hertz = np.fft.rfftfreq(len(noise), 1 / rate)
    spectrum[(hertz < low) | (hertz > high)] = 0
    band: NDArray[np.float64] = np.fft.irfft(spectrum, len(noise))
    return band / max(1e-9, float(band.std()))


def _room(sound: Sound, rate: int, random: np.random.Generator) -> Sound:
    """The echo of a room: convolution with a second of decaying noise, in blocks."""
    time = np.arange(rate) / rate
    echo = random.standard_normal(rate) * np.exp(-time / 0.22) * (time > 0.012)
    echo = (echo / np.sqrt((echo**2).sum())).astype(np.float32)
    block = 2**17
    size = block + len(echo) - 1
    response = np.fft.rfft(echo, size)
    wet = np.zeros(len(sound) + size, np.float32)
    for begin in range(0, len(sound), block):
        wet[begin : begin + size] += np.fft.irfft(np.fft.rfft(sound[begin : begin + block], size) * response, size)
    room: Sound = wet[: len(sound)]
    return room
