"""What drives a render with `--drive vocals` or `vocals+mix`: the voice where somebody sings, else silence or the mix.

It is a file in the cache beside the voice that it is made of, on the time line of the song from a step on.
"""

import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from soundreel.analysis.song import Span
from soundreel.analysis.voice_network import NETWORK_RATE
from soundreel.disk.digests import data_digest
from soundreel.disk.durable import write_json
from soundreel.media.audio import stream_sound
from soundreel.request import Drive
from soundreel.separation.activity import gain, how_it_is_known, voice_spans
from soundreel.separation.masking import RATE, at_step
from soundreel.separation.voice_store import (
    Steps,
    StoredVoice,
    cache_folder,
    separated_voice,
    separator_files,
    song_key,
    steps_of,
    store,
)
from soundreel.types import Check, Report, go_on, heard
from soundreel.units import StrPath

ALGORITHM: Final = 1
"""To be raised whenever the same voice gives another drive."""

VOICE: Final = "voice "
"""How the names of all that makes a voice begin, among the model files of a render."""

BEFORE_SECONDS: Final = 1.0
"""Kept before a window, where there is sound: features of its first frame look back."""


@dataclass(frozen=True, kw_only=True)
class VoiceDrive:
    """A file that drives, and where somebody sings in it."""

    path: Path
    begins: float  # seconds into the song where the file begins
    voice: tuple[Span, ...]  # seconds of the song


def voice_files() -> dict[str, str]:
    """What decides a voice beside the song, by name. `WeightsError` where the separator is not installed."""
    files = {**separator_files(), "activity": f"{how_it_is_known()}, {ALGORITHM}"}
    return {f"{VOICE}{name}": digest for name, digest in files.items()}


def voice_drive(
    song: StrPath,
    drive: str,
    start: float,
    seconds: float | None,
    report: Report | None = None,
    check: Check = go_on,
) -> VoiceDrive:
    """The drive for a window of a song, made now unless it is there; None: to the song's end.

    What is outside the window does not change it. Arguments and errors as of `separated_voice`.
    """
    before = min(start, BEFORE_SECONDS)
    steps = steps_of(song, start - before, None if seconds is None else seconds + before)
    key = song_key(song)
    name = data_digest([key, drive, steps.first, steps.stop, how_it_is_known(), ALGORITHM])[:32]
    path = cache_folder() / f"drive_{name}.wav"
    spans = _kept_spans(path)
    if spans is None:
        voice = separated_voice(song, key, steps, report, check)
        spans = _voice_spans(song, voice, steps, check)
        is_mixed = drive == Drive.VOCALS_AND_MIX
        store(path, lambda: _faded(song, voice, steps, spans, is_mixed=is_mixed, check=check), steps.stop - steps.first)
        _keep_spans(path, spans)
    voiced = (Span(start=span.start + steps.start, stop=span.stop + steps.start) for span in spans)
    return VoiceDrive(path=path, begins=steps.start, voice=tuple(voiced))


def _mono(path: StrPath, begins: float, steps: Steps, rate: int, check: Check) -> Iterator[NDArray[np.float32]]:
    """The steps, mono, in blocks of a second, of a file whose own beginning is so many seconds into the song."""
    start, seconds = at_step(steps.first) - begins, at_step(steps.stop - steps.first)
    blocks = stream_sound(path, start=start, seconds=seconds, sample_rate=rate, mono=True)
    return (block[:, 0] for block in heard(blocks, check))


def _voice_spans(song: StrPath, voice: StoredVoice, steps: Steps, check: Check) -> tuple[Span, ...]:
    """In seconds from the beginning of the steps."""
    return voice_spans(
        lambda: _mono(voice.path, voice.steps.start, steps, NETWORK_RATE, check),
        lambda: _mono(song, 0.0, steps, NETWORK_RATE, check),
    )


def _faded(
    song: StrPath, voice: StoredVoice, steps: Steps, spans: tuple[Span, ...], *, is_mixed: bool, check: Check
) -> Iterator[NDArray[np.float32]]:
    """The voice where somebody sings; elsewhere silence, or with `is_mixed` the mix."""
    place = 0
    mixes = _mono(song, 0.0, steps, RATE, check) if is_mixed else iter(())
    for sung in _mono(voice.path, voice.steps.start, steps, RATE, check):
        share = gain(spans, place, len(sung), RATE)
        mix = next(mixes, sung[:0])[: len(sung)]
        faded = share * sung
        faded[: len(mix)] += (1 - share[: len(mix)]) * mix
        place += len(sung)
        yield faded


def _keep_spans(path: Path, spans: tuple[Span, ...]) -> None:
    write_json(path.with_suffix(".json"), {"voice": [[span.start, span.stop] for span in spans]})


def _kept_spans(path: Path) -> tuple[Span, ...] | None:
    """Where somebody sings in a file that is there, marked as used just now; None: it is not, or not whole."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        os.utime(path)
        kept = json.loads(path.with_suffix(".json").read_text())
        return tuple(Span(start=float(start), stop=float(stop)) for start, stop in kept["voice"])
    return None
