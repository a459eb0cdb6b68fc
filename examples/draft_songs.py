"""Ten songs of different kinds as drafts, on one sheet: `python examples/draft_songs.py SHEET.jpg`.

Each row is a song of `make_song.py`, with a hard cut between its sections; a picture is from the middle of a section.
"""

import sys
import tempfile
from itertools import pairwise
from pathlib import Path
from typing import Any

from PIL import Image

from make_song import make_song
from song_composer import write_song
from song_score import KINDS, Wish
from soundreel import Request, generate
from soundreel.media.video import read_frames
from soundreel.units import MODEL_FPS

SIZE = (160, 272)
"""Pixels of a draft."""

WIDTH, HEIGHT = 100, 170
"""Pixels of a picture on the sheet."""

SECTIONS = 5
"""Pictures of a song."""

COLUMNS, GAP = 2, 8
"""Songs beside each other, and pixels between them."""

WISHES = [Wish(seed=20 + k, kind=(*KINDS, "4/4", "4/4")[k], seconds=75) for k in range(10)]


def main(target: Path) -> None:
    row_width = SECTIONS * WIDTH
    rows = -(-len(WISHES) // COLUMNS)
    sheet = Image.new("RGB", (COLUMNS * (row_width + GAP) - GAP, rows * (HEIGHT + GAP) - GAP), "white")
    with tempfile.TemporaryDirectory() as folder:
        for number, wish in enumerate(WISHES):
            left, top = number % COLUMNS * (row_width + GAP), number // COLUMNS * (HEIGHT + GAP)
            for place, picture in enumerate(pictures(Path(folder), wish)):
                sheet.paste(picture, (left + place * WIDTH, top))
    sheet.save(target, quality=76)


def pictures(folder: Path, wish: Wish) -> list[Image.Image]:
    """One from each of the first sections of a song."""
    song, video = folder / f"song_{wish.seed}.flac", folder / f"song_{wish.seed}.mp4"
    make_song(song, wish)
    score = write_song(wish)
    starts = [section["start"] for section in score.sections][: SECTIONS + 1]
    size = {"width": SIZE[0], "height": SIZE[1]}
    options: dict[str, Any] = {**size, "full": True, "cuts": starts[1:], "engine": "draft", "output": video, "crf": 10}
    generate(Request(audio=song, **options))
    middles = [round((start + stop) / 2 * MODEL_FPS) for start, stop in pairwise([*starts, score.seconds])]
    wanted = set(middles[:SECTIONS])
    frames = (Image.fromarray(frame) for index, frame in enumerate(read_frames(video)) if index in wanted)
    return [frame.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS) for frame in frames]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
