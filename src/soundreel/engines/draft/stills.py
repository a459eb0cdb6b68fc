"""Stills of a draft: what each shot of a plan will look like, small and without drawing what lies between."""

from collections.abc import Iterator

import numpy as np

from soundreel.analysis import Song
from soundreel.driving_sound import DrivingSound
from soundreel.engines.draft.drawing import Drawing
from soundreel.engines.draft.grid import Picture
from soundreel.planning import composition_seeds
from soundreel.request import Drive
from soundreel.types import Check, Plan, go_on


def draft_stills(plan: Plan, song: Song, *, height: int, each: int, check: Check = go_on) -> Iterator[list[Picture]]:
    """Frames of every shot, evenly spread over it: `each`, or fewer of a shot with fewer frames.

    Args:
        song: what is heard in the window of the plan.
        height: pixels; the width is in proportion to the plan's size.

    Raises:
        InputError: the sound or a reference image cannot be read.
        MediaError: the sound cannot be decoded.
    """
    request = plan.request
    width = max(1, round(request.width * height / request.height))
    features = DrivingSound.of(plan, Drive.MIX).features(plan.frames, check)
    drawing = Drawing.of(plan, features, song if len(plan.shots) > 1 else None, size=(width, height))
    seeds = composition_seeds(plan)
    for shot in plan.shots:
        renderer = drawing.renderer(shot.index, seeds[shot.clips[0].index])
        count, stills = min(each, shot.frames), []
        for place in range(count):
            check()
            still = np.empty((height, width, 3), np.uint8)
            renderer.draw(shot.start + int((place + 0.5) / count * shot.frames), still)
            stills.append(still)
        yield stills
