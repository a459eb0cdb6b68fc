"""All scores of a video put together, shot by shot and as a whole."""

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from soundreel.errors import InputError
from soundreel.media.audio import probe_sound
from soundreel.media.video import probe_video
from soundreel.render.recipe import parse_recipe
from soundreel.scoring import face_networks
from soundreel.scoring.beat import LEAST_ACCENTS, Accents, accents_between, alignments, score_beat
from soundreel.scoring.drift import black_stretches, drift_of, flicker_of, frozen_stretches, severity
from soundreel.scoring.lips import MouthAndVoice, lips_of_shots, score_lips
from soundreel.scoring.listening import NOTHING, Heard, envelope_of, listen
from soundreel.scoring.looking import Seen, look
from soundreel.scoring.mouth import Mouth
from soundreel.scoring.scores import Measured, Scores, ShotScores, Stretch
from soundreel.scoring.shots import ShotSpan, shots_of_recipe, shots_seen, within
from soundreel.types import Check, go_on
from soundreel.units import StrPath

GOOD_BEAT, GOOD_LIPS = 0.5, 0.3
"""Gain of an alignment, and of a correlation, from which on nothing is left to mend."""


def score(
    video: StrPath, *, lips: bool | None = None, recipe: Mapping[str, Any] | None = None, check: Check = go_on
) -> Scores:
    """Score a finished video: its movement against its sound, its lips, its drift, and each of its shots.

    Any video is scored; shots and clips are those of its recipe, or lie between its hard cuts. It is read once, frame
    by frame, and what is kept are a dozen numbers for each.

    Args:
        lips: whether a face is looked for; None: where the packages of the extra `score` are installed.
        recipe: how the video was made, where that is known better than the video itself says.
        check: called before each frame and each second of sound; may raise to stop.

    Raises:
        InputError: there is no such file, or `lips` is asked for without the packages.
        MediaError: it is no video, or damaged.
    """
    missing = face_networks.missing()
    if lips and missing:
        raise InputError(f"lips are scored with the package {missing}, which is not installed: {face_networks.INSTALL}")
    info = probe_video(video)
    told, notes = _told_shots(info.metadata, os.fspath(video)) if recipe is None else (shots_of_recipe(recipe), [])
    watches = lips is not False and not missing and info.sound_codec is not None
    starts = np.array([shot.start for shot in told]) if told else None
    seen = look(video, check, cuts=starts, mouth=Mouth() if watches else None)
    if info.sound_codec is None:
        notes.append("it has no sound: neither beat nor lips are scored")
        heard = NOTHING
    else:
        heard = listen(video, seen.stop, check)
        if probe_sound(video).truncated:
            notes.append("the file is cut off: what is there is scored")
    if lips is None and missing:
        notes.append(f"lips are not scored without the package {missing}: {face_networks.INSTALL}")
    mouth = MouthAndVoice(seen, envelope_of(video, seen.stop, check)) if watches else None
    shots = within(told, seen) if told else shots_seen(seen)
    return _Judge(seen=seen, heard=heard, shots=shots, mouth=mouth).scores(notes)


def _told_shots(metadata: Mapping[str, str], name: str) -> tuple[tuple[ShotSpan, ...], list[str]]:
    """The shots that the recipe in a video's metadata tells, and what to say of it."""
    try:
        return shots_of_recipe(parse_recipe(metadata, name)), []
    except InputError as error:
        return (), [f"shots are taken to lie between hard cuts: {error}"]


class _Judge:
    """Compares what was seen of a video with what was heard."""

    def __init__(self, *, seen: Seen, heard: Heard, shots: Sequence[ShotSpan], mouth: MouthAndVoice | None) -> None:
        self._seen, self._heard, self._shots, self._mouth = seen, heard, shots, mouth
        self._edges = [(shot.start, shot.stop) for shot in shots]
        self._accents = Accents(seen.seconds, seen.speed)
        self._beat = score_beat(self._accents, heard)
        self._lips = None if mouth is None else score_lips(mouth)
        self._frozen, self._black = frozen_stretches(seen, heard), black_stretches(seen)

    def scores(self, notes: Sequence[str]) -> Scores:
        """All of them."""
        shots = tuple(map(self._shot, self._shots, self._beat_of_shots(), self._lips_of_shots()))
        drifts = [shot.drift for shot in shots if shot.drift is not None]
        return Scores(
            seconds=self._seen.stop,
            frames=len(self._seen.seconds),
            beat=self._beat,
            lips=self._lips,
            drift=max(drifts, key=severity, default=None),
            frozen=self._frozen,
            black=self._black,
            flicker=flicker_of(self._seen, self._heard),
            shots=shots,
            notes=(*notes, *self._why_not()),
        )

    def _why_not(self) -> Iterator[str]:
        """Why something that could have been scored was not."""
        if self._beat is None and self._heard is not NOTHING:
            is_quiet = len(self._heard.onsets) < LEAST_ACCENTS
            yield f"the beat is not scored: {'the sound' if is_quiet else 'the movement'} has too few accents"
        if self._lips is not None and self._lips.correlation is None:
            is_seen = self._mouth is not None and self._mouth.is_seen
            yield f"lips are not scored: {'neither they nor a voice move' if is_seen else 'no face is seen for long'}"

    def _beat_of_shots(self) -> Sequence[Measured | None]:
        """Alignment of each shot's accents, with what the whole video is aligned with; None of too few."""
        if self._beat is None:
            return [None] * len(self._shots)
        times = self._heard.onsets if self._beat.beats is None else self._heard.beats
        found = alignments(self._accents, times, self._heard.seconds, self._edges)
        counts = accents_between(self._accents, self._heard, self._edges)
        return [beat if count >= LEAST_ACCENTS else None for beat, count in zip(found, counts, strict=True)]

    def _lips_of_shots(self) -> Sequence[Measured | None]:
        if self._mouth is None or self._lips is None:
            return [None] * len(self._shots)
        return lips_of_shots(self._mouth, self._lips.lag_ms, self._edges)

    def _shot(self, span: ShotSpan, beat: Measured | None, lips: Measured | None) -> ShotScores:
        drift = drift_of(span, self._seen)
        still = sum(_overlap(stretch, span) for stretch in (*self._frozen, *self._black)) / (span.stop - span.start)
        parts = {
            "beat": None if beat is None else 1 - min(1.0, beat.gain / GOOD_BEAT),
            "lips": None if lips is None else 1 - min(1.0, lips.gain / GOOD_LIPS),
            "drift": None if drift is None else severity(drift),
            "still": still,
        }
        known = {name: part for name, part in parts.items() if part is not None}
        weak_in = max(known, key=lambda name: known[name])
        return ShotScores(
            index=span.index,
            name=span.name,
            start=span.start,
            stop=span.stop,
            beat=beat,
            lips=lips,
            drift=drift,
            still=min(1.0, still),
            weakness=min(1.0, known[weak_in]),
            weak_in=weak_in if known[weak_in] > 0 else "",
        )


def _overlap(stretch: Stretch, span: ShotSpan) -> float:
    return max(0.0, min(stretch.stop, span.stop) - max(stretch.start, span.start))
