"""How far the mouth of the face in a video is open, frame by frame."""

from typing import Final

import numpy as np

from soundreel.media.thumbnails import Thumbnail
from soundreel.scoring.face_networks import EYES, Face, FaceNetworks, Points

LONG_SIDE: Final = 640
"""Pixels of the picture that a face is looked at in."""

LIPS: Final = ((82, 87), (13, 14), (312, 317))
"""Pairs of landmarks on the inner edges of the upper and the lower lip."""

OVAL: Final = (10, 152)
"""Landmarks at the top of the forehead and the chin."""

SEARCH_FRAMES: Final = 4
"""Where no face is found, it is looked for again after so many frames."""


class Mouth:
    """Follows one face: it is searched where it was in the frame before."""

    def __init__(self) -> None:
        self._networks = FaceNetworks()
        self._face: Face | None = None
        self._wait = 0

    def opening(self, frame: Thumbnail) -> float:
        """Distance of the lips in multiples of the face's height; not a number where there is no face."""
        if self._face is None and self._wait:
            self._wait -= 1
            return np.nan
        picture = frame.picture(LONG_SIDE)
        points = None if self._face is None else self._networks.landmarks(picture, self._face)
        if points is None:
            face = self._networks.find(picture)
            points = None if face is None else self._networks.landmarks(picture, face)
        if points is None:
            self._face, self._wait = None, SEARCH_FRAMES - 1
            return np.nan
        self._face = Face.around(points, points[list(EYES)])
        return opening_of(points)


def opening_of(points: Points) -> float:
    """Mean distance of the lips' inner edges in multiples of the face's height, by its landmarks [468, 2]."""
    upper, lower = points[[pair[0] for pair in LIPS]], points[[pair[1] for pair in LIPS]]
    height = float(np.linalg.norm(points[OVAL[1]] - points[OVAL[0]]))
    return float(np.linalg.norm(lower - upper, axis=1).mean()) / max(height, 1e-6)
