"""A request that has passed every check: what will be rendered, by which engine, and what the user should know."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path

from soundreel import planning
from soundreel.engines.base import Choice, Engine, open_engine
from soundreel.errors import InputError
from soundreel.interpolation.frames import FILM, MOTION, NONE, Method, Rates, check_method, method_files, open_method
from soundreel.media.audio import SoundInfo, probe_sound
from soundreel.media.image import probe_image
from soundreel.render.fingerprint import Fingerprint, request_parts
from soundreel.request import Request
from soundreel.types import Plan
from soundreel.units import MODEL_FPS
from soundreel.version import __version__

INTERPOLATED_FPS = 2 * MODEL_FPS
"""Frames per second with interpolation, where no rate is asked for."""

DRAFT_NEEDS_NO_FILM = "a draft needs no weights: --interpolate motion doubles its frames, not FILM"

RATE_NEEDS_A_METHOD = (
    "--fps {fps} without --interpolate: the frames between come from --interpolate motion; "
    "rife and film make better ones"
)

NOTABLE_CROP = 0.34
"""A reference image that loses more of its area than this is worth a word."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A request that has passed every check and can be rendered."""

    plan: Plan
    choice: Choice
    interpolation: str  # the method that is really used
    models: Mapping[str, str]  # identities of the model files that take part, by name
    notes: tuple[str, ...]
    resumed: str = ""  # what is there already, in a few words

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """What the pictures depend on; the sound and the other files are read for it."""
        clips = [[clip.start, clip.frames, clip.size, clip.lead_in] for clip in self.plan.clips]
        return Fingerprint(
            {
                **request_parts(self.request),
                "soundreel": __version__,
                "engine": self.engine.name,
                "models": dict(self.models),
                "interpolate": f"{self.interpolation} {self.fps}",
                "plan": {"clips": clips, "audio_seconds": self.plan.audio_seconds},
            }
        )

    @property
    def engine(self) -> Engine:
        """The engine that renders it."""
        return self.choice.engine

    @property
    def request(self) -> Request:
        """What the user asked."""
        return self.plan.request

    @property
    def fps(self) -> int:
        """Frames per second of the file."""
        if self.interpolation == NONE:
            return MODEL_FPS
        return self.request.fps or INTERPOLATED_FPS

    @property
    def frames_written(self) -> int:
        """Frames of the file."""
        return Rates(target=Fraction(self.fps)).count(self.plan.frames)

    @cached_property
    def interpolator(self) -> Method:
        """What makes the frames between; its network is loaded on first use."""
        request = self.request
        return open_method(
            self.interpolation, weights=request.interpolate_weights, models=request.models, device=request.device
        )


def prepare(request: Request) -> Job:
    """Open and check all that a render needs; nothing is written."""
    _check_output(request)
    choice = open_engine(request)
    interpolation = _interpolation(request, choice.engine)
    check_method(interpolation, weights=request.interpolate_weights, models=request.models)
    sound = probe_sound(request.audio)
    planned = planning.plan(request, sound.seconds, equal_clips=choice.engine.equal_clips)
    choice.engine.check(request)
    notes = (
        *_sound_notes(planned, sound),
        *_reference_notes(request),
        *choice.engine.notes(planned),
        *_interpolation_notes(request, interpolation),
    )
    networks = method_files(interpolation, weights=request.interpolate_weights, models=request.models)
    models = {**choice.engine.model_files(request), **networks}
    return Job(plan=planned, choice=choice, interpolation=interpolation, models=models, notes=notes)


def _interpolation(request: Request, engine: Engine) -> str:
    """The method that is really used: a draft never needs FILM's weights, and a higher rate needs some method."""
    if request.fps == MODEL_FPS:
        return NONE
    if engine.name == "draft" and request.interpolate == FILM:
        return MOTION
    return MOTION if request.interpolate == NONE and request.fps is not None else request.interpolate


def _interpolation_notes(request: Request, interpolation: str) -> Iterator[str]:
    if interpolation == MOTION and request.interpolate == FILM:
        yield DRAFT_NEEDS_NO_FILM
    if interpolation == MOTION and request.interpolate == NONE:
        yield RATE_NEEDS_A_METHOD.format(fps=request.fps)


def _check_output(request: Request) -> None:
    if request.output is None:
        return
    output = Path(request.output)
    if output.suffix.lower() != ".mp4":
        raise InputError(f"--output is {str(output)!r}: expected a name that ends in .mp4")
    if output.is_dir():
        raise InputError(f"--output is {str(output)!r}, which is a folder: name a file, or use --output-dir")


def _sound_notes(planned: Plan, sound: SoundInfo) -> Iterator[str]:
    if sound.truncated:
        yield f"the sound file is cut off: only {sound.seconds:.2f} s of it can be decoded"
    if planned.silence_seconds * MODEL_FPS >= 1:
        yield (
            f"the sound ends at {planned.audio_seconds:.2f} s, the video at {planned.seconds:.2f} s: "
            f"{planned.silence_seconds:.2f} s of silence follow"
        )


def _reference_notes(request: Request) -> Iterator[str]:
    if request.ref_image is None:
        return
    picture = probe_image(request.ref_image)
    if picture.animated:
        yield f"{Path(request.ref_image).name} is animated: its first frame is used"
    ratio = (picture.width * request.height) / (picture.height * request.width)
    lost = 1 - min(ratio, 1 / ratio)
    if lost > NOTABLE_CROP:
        yield (
            f"{lost:.0%} of the reference image ({picture.width}×{picture.height}) is cropped away at "
            f"{request.width}×{request.height}: a --width and --height nearer to its shape keep more"
        )
