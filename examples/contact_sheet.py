"""A video at a glance: `python examples/contact_sheet.py VIDEO SHEET.jpg [COLUMNS] [ROWS]`."""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from soundreel.media.video import probe_video, read_frames

FRAME_WIDTH = 200
"""Pixels of one picture on the sheet."""


def contact_sheet(video: Path, columns: int, rows: int) -> Image.Image:
    """Evenly spaced frames from the first to the last, row by row."""
    info = probe_video(video)
    height = round(FRAME_WIDTH * info.height / info.width)
    wanted = np.linspace(0, info.frames - 1, columns * rows).round().astype(int).tolist()
    sheet = Image.new("RGB", (columns * FRAME_WIDTH, rows * height))
    for index, frame in enumerate(read_frames(video)):
        small = Image.fromarray(frame).resize((FRAME_WIDTH, height), Image.Resampling.LANCZOS)
        for place in (k for k, position in enumerate(wanted) if position == index):
            sheet.paste(small, (place % columns * FRAME_WIDTH, place // columns * height))
    return sheet


if __name__ == "__main__":
    video, target, *shape = sys.argv[1:]
    columns, rows = map(int, shape or ("4", "1"))
    contact_sheet(Path(video), columns, rows).save(target, quality=88)
