"""What `soundreel storyboard --sheet` draws: a song and its shots, as they are planned or as they were rendered."""

import os
from collections.abc import Mapping
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from PIL import Image

from soundreel import planning
from soundreel.analysis import Song, hear
from soundreel.disk.durable import make_folder, write_durably
from soundreel.disk.json_form import Form, misfit
from soundreel.disk.outputs import Inputs, is_folder
from soundreel.engines.draft.stills import draft_stills
from soundreel.errors import InputError
from soundreel.media.audio import probe_sound
from soundreel.media.stills import read_stills
from soundreel.media.video import probe_video
from soundreel.render.recipe import parse_recipe
from soundreel.request import Request
from soundreel.scoring import Scores, ShotScores, read_scores
from soundreel.scoring.scored import GOOD_BEAT, GOOD_LIPS
from soundreel.sheet import Score, SheetShot, SongSheet, draw_sheet, sound_peaks
from soundreel.types import Check, go_on
from soundreel.units import MODEL_FPS, StrPath
from soundreel.wording.durations import duration

STILL_HEIGHT: Final = 208
"""Pixels: twice what a sheet shows."""

MOST_STILLS: Final = 1200
"""Of a sheet, as long as every shot has one."""

EACH: Final = 4
"""Stills of a shot, at most."""

WEAK_SHOTS, LEAST_WEAKNESS = 3, 0.5
"""So many are marked at most, and none that is better."""

FORMATS: Final = {".png": "PNG", ".jpg": "JPEG", ".jpeg": "JPEG"}
"""By the ending of a sheet's name."""

_TOLD: Final[Form] = {
    "plan": {"clips": [{"shot": int, "start": int, "frames": int}]},
    "request": {
        "prompt?": str,
        "window?": {"start?": float},
        "shots?": [{"start": float, "name?": str, "prompt?": str, "cut?": str}],
    },
}
"""What is read of a recipe, which may come from anyone."""


def check_target(target: Path, inputs: Inputs) -> None:
    """Raise `InputError` where a sheet cannot be written to a file of this name."""
    if target.suffix.lower() not in FORMATS:
        raise InputError(f"--sheet is {str(target)!r}: expected a name that ends in {' or '.join(FORMATS)}")
    if is_folder(target):
        raise InputError(f"--sheet is {str(target)!r}, which is a folder: name a file")
    inputs.refuse(target, f"--sheet is {str(target)!r}, which")


def write_sheet(sheet: SongSheet, target: Path) -> None:
    """Draw a sheet into a file, in place of what was there."""
    image, kind = draw_sheet(sheet), FORMATS[target.suffix.lower()]
    make_folder(target.parent)
    write_durably(target, lambda temporary: image.save(temporary, kind, quality=90))


def sheet_of_request(request: Request, *, voice: StrPath | None = None, check: Check = go_on) -> SongSheet:
    """The sheet of what is planned; its pictures are those of a draft."""
    planned = planning.plan(request, probe_sound(request.audio).seconds)
    start, seconds = request.window.start, planned.audio_seconds
    song = hear(request.audio, start=start, seconds=seconds, voice=voice, check=check)
    stills = draft_stills(planned, song, height=STILL_HEIGHT, each=_each(len(planned.shots)), check=check)
    shots = [
        SheetShot(
            name=shot.name,
            start=shot.start / MODEL_FPS,
            stop=shot.stop / MODEL_FPS,
            prompt=planned.request_of(shot).prompt or "",
            continues=shot.continues,
            pictures=tuple(map(Image.fromarray, pictures)),
        )
        for shot, pictures in zip(planned.shots, stills, strict=True)
    ]
    return SongSheet(
        title=Path(request.audio).name,
        facts=_facts(song, len(shots)),
        start=start,
        seconds=planned.seconds,
        song=song,
        peaks=sound_peaks(request.audio, start=start, seconds=seconds, check=check),
        shots=tuple(shots),
    )


def sheet_of_video(video: StrPath, *, check: Check = go_on) -> SongSheet:
    """The contact sheet of a finished video, from the shots that its recipe tells of and its own sound.

    Raises:
        InputError: soundreel has not made it.
    """
    info = probe_video(video)
    recipe = parse_recipe(info.metadata, os.fspath(video))
    if recipe is None:
        raise InputError(f"{str(video)!r} has no recipe: expected a video that soundreel has made, without --no-recipe")
    wrong = misfit(recipe, _TOLD)
    if wrong is not None:
        raise InputError(f"the recipe in {str(video)!r} is damaged: {wrong}")
    shots = _with_scores(_told_shots(recipe, info.seconds), read_scores(recipe.get("scores")))
    each = _each(len(shots))
    times = [shot.start + (k + 0.5) / each * shot.seconds for shot in shots for k in range(each)]
    stills = [Image.fromarray(still) for still in read_stills(video, times, height=STILL_HEIGHT, check=check)]
    song = hear(video, check=check)
    return SongSheet(
        title=Path(video).name,
        facts=_facts(song, len(shots)),
        seconds=info.seconds,
        song=song,
        peaks=sound_peaks(video, start=0, seconds=info.seconds, check=check),
        shots=tuple(shot.with_pictures(stills[k * each : (k + 1) * each]) for k, shot in enumerate(shots)),
    )


def _with_scores(shots: list[SheetShot], scores: Scores | None) -> list[SheetShot]:
    """The same shots with what a video scored, the weakest of them marked."""
    if scores is None:
        return shots
    weak = {shot.index for shot in scores.worst(WEAK_SHOTS) if shot.weakness >= LEAST_WEAKNESS}
    judged = {shot.index: shot for shot in scores.shots}
    return [
        replace(shot, scores=_chips(judged[index]), is_weak=index in weak) if index in judged else shot
        for index, shot in enumerate(shots)
    ]


def _chips(shot: ShotScores) -> dict[str, Score]:
    """What a shot scored in beat and lips, in the colour of how good that is."""
    judged = {"beat": (shot.beat, GOOD_BEAT), "lips": (shot.lips, GOOD_LIPS)}
    return {
        name: Score(value=measured.value, goodness=min(1.0, measured.gain / good))
        for name, (measured, good) in judged.items()
        if measured is not None
    }


def _each(shots: int) -> int:
    return max(1, min(EACH, MOST_STILLS // max(shots, 1)))


def _facts(song: Song, shots: int) -> str:
    facts = [duration(song.seconds)]
    if song.beats:
        facts.append(f"{song.tempo_bpm:.0f} beats per minute, {song.meter}")
    facts.append(f"{len(song.sections)} section{'s' * (len(song.sections) != 1)}")
    facts.append(f"{shots:,} shot{'s' * (shots != 1)}")
    return "   ·   ".join(facts)


def _told_shots(recipe: Mapping[str, Any], seconds: float) -> list[SheetShot]:
    """The shots of a recipe, as far as they lie in a video of so many seconds."""
    request = recipe["request"]
    begin = (request.get("window") or {}).get("start") or 0.0
    asked = request.get("shots") or []
    before = sum((shot["start"] - begin) * MODEL_FPS <= 0.5 for shot in asked[1:])  # that end before the window begins
    shots = []
    for number, clips in groupby(recipe["plan"]["clips"], key=lambda clip: clip["shot"]):
        spans = [(clip["start"], clip["start"] + clip["frames"]) for clip in clips]
        first, stop = spans[0][0] / MODEL_FPS, min(spans[-1][1] / MODEL_FPS, seconds)
        if not 0 <= first < stop:
            continue
        told = asked[before + number] if 0 <= before + number < len(asked) else {}
        shots.append(
            SheetShot(
                name=told.get("name") or f"shot-{number + 1}",
                start=first,
                stop=stop,
                prompt=told.get("prompt") or request.get("prompt") or "",
                continues=told.get("cut") == "continue" and first > 0,
            )
        )
    return sorted(shots, key=lambda shot: shot.start)
