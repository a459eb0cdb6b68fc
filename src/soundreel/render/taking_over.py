"""Clips of a storyboard that were rendered under another number: it has changed, and theirs has not.

A clip's fingerprint says nothing of its number where shots say what is drawn, so what a shot before it gained or lost
in clips costs nothing.
"""

import os
import re
import shutil
from collections import defaultdict
from contextlib import suppress
from pathlib import Path
from typing import Final

from soundreel.disk.durable import uninterrupted
from soundreel.render.plan_file import CLIP_DIGITS, clip_file
from soundreel.render.prepared import PreparedRender

CLIP_FILE: Final = re.compile(rf"clip_(\d{{5}})_([0-9a-f]{{{CLIP_DIGITS}}})(\..+)")

RECORDS: Final = (".json", ".latents.json")
"""Written after what they tell of: each is taken over last."""


def take_over(folder: Path, render: PreparedRender) -> None:
    """Give what is kept of a clip under another number a second name under the one that it has in this render."""
    if not render.request.shots:
        return
    there = _by_digits(folder)
    with uninterrupted():
        for clip, *digests in zip(render.plan.clips, render.clip_fingerprints, render.pixel_fingerprints, strict=True):
            for digest in dict.fromkeys(digests):
                files = there.get(digest[:CLIP_DIGITS], {})
                if files and clip.index not in files:
                    _name_again(folder, next(iter(files.values())), clip.index, digest)


def _by_digits(folder: Path) -> dict[str, dict[int, dict[str, Path]]]:
    """The files of clips by their fingerprint's digits, by number from 0, by ending."""
    found: dict[str, dict[int, dict[str, Path]]] = defaultdict(lambda: defaultdict(dict))
    for path in folder.glob("clip_*"):
        if name := CLIP_FILE.fullmatch(path.name):
            found[name[2]][int(name[1]) - 1][name[3]] = path
    return found


def _name_again(folder: Path, files: dict[str, Path], index: int, digest: str) -> None:
    for ending in sorted(files, key=lambda ending: (ending in RECORDS, ending)):
        target = clip_file(folder, index, digest, ending)
        with suppress(FileExistsError):
            try:
                os.link(files[ending], target)
            except FileExistsError:
                raise
            except OSError:  # a file system without links
                shutil.copyfile(files[ending], target)
