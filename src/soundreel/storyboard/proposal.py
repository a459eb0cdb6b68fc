"""A storyboard that is proposed for a song: cuts where its bars begin, shots that are short where it is strong."""

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from soundreel.analysis import Role, Section, Song, VoiceSource
from soundreel.request import Request, ShotRequest
from soundreel.request.presets import DEFAULT_PROMPT
from soundreel.storyboard.lyrics import Line, lines_between
from soundreel.storyboard.writing import Remarks
from soundreel.wording.durations import clock

LONGEST_SECONDS, SHORTEST_SECONDS = 9.0, 3.0
"""Of a shot where the song is weakest and strongest."""

LEAST_SHARE, MOST_SHARE = 0.6, 1.6
"""Of the length that a shot should have: what it may be instead, so that cuts lie well."""

LEAST_SECONDS: Final = 0.75
"""Of any shot."""

MOST_SHOTS_IN: Final = 1800.0
"""Seconds: in longer sounds shots are longer, so that they do not become more."""

QUIET_STEP_SECONDS: Final = 0.5
"""Between the places for a cut, where there is no beat."""

FRAMINGS: Final = {
    Role.INTRO: ("wide shot", "slow push in"),
    Role.VERSE: ("medium shot", "over the shoulder", "profile"),
    Role.CHORUS: ("close-up", "low angle", "wide shot, full of movement"),
    Role.BRIDGE: ("silhouette", "slow pan"),
    Role.OUTRO: ("wide shot, moving away",),
    Role.PART: ("medium shot", "close-up", "wide shot"),
    Role.SILENCE: ("still, empty frame",),
}
"""What shots of a section show, in turn."""


@dataclass(frozen=True, kw_only=True)
class Proposal:
    """Shots for a song, and what is told of them."""

    shots: tuple[ShotRequest, ...]
    remarks: Remarks


def propose(request: Request, song: Song, lyrics: Sequence[Line] = ()) -> Proposal:
    """Shots for what `song` is: the window of the request's sound that begins at its `window.start`.

    Cuts lie on downbeats, or without them where the sound is weak, and never inside a voiced stretch where the voice is
    known. There is always at least one shot.
    """
    begin = request.window.start
    cuts = _cuts(song)
    names, used = _names(song, cuts), Counter[str]()
    shots, before, behind = [], {}, {}
    for number, (start, stop) in enumerate(zip(cuts, [*cuts[1:], song.seconds], strict=True)):
        section = song.section_at((start + stop) / 2) if song.sections else None
        at = round(begin + start, 3)
        shots.append(
            ShotRequest(
                start=at,
                name=names[number],
                section="" if section is None else section.name,
                prompt=_prompt(request.prompt or DEFAULT_PROMPT, section, used),
            )
        )
        if section is not None and shots[-1].section not in [shot.section for shot in shots[:-1]]:
            before[number] = _says_section(song, section, begin)
        sung = lines_between(lyrics, at, begin + stop)
        if sung:
            before[number] = (*before.get(number, ()), *(f"♪ {line}" for line in sung))
        behind[number] = _says_shot(song, start, stop)
    head = (_says_song(song),)
    return Proposal(shots=tuple(shots), remarks=Remarks(head=head, before=before, behind=behind))


def _cuts(song: Song) -> list[float]:
    """Where shots begin, the first at 0."""
    places, cuts = _places(song), [0.0]
    while (cut := _next_cut(song, places, cuts[-1])) is not None:
        cuts.append(cut)
    return cuts


def _next_cut(song: Song, places: Sequence[float], begin: float) -> float | None:
    """Where a shot ends that begins at `begin`; None: with the song."""
    wanted = _length(song, begin) * max(1.0, song.seconds / MOST_SHOTS_IN)
    first = bisect_left(places, begin + max(LEAST_SECONDS, LEAST_SHARE * wanted))
    last = bisect_right(places, begin + MOST_SHARE * wanted)
    known = places[first:last] or places[first : first + 1]
    if not known or song.seconds - known[0] < LEAST_SECONDS:
        return None
    at_section = _cut_at_section(song, places, begin, wanted)
    if at_section is not None:
        return at_section
    fitting = [place for place in known if song.seconds - place >= LEAST_SECONDS] or known[:1]
    return min(fitting, key=lambda place: _cost(song, place, begin + wanted))


def _cut_at_section(song: Song, places: Sequence[float], begin: float, wanted: float) -> float | None:
    """The place nearest to where a section begins that is in reach of a shot of about `wanted` seconds."""
    least, most = begin + LEAST_SECONDS, begin + MOST_SHARE * wanted
    edge = next((section.start for section in song.sections[1:] if least < section.start <= most), None)
    near = None if edge is None else _nearest(places, edge)
    if edge is None or near is None or near <= least or abs(near - edge) >= 0.5 * wanted:
        return None
    return near


def _length(song: Song, at: float) -> float:
    """Seconds that a shot should have that begins there."""
    energy = song.energy_between(at, at + LONGEST_SECONDS / 2)
    return LONGEST_SECONDS + (SHORTEST_SECONDS - LONGEST_SECONDS) * energy


def _cost(song: Song, place: float, wanted: float) -> float:
    """How bad a cut is: far from where it should be, or where the sound is strong and there is no beat to go by."""
    loud = 0.0 if song.downbeats else 4 * song.energy_between(place - 0.2, place + 0.2)
    return abs(place - wanted) + loud


def _nearest(places: Sequence[float], at: float) -> float | None:
    around = places[max(0, bisect_left(places, at) - 1) : bisect_left(places, at) + 1]
    return min(around, key=lambda place: abs(place - at), default=None)


def _places(song: Song) -> list[float]:
    """Where cuts may lie: downbeats, and outside of them a grid; outside the voice where that is known."""
    beats = np.array(song.downbeats)
    places = [float(beat) for beat in beats]
    gaps = np.concatenate([[0.0], beats, [song.seconds]])
    for start, stop in pairwise(gaps.tolist()):
        if stop - start > 2 * LONGEST_SECONDS or not len(beats):
            steps = int((stop - start) / QUIET_STEP_SECONDS)
            places += [start + QUIET_STEP_SECONDS * step for step in range(1, steps + 1)]
    if song.voice_source is not VoiceSource.SPECTRUM:
        places += [span.stop for span in song.voice]  # else a long song may have no place at all
        places = [place for place in places if not _is_inside_voice(song, place)]
    return sorted({place for place in places if 0 < place < song.seconds})


def _is_inside_voice(song: Song, place: float) -> bool:
    after = bisect_right([span.start for span in song.voice], place - 1e-9)
    return after > 0 and song.voice[after - 1].start < place < song.voice[after - 1].stop


def _names(song: Song, cuts: Sequence[float]) -> list[str]:
    """After the sections: `chorus-2` where it has one shot, else `chorus-2a`, `chorus-2b`."""
    middles = [(start + stop) / 2 for start, stop in zip(cuts, [*cuts[1:], song.seconds], strict=True)]
    sections = [song.section_at(middle).name if song.sections else "shot" for middle in middles]
    total, seen = Counter(sections), Counter[str]()
    names = []
    for section in sections:
        dash = "" if section[-1:].isdecimal() else "-"
        names.append(section if total[section] == 1 else f"{section}{dash}{_letters(seen[section])}")
        seen[section] += 1
    return names


def _letters(number: int) -> str:
    """0 → a, 25 → z, 26 → aa."""
    text = ""
    while number >= 0:
        text = chr(ord("a") + number % 26) + text
        number = number // 26 - 1
    return text


def _prompt(base: str, section: Section | None, used: Counter[str]) -> str:
    role = Role.PART if section is None else section.role
    framings = FRAMINGS[role]
    framing = framings[used[role] % len(framings)]
    used[role] += 1
    return f"{base}, {framing}"


def _says_song(song: Song) -> str:
    beat = f"{song.tempo_bpm:.1f} beats per minute, {song.meter}" if song.beats else "no beat"
    sections = ", ".join(section.name for section in song.sections[:12])
    more = f" and {len(song.sections) - 12} more" if len(song.sections) > 12 else ""
    return f"{clock(song.seconds)}, {beat}: {sections}{more}"


def _says_section(song: Song, section: Section, begin: float) -> tuple[str, ...]:
    voice = ", voice" if section.has_voice else ""
    is_repeated = sum(other.letter == section.letter for other in song.sections) > 1
    like = f", like other parts {section.letter}" if section.letter and is_repeated else ""
    span = f"{clock(begin + section.start)} to {clock(begin + section.stop)}"
    return (f"--- {section.name}: {span}, energy {section.energy:.2f}{voice}{like}",)


def _says_shot(song: Song, start: float, stop: float) -> str:
    bar = next((one.number for one in song.bars if abs(one.start - start) < 0.02), None)
    where = f"bar {bar}, " if bar is not None else ""
    return f"{where}{stop - start:.1f} s, energy {song.energy_between(start, stop):.2f}"
