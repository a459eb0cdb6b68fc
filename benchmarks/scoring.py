"""Scores of videos whose truth is known, and what scoring costs beside a draft.

    python -m benchmarks.scoring --seeds 1 2 3 --portrait singer.png --speech talk.wav

Sounds are moved by known times against the pictures: drafts of irregular clicks, drafts of synthesized songs, a
portrait whose mouth is pulled open as loud as a voice is. Noise, and lips that follow nothing, are to score like their
controls. Rows with a portrait are left out without one, and without the packages that score lips.
"""

import argparse
import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from benchmarks.scored_videos import (
    RATE,
    Mono,
    clicks,
    draft,
    irregular_times,
    loudness,
    moved_sound,
    noise_pictures,
    sound_of,
    speaking,
    video_with,
    with_sound,
    write_sound,
)
from benchmarks.songs import synthesize
from soundreel import EngineName, Output, Request, Window, generate, score
from soundreel.scoring import Measured, face_networks
from soundreel.units import MODEL_FPS

MOVES = (0.0, 100.0, -187.5, 187.5, 400.0)
SECONDS = 12.0
STEADY_FIRSTS = (0.25, 0.1)
"""Seconds at which clicks begin that come once a second: on frames, and each 25 ms before one."""

SHARED = Path(__file__).parents[2] / "shared" / "media"
COST_SECONDS = 10.0


def main(arguments: Sequence[str] | None = None) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--portrait", type=Path, default=SHARED / "pose.png", help="a picture with a face")
    parser.add_argument("--speech", type=Path, default=SHARED / "talk.wav")
    parser.add_argument("--size", type=int, nargs=2, default=(480, 832), help="of the drafts that costs are told of")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _beat_table(options.seeds, folder)
        if options.portrait.exists() and options.speech.exists() and not face_networks.missing():
            _lips_table(options.seeds, options.portrait, options.speech, folder)
        _cost_table(tuple(options.size), folder)


def _heading(what: str, *columns: str) -> str:
    found, sure, number = columns
    return f"{what:<22}{'seed':>5}{'sound moved ms':>16}{found:>10}{sure:>12}{number:>8}{'control':>9}{'chance':>8}"


def _beat_table(seeds: Iterable[int], folder: Path) -> None:
    print(_heading("beat", "found ms", "confidence", "onsets"))
    for seed in seeds:
        for what, sound in (("clicks", clicks(irregular_times(seed, SECONDS), SECONDS)), ("song", _song(seed))):
            _draft_rows(f"draft of {'a song' if what == 'song' else what}", str(seed), sound, folder)
            noise = video_with(noise_pictures(seed, round(SECONDS * MODEL_FPS)), sound, folder / "noise.mp4")
            _beat_row(f"noise with {'a song' if what == 'song' else what}", str(seed), "", noise)
    for first in STEADY_FIRSTS:
        sound = clicks(np.arange(first, SECONDS, 1.0), SECONDS)
        _draft_rows(f"steady from {first:g} s on", "", sound, folder)


def _draft_rows(what: str, seed: str, sound: Mono, folder: Path) -> None:
    drawn = draft(sound, folder / "draft.mp4")
    for milliseconds in MOVES:
        moved = with_sound(drawn, moved_sound(sound, milliseconds), folder / "moved.mp4")
        _beat_row(what, seed, f"{milliseconds:g}", moved)


def _beat_row(what: str, seed: str, moved: str, video: Path) -> None:
    beat = score(video, lips=False).beat
    if beat is None:
        print(f"{what:<22}{seed:>5}{moved:>16}  not scored")
        return
    found = "none" if beat.offset_ms is None else f"{beat.offset_ms:.1f}"
    print(f"{what:<22}{seed:>5}{moved:>16}{found:>10}{beat.confidence:>12.2f}" + _measured(beat.onsets))


def _measured(measured: Measured) -> str:
    return f"{measured.value:>8.2f}{measured.control:>9.2f}{measured.chance:>8.3f}"


def _song(seed: int) -> Mono:
    _, sound = synthesize("4/4", seed, SECONDS)
    return sound


def _lips_table(seeds: Iterable[int], portrait: Path, speech: Path, folder: Path) -> None:
    picture = np.asarray(Image.open(portrait).convert("RGB").resize((512, 288)))
    sound = sound_of(speech, SECONDS)
    frames = int(len(sound) / RATE * MODEL_FPS)
    print("\n" + _heading("lips", "lag ms", "faces", "corr."))
    openings = loudness(sound, frames, MODEL_FPS)
    for milliseconds in MOVES:
        video = video_with(speaking(picture, openings), moved_sound(sound, milliseconds), folder / "lips.mp4")
        _lips_row("follow the voice", "", f"{milliseconds:g}", video)
    for seed in seeds:
        knots = np.random.default_rng(seed).random(frames // 3 + 2)
        openings = np.interp(np.arange(frames), 3 * np.arange(len(knots)), knots)
        _lips_row("follow nothing", str(seed), "", video_with(speaking(picture, openings), sound, folder / "lips.mp4"))


def _lips_row(what: str, seed: str, moved: str, video: Path) -> None:
    lips = score(video, lips=True).lips
    assert lips is not None, "lips were asked for"
    found = "none" if lips.lag_ms is None else f"{lips.lag_ms:.1f}"
    measured = "" if lips.correlation is None else _measured(lips.correlation)
    print(f"{what:<22}{seed:>5}{moved:>16}{found:>10}{lips.faces:>12.0%}" + measured)


def _cost_table(size: tuple[int, int], folder: Path) -> None:
    """Medians of three, each beside a draft that was rendered just before."""
    _, sound = synthesize("4/4", 1, COST_SECONDS)
    heard = folder / "song.wav"
    write_sound(heard, sound)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)).resize(size).save(
        folder / "cover.png"
    )
    print(f"\ncost at {size[0]}×{size[1]}, {COST_SECONDS:g} s of video, {os.cpu_count()} cores")
    for what, picture in (("draft", None), ("draft with a picture", folder / "cover.png")):
        request = Request(
            audio=heard,
            ref_image=picture,
            engine=EngineName.DRAFT,
            width=size[0],
            height=size[1],
            window=Window(full=True),
            output=Output(path=folder / "cost.mp4"),
        )
        runs = list(_runs(request))
        drawing = median(run[0] for run in runs)
        print(f"{what:<22}{drawing:>8.2f} s")
        for number, name in ((1, "score without lips"), (2, "score with lips")):
            if len(runs[0]) > number:
                ratio = median(run[number] / run[0] for run in runs)
                print(f"  {name:<20}{median(run[number] for run in runs):>8.2f} s{ratio:>8.2f} of the draft")


def _runs(request: Request) -> Iterator[list[float]]:
    video = Path(str(request.output.path))
    for _ in range(3):
        parts: list[Callable[[], object]] = [lambda: generate(request), lambda: score(video, lips=False)]
        if not face_networks.missing():
            parts.append(lambda: score(video, lips=True))
        yield [_seconds(part) for part in parts]


def _seconds(part: Callable[[], object]) -> float:
    begun = time.perf_counter()
    part()
    return time.perf_counter() - begun


if __name__ == "__main__":
    main()
