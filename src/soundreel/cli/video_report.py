"""What `soundreel info` shows: what is in a video, and the recipe that it was made by."""

import dataclasses
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from soundreel.cli.reports import MOST_ROWS, Findings, Rows, some_of, what_is_shown
from soundreel.cli.score_report import score_rows
from soundreel.media.video import probe_video
from soundreel.render.colour import ColourStats
from soundreel.render.join_record import parse_record
from soundreel.render.recipe import parse_recipe
from soundreel.scoring import read_scores
from soundreel.units import StrPath
from soundreel.wording.durations import exactly

NO_RECIPE = "none: not made by soundreel, or with --no-recipe"


def describe_video(path: StrPath, *, every_clip: bool = False) -> Findings:
    """Properties of a video, and its recipe if soundreel made it."""
    video = probe_video(path)
    recipe = parse_recipe(video.metadata, os.fspath(path))
    picture = f"{video.width}×{video.height} {video.codec}, {video.frames} frames at {float(video.fps):g} fps"
    rows = [("picture", picture), ("length", exactly(video.seconds)), ("sound", _sound_row(video))]
    joined = parse_record(video.metadata)
    if recipe is not None:
        rows += _recipe_rows(recipe)
        rows += _score_rows(recipe)
    elif joined is not None:
        rows += _joined_rows(joined)
    else:
        rows.append(("recipe", NO_RECIPE))
    data = dataclasses.asdict(video) | {"fps": float(video.fps), "recipe": recipe, "joined": joined}
    del data["metadata"]
    clips = [] if recipe is None else [clip for clip in recipe["plan"]["clips"] if clip.get("look") is not None]
    shown = clips if every_clip else some_of(clips)
    return Findings(
        data=data,
        rows=rows,
        columns=DRIFT_COLUMNS if clips else (),
        cells=[] if recipe is None else list(_drift(shown, recipe.get("reference_look"))),
        closing=what_is_shown(len(shown), len(clips)),
    )


DRIFT_COLUMNS = ("clip", "seed", "red", "green", "blue", "brightness", "contrast", "against clip 1", "reference")
"""Means in linear light, 0–1; the last two are brightness and contrast in multiples of the first clip's."""


def _drift(clips: Sequence[Mapping[str, Any]], reference: Mapping[str, Any] | None) -> Iterator[tuple[str, ...]]:
    """Colour statistics of clips, as rendered, relative to the first one and to the reference image."""
    looks = [ColourStats.from_data(clip["look"]) for clip in clips]
    for clip, look in zip(clips, looks, strict=True):
        yield (
            str(clip["index"] + 1),
            str(clip["seed"]),
            *(f"{value:.3f}" for value in (*look.mean, look.brightness, look.contrast)),
            _against(look, looks[0]),
            "" if reference is None else _against(look, ColourStats.from_data(reference)),
        )


def _against(look: ColourStats, other: ColourStats) -> str:
    pairs = ((look.brightness, other.brightness), (look.contrast, other.contrast))
    return " ".join(f"{mine / theirs:.2f}" if theirs > 0 else "–" for mine, theirs in pairs)


def _sound_row(video: Any) -> str:
    if video.sound_codec is None:
        return "none"
    channels = {1: "mono", 2: "stereo"}.get(video.sound_channels, f"{video.sound_channels} channels")
    return f"{video.sound_codec}, {video.sound_rate} Hz {channels}, {exactly(video.sound_seconds)}"


def _joined_rows(record: dict[str, Any]) -> Rows:
    """Of a joined video: its pieces, in whose recipes all else is said."""
    rows = [("made by", f"soundreel {record['soundreel']}, {record['created']}")]
    rows += [("note", note) for note in record["notes"]]
    for piece in record["pieces"]:
        recipe = piece["recipe"]
        engine = "" if recipe is None else f", engine {_engine(recipe)}"
        rows.append(("joined from", f"{piece['name']}, {piece['frames']} frames{engine}"))
    for stretch in record["sound"]:
        window = stretch["window"]
        of = "of the piece" if window is None else f"{window['name']} from {window['start']:g} s on"
        rows.append(("heard", f"{of}, {stretch['frames']} frames"))
    return rows


def _engine(recipe: dict[str, Any]) -> str:
    return str(recipe["engine"]) + (" (a draft, not a model render)" if recipe["engine"] == "draft" else "")


def _recipe_rows(recipe: dict[str, Any]) -> Rows:
    asked = {name: value for name, value in recipe["request"].items() if (name, value) != ("engine", recipe["engine"])}
    return [
        ("engine", _engine(recipe)),
        ("made by", f"soundreel {recipe['soundreel']}, {recipe['created']}"),
        *(("note", note) for note in recipe["notes"]),
        *(
            (name, says)
            for name, value in asked.items()
            if (says := _shots(value) if name == "shots" else _stated(value))
        ),
    ]


def _shots(shots: Any) -> str:
    """How many shots there are and what they are called; `soundreel storyboard VIDEO` writes down all of them."""
    if not isinstance(shots, list) or not shots:
        return _stated(shots)
    names = [str(shot.get("name") or number) for number, shot in enumerate(shots, start=1)]
    shown = names if len(names) <= MOST_ROWS else [*names[: MOST_ROWS - 1], "…", names[-1]]
    return f"{len(names)}: {', '.join(shown)}"


def _score_rows(recipe: dict[str, Any]) -> Rows:
    """The scores that the video got when it was rendered."""
    if recipe.get("scores") is None:
        return []
    scores = read_scores(recipe["scores"])
    return [("scores", "damaged")] if scores is None else score_rows(scores)


def _stated(value: Any) -> str:
    """A field of a request, or the fields of a group of it, as a recipe states them; "": nothing is."""
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {says}" for name, field in value.items() if (says := _stated(field)))
    if isinstance(value, list):
        return " ".join(map(str, value[:MOST_ROWS])) + (f" … ({len(value):,})" if len(value) > MOST_ROWS else "")
    if isinstance(value, float):
        return f"{value:g}"
    return "" if value is None or value is False else "yes" if value is True else str(value)
