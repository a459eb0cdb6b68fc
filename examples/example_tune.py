"""The example tune: four bars and a last chord in A minor at 118 beats per minute, made with numpy alone.

Sounds are float64; a mono voice has shape [samples], the mix has shape [samples, 2]. Times are in seconds,
pitches are MIDI note numbers (69 = A4 = 440 Hz).
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Sound: TypeAlias = NDArray[np.float64]

SAMPLE_RATE = 44_100
BEATS_PER_MINUTE = 118.0
BEAT_SECONDS = 60.0 / BEATS_PER_MINUTE
BEATS_PER_BAR = 4
BARS = 4
SECONDS = 9.2
FADE_SECONDS = 1.0
PEAK_DBFS = -1.0

CHORDS = ((57, 60, 64, 71), (53, 60, 64, 69), (55, 60, 64, 67), (55, 59, 62, 69), (57, 60, 64, 71))
"""Am(add9), Fmaj7, C/G, G(add9), and Am(add9) to end on."""

BASS = (45, 41, 36, 43, 45)

MELODY = (
    (0.0, 76), (0.75, 72), (1.5, 69), (2.0, 71), (2.5, 72), (3.5, 74),
    (4.0, 76), (4.75, 72), (5.5, 69), (6.0, 67), (6.5, 69), (7.5, 72),
    (8.0, 79), (8.75, 76), (9.5, 72), (10.0, 74), (10.5, 76), (11.5, 79),
    (12.0, 81), (12.75, 79), (13.5, 74), (14.0, 71), (14.5, 72), (15.0, 74), (15.5, 71),
    (16.0, 69), (16.25, 76), (16.5, 81),
)  # fmt: skip
"""(beat, pitch) of the plucked string."""

KICK_BEATS = (0, 2, 4, 5.75, 6, 8, 9.5, 10, 11.75, 12, 13.5, 14, 15.75, 16)
SNARE_BEATS = (3, 5, 7, 9, 11, 13, 15, 15.5, 15.75)
HAT_BEATS = (*np.arange(0, 16, 0.5), 7.75, 8.75, 9.75, 10.75, 11.75, 12.75, 13.75, 14.25, 14.75)
OPEN_HAT_BEATS = (3.5, 7.5, 11.5, 15.5)


def compose() -> Sound:
    """The whole tune, float64 -1..1, shape [samples, 2]."""
    random = np.random.default_rng(118)
    duck = _ducking()
    dry = _drums(random)
    dry += _pan(_bass() * duck, 0.0)
    plucks = _echo(_plucks(random))
    pads = _pads() * duck[:, None]
    wet = _reverb(plucks + 0.5 * pads + 0.12 * dry, random)
    return _master(dry + plucks + pads + 0.16 * wet)


def _drums(random: np.random.Generator) -> Sound:
    mix = _silence(2)
    for beat in KICK_BEATS:
        _add(mix, beat, _pan(_kick(), 0.0))
    for beat in SNARE_BEATS:
        softly = 0.55 if beat in (15.5, 15.75) else 1.0
        _add(mix, beat, _pan(softly * _snare(random), 0.08))
    for beat in HAT_BEATS:
        accent = 0.06 if beat % 1 == 0.5 else 0.03
        _add(mix, beat, _pan(accent * _hat(random, decay=0.014), 0.35))
    for beat in OPEN_HAT_BEATS:
        _add(mix, beat, _pan(0.04 * _hat(random, decay=0.05), -0.3))
    return mix


def _kick() -> Sound:
    time = _time(0.42)
    hertz = 47.0 + 110.0 * np.exp(-time / 0.028)
    body = np.sin(2 * np.pi * np.cumsum(hertz) / SAMPLE_RATE) * np.exp(-time / 0.13)
    click = 0.25 * np.sin(2 * np.pi * 1800 * time) * np.exp(-time / 0.002)
    return 0.75 * (body + click) * _attack(time, 0.0008)


def _snare(random: np.random.Generator) -> Sound:
    time = _time(0.28)
    skin = sum(np.sin(2 * np.pi * hertz * time) for hertz in (185.0, 287.0)) * np.exp(-time / 0.05)
    wires = _band_pass(random.standard_normal(len(time)), 1200, 5000) * np.exp(-time / 0.055)
    return 0.26 * skin + 0.12 * wires


def _hat(random: np.random.Generator, *, decay: float) -> Sound:
    time = _time(7 * decay)
    return _band_pass(random.standard_normal(len(time)), 7000, 12_500) * np.exp(-time / decay)


def _bass() -> Sound:
    mix = _silence(1)
    for bar, pitch in enumerate(BASS[:BARS]):
        for beat, octave, beats in (
            (0, 0, 0.9),
            (1, 0, 0.4),
            (1.5, 12, 0.4),
            (2, 0, 0.9),
            (3, 0, 0.4),
            (3.5, 7, 0.4),
        ):
            _add(mix, bar * BEATS_PER_BAR + beat, _bass_note(pitch + octave, beats * BEAT_SECONDS))
    _add(mix, BARS * BEATS_PER_BAR, _bass_note(BASS[-1] - 12, 1.3))
    return mix


def _bass_note(pitch: int, seconds: float) -> Sound:
    time = _time(seconds + 0.05)
    envelope = _attack(time, 0.006) * np.exp(-time / 0.6) * np.clip((seconds + 0.05 - time) / 0.05, 0, 1)
    bright = np.exp(-time / 0.12)
    partials = (np.sin(2 * np.pi * k * _hertz(pitch) * time) / k * (bright if k > 2 else 1.0) for k in range(1, 8))
    return 0.3 * envelope * sum(partials)


def _pads() -> Sound:
    """Soft held chords, each note a little detuned to the left and to the right."""
    mix = _silence(2)
    for bar, chord in enumerate(CHORDS):
        time = _time(BEATS_PER_BAR * BEAT_SECONDS + 0.5)
        envelope = _attack(time, 0.25) * np.clip((time[-1] - time) / 0.5, 0, 1)
        for pitch in chord:
            left, right = (_soft_saw(_hertz(pitch) * detune, time) for detune in (0.9975, 1.0025))
            _add(mix, bar * BEATS_PER_BAR, 0.05 * envelope[:, None] * np.stack([left, right], axis=1))
    return mix


def _soft_saw(hertz: float, time: Sound) -> Sound:
    return sum((np.sin(2 * np.pi * k * hertz * time + k) / k**2.0 for k in range(1, 9)), np.zeros_like(time))


def _plucks(random: np.random.Generator) -> Sound:
    mix = _silence(2)
    for index, (beat, pitch) in enumerate(MELODY):
        _add(mix, beat, _pan(0.85 * _string(pitch, 1.6, random), 0.3 if index % 2 else -0.3))
    return mix


def _string(pitch: int, seconds: float, random: np.random.Generator) -> Sound:
    """A plucked string (Karplus & Strong 1983), a whole period of the feedback loop at a time.

    The loop is as long as the string's period in whole samples; resampling to the exact pitch mends the rest.
    """
    period = SAMPLE_RATE / _hertz(pitch)
    taps = int(period)
    loop = random.uniform(-1, 1, taps)
    loop = np.convolve(np.concatenate([loop, loop, loop]), np.hanning(13) / 6, "same")[taps : 2 * taps]
    loops = []
    for _ in range(int(seconds * SAMPLE_RATE / taps) + 2):
        loops.append(loop - loop.mean())
        loop = 0.9965 * (0.5 * loop + 0.25 * (np.roll(loop, 1) + np.roll(loop, -1)))
    raw = np.concatenate(loops)
    time = _time(seconds)
    envelope = _attack(time, 0.001) * np.clip((seconds - time) / 0.2, 0, 1)
    string: Sound = envelope * np.interp(time * SAMPLE_RATE * taps / period, np.arange(len(raw)), raw)
    return string


def _echo(sound: Sound) -> Sound:
    """A ping-pong delay of three sixteenths."""
    delay = round(0.75 * BEAT_SECONDS * SAMPLE_RATE)
    mix = sound.copy()
    for repeat, gain in ((1, 0.32), (2, 0.14), (3, 0.06)):
        late = np.roll(sound, repeat * delay, axis=0)
        late[: repeat * delay] = 0.0
        mix += gain * (late[:, ::-1] if repeat % 2 else late)
    return mix


def _ducking() -> Sound:
    """Gain that makes room for the kick drum. [samples]"""
    gain = np.ones(len(_silence(1)))
    for beat in KICK_BEATS:
        time = _time(0.3)
        _multiply(gain, beat, 1.0 - 0.55 * np.exp(-((time / 0.11) ** 2)))
    return gain


def _reverb(sound: Sound, random: np.random.Generator) -> Sound:
    """Convolution with 1.4 s of decaying noise that darkens as it decays, different left and right."""
    time = _time(1.4)
    room = random.standard_normal((len(time), 2)) * np.exp(-time / 0.25)[:, None]
    bright = np.stack([_band_pass(side, 250, 4000) for side in room.T], axis=1)
    dark = np.stack([_band_pass(side, 150, 1800) for side in room.T], axis=1)
    room = bright * np.exp(-time / 0.12)[:, None] + dark
    room[: round(0.012 * SAMPLE_RATE)] = 0.0
    room /= np.sqrt((room**2).sum(axis=0))
    size = len(sound) + len(room)
    spectrum = np.fft.rfft(sound, size, axis=0) * np.fft.rfft(room, size, axis=0)
    return np.fft.irfft(spectrum, size, axis=0)[: len(sound)]


def _master(mix: Sound) -> Sound:
    """Gentle saturation, fade-out, and the peak at PEAK_DBFS."""
    mix = np.tanh(0.6 * mix / np.abs(mix).max())
    remaining = (len(mix) - np.arange(len(mix))) / SAMPLE_RATE
    mix *= np.sin(np.pi / 2 * np.clip(remaining / FADE_SECONDS, 0, 1))[:, None] ** 2
    mix *= 10 ** (PEAK_DBFS / 20) / np.abs(mix).max()
    return mix


def _silence(channels: int) -> Sound:
    samples = round(SECONDS * SAMPLE_RATE)
    return np.zeros(samples) if channels == 1 else np.zeros((samples, channels))


def _time(seconds: float) -> Sound:
    return np.arange(round(seconds * SAMPLE_RATE)) / SAMPLE_RATE


def _hertz(pitch: float) -> float:
    return float(440.0 * 2 ** ((pitch - 69) / 12))


def _attack(time: Sound, seconds: float) -> Sound:
    return np.clip(time / seconds, 0, 1)


def _first_sample(beat: float) -> int:
    return round(beat * BEAT_SECONDS * SAMPLE_RATE)


def _add(mix: Sound, beat: float, sound: Sound) -> None:
    place = mix[_first_sample(beat) :][: len(sound)]
    place += sound[: len(place)]


def _multiply(gain: Sound, beat: float, factor: Sound) -> None:
    place = gain[_first_sample(beat) :][: len(factor)]
    place *= factor[: len(place)]


def _pan(sound: Sound, position: float) -> Sound:
    """Mono [samples] to stereo [samples, 2] at constant power; -1 is left, 1 is right."""
    angle = np.pi / 4 * (1 + position)
    return np.outer(sound, [np.cos(angle), np.sin(angle)])


def _band_pass(sound: Sound, low_hertz: float, high_hertz: float) -> Sound:
    """Keep the band between two frequencies, with slopes an eighth of it wide; the mean power becomes 1."""
    hertz = np.fft.rfftfreq(len(sound), 1 / SAMPLE_RATE)
    gain = 1 / (1 + (low_hertz / np.maximum(hertz, 1.0)) ** 8) / (1 + (hertz / high_hertz) ** 8)
    filtered: Sound = np.fft.irfft(np.fft.rfft(sound) * gain, len(sound))
    filtered /= filtered.std()
    return filtered
