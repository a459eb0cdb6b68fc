"""What all shots of a draft share, and the renderer of each."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Protocol

import numpy as np

from soundreel.analysis import Song, SoundFeatures
from soundreel.disk.digests import file_digest
from soundreel.engines.draft.abstract import PatternRenderer, plain_thread_texture, thread_texture
from soundreel.engines.draft.character import character_of
from soundreel.engines.draft.grid import Picture
from soundreel.engines.draft.image import ImageRenderer
from soundreel.engines.draft.look import Style
from soundreel.engines.draft.motion import Motion, motion_from_features
from soundreel.engines.draft.scenes import Scene, scenes_of
from soundreel.media.image import load_image
from soundreel.request import Request
from soundreel.types import Plan
from soundreel.units import StrPath


class FrameRenderer(Protocol):
    """Draws frames of a video."""

    def draw(self, frame: int, out: Picture) -> None:
        """Draw the frame of index `frame` into `out`, uint8 [H, W, 3]. Frames do not depend on each other."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class Drawing:
    """What the renderers of all shots of a video share."""

    size: tuple[int, int]  # width, height
    motion_of: Callable[[int], Motion]  # by what a shot moves
    style: Style
    scenes: tuple[Scene, ...]  # of the shots
    picture_of: Callable[[int], Picture | None]  # the reference image of a shot
    threads: Callable[[], Picture]  # a thread texture

    @classmethod
    def of(
        cls,
        plan: Plan,
        features: SoundFeatures,
        song: Song | None,
        *,
        motion_of: Callable[[int], Motion] | None = None,
        size: tuple[int, int] | None = None,
    ) -> "Drawing":
        """For all shots of a plan.

        Args:
            features: of the sound itself, in the plan's window.
            song: what is heard there, where `needs_song` asks for it.
            motion_of: by what the shot with an index moves, where that is not the sound itself.
            size: width and height in pixels, where they are not the plan's.
        """
        request, motion = plan.request, motion_from_features(features)
        number = int(file_digest(request.audio)[:16], 16)
        given = (plan.request_of(shot).ref_image for shot in plan.shots)
        paths = [None if path is None else Path(path) for path in given]

        @lru_cache(maxsize=1)
        def load(path: Path | None) -> Picture | None:
            return load_reference(path)

        return cls(
            size=size or (request.width, request.height),
            motion_of=motion_of or (lambda _: motion),
            threads=lru_cache(maxsize=1)(lambda: thread_texture(np.random.default_rng(number))),
            style=Style.of_song(
                character_of(features, motion.key, number),
                style_seed(request),
                None if request.shots else request.prompt,  # shots may have words of their own
            ),
            scenes=scenes_of(plan, features, song),
            picture_of=lambda shot: load(paths[shot]),
        )

    @classmethod
    def of_silence(cls, request: Request, size: tuple[int, int], picture: Picture | None) -> "Drawing":
        """Two frames of nothing, for measurements: it takes as long to draw."""
        features = _silence(frames=2)
        motion = motion_from_features(features)
        return cls(
            size=size,
            motion_of=lambda _: motion,
            style=Style.of_song(character_of(features, motion.key, 0), request.seed, request.prompt),
            scenes=(Scene(prompt=request.prompt),),
            picture_of=lambda _: picture,
            threads=plain_thread_texture,
        )

    def renderer(self, shot: int, seed: int) -> FrameRenderer:
        """Draws the frames of the shot with an index, composed by a seed."""
        rng = np.random.default_rng([seed, self.style.character.number])
        scene, picture, motion = self.scenes[shot], self.picture_of(shot), self.motion_of(shot)
        if picture is None:
            look = self.style.look(scene)
            return PatternRenderer(*self.size, motion=motion, look=look, rng=rng, threads=self.threads)
        framing, movement = self.style.framing(scene, rng), self.style.movement(scene)
        return ImageRenderer(*self.size, picture=picture, motion=motion, framing=framing, movement=movement, rng=rng)


def load_reference(path: StrPath | None) -> Picture | None:
    """A reference image; None where there is none."""
    return None if path is None else load_image(path)


def style_seed(request: Request) -> int:
    """The seed of what all shots have in common: the request's, unless each of them has its own."""
    own = [shot.seed for shot in request.shots]
    return 0 if own and None not in own else request.seed


def _silence(*, frames: int) -> SoundFeatures:
    quiet, never = np.zeros(frames, np.float32), np.zeros(0)
    return SoundFeatures(
        loudness=quiet,
        onset=quiet,
        low=quiet,
        mid=quiet,
        high=quiet,
        centroid_hz=quiet,
        chroma=np.zeros((frames, 12), np.float32),
        tempo_bpm=0.0,
        beat_times=never,
        onset_times=never,
    )
