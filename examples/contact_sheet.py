"""A video at a glance: `python examples/contact_sheet.py VIDEO SHEET.jpg [COLUMNS] [ROWS]`.

Below the pictures of a single row stands how loud the video's sound is, from its beginning to its end.
"""

import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from soundreel.media.audio import probe_sound, stream_sound
from soundreel.media.video import probe_video, read_frames

FRAME_WIDTH = 200
"""Pixels of one picture on the sheet."""

SOUND_HEIGHT = 44
"""Pixels of the row that shows the sound."""

BAR_WIDTH = 4
"""Pixels that one bar of it takes."""


def contact_sheet(video: Path, columns: int, rows: int) -> Image.Image:
    """Evenly spaced frames, each from the middle of its part of the video, row by row."""
    info = probe_video(video)
    height = round(FRAME_WIDTH * info.height / info.width)
    count = columns * rows
    wanted = ((np.arange(count) + 0.5) * info.frames / count).astype(int).tolist()
    sound_height = SOUND_HEIGHT if rows == 1 and info.sound_codec is not None else 0
    sheet = Image.new("RGB", (columns * FRAME_WIDTH, rows * height + sound_height), "white")
    for index, frame in enumerate(read_frames(video)):
        small = Image.fromarray(frame).resize((FRAME_WIDTH, height), Image.Resampling.LANCZOS)
        for place in (k for k, position in enumerate(wanted) if position == index):
            sheet.paste(small, (place % columns * FRAME_WIDTH, place // columns * height))
    if sound_height:
        draw_sound(sheet, loudness(video, sheet.width // BAR_WIDTH), top=height)
    return sheet


def loudness(video: Path, parts: int) -> list[float]:
    """The root mean square of the sound in each of so many parts of it, the loudest as 1."""
    block = probe_sound(video).seconds / parts
    levels = [float(np.sqrt(np.mean(samples**2))) for samples in stream_sound(video, mono=True, block_seconds=block)]
    return [level / max(*levels, 1e-9) for level in levels[:parts]]


def draw_sound(sheet: Image.Image, levels: list[float], *, top: int) -> None:
    """Draw a bar for each level into the sheet's last row, which begins at `top`."""
    draw, middle = ImageDraw.Draw(sheet), top + SOUND_HEIGHT // 2
    for place, level in enumerate(levels):
        half = round(level * (SOUND_HEIGHT // 2 - 3))
        left = place * BAR_WIDTH
        draw.rectangle((left, middle - half, left + BAR_WIDTH - 2, middle + half), fill=(96, 80, 150))


if __name__ == "__main__":
    video, target, *shape = sys.argv[1:]
    columns, rows = map(int, [*shape, *["5", "1"][len(shape) :]])
    contact_sheet(Path(video), columns, rows).save(target, quality=88)
