"""A request that has passed every check: what will be rendered, by which engine, and what the user should know."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from math import log10
from pathlib import Path
from typing import Any, Final

from soundreel import planning
from soundreel.disk.outputs import Inputs
from soundreel.engines.base import Choice, Elsewhere, Engine, Identity, Prepared, check_weights, open_engine
from soundreel.interpolation.frames import Method, Rates, check_method, method_files, open_method
from soundreel.media.audio import SoundInfo, measure_levels, probe_sound
from soundreel.media.downmix import left_out
from soundreel.media.image import probe_image
from soundreel.render import naming
from soundreel.render.division import Division, divide, fitting
from soundreel.render.drive import check_drives, files_that_drive, says_of_files
from soundreel.render.fingerprint import Fingerprint, asked, clip_fingerprints, pixel_fingerprints, request_parts
from soundreel.render.kept_processes import KeptProcesses
from soundreel.request import AvAlign, Interpolation, Request, files_read
from soundreel.request.fields import Role
from soundreel.storyboard.reading import noted_digest
from soundreel.types import Check, Clip, Plan, go_on
from soundreel.units import MODEL_FPS, StrPath
from soundreel.wording.durations import silence_follows

INTERPOLATED_FPS: Final = 2 * MODEL_FPS
"""Frames per second with interpolation, where no rate is asked for."""

DRAFT_NEEDS_NO_FILM: Final = "a draft needs no weights: --interpolate motion doubles its frames, not FILM"

RATE_NEEDS_A_METHOD: Final = (
    "--fps {fps} without --interpolate: the frames between come from --interpolate motion; "
    "rife and film make better ones"
)

NOTABLE_CROP: Final = 0.34
"""A reference image that loses more of its area than this is worth a word."""

NOTABLE_PEAK: Final = 2.0
"""So is sound that exceeds full scale by more than 6 dB: what lossy codecs make of loud music stays below."""

STEREO: Final = 2
"""Channels of a video's sound track, at most."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """A request on its sound: what is to be rendered and by which engine, before the engine has decided how."""

    plan: Plan
    inputs: Inputs  # the files that are read: no result is ever put in their place
    sound: SoundInfo
    driving: Mapping[StrPath, SoundInfo] = field(default_factory=dict)  # of the files that drive
    choice: Choice
    interpolation: Interpolation  # the method that is really used
    model_files: Mapping[str, str]  # digests of the engine's local files, by name

    @property
    def request(self) -> Request:
        """What the user asked."""
        return self.plan.request

    @property
    def engine(self) -> Engine:
        """The engine that renders it."""
        return self.choice.engine

    @cached_property
    def fingerprint(self) -> Fingerprint:
        """What was asked; the sound and the other files are read for it."""
        return asked(self.plan, self.engine.name, self.model_files)


@dataclass(frozen=True, kw_only=True)
class PreparedRender:
    """A request that has passed every check and can be rendered."""

    asked: Asked
    prepared: Prepared  # the engine's decisions
    division: Division = field(default_factory=Division)  # among processes
    networks: Mapping[str, str]  # digests of the interpolation's weights, by name
    notes: tuple[str, ...]
    excerpt: str = ""  # which part of the sound it shows, where no length was asked for and there is more; a note, too
    resumed: str = ""  # what is there already, in a few words
    noted: Mapping[str, Any] = field(default_factory=dict)  # what the recipe is to tell of each clip that is made here
    is_printed_again: bool = False  # from kept negatives: nothing is sampled

    @property
    def plan(self) -> Plan:
        """Shots and clips."""
        return self.asked.plan

    @property
    def request(self) -> Request:
        """What the user asked."""
        return self.plan.request

    @property
    def choice(self) -> Choice:
        """The engine, and why it was taken."""
        return self.asked.choice

    @property
    def engine(self) -> Engine:
        """The engine that renders it."""
        return self.choice.engine

    @property
    def identity(self) -> Identity:
        """What the engine decided that changes pixels."""
        return self.prepared.identity

    @property
    def interpolation(self) -> Interpolation:
        """The method that is really used."""
        return self.asked.interpolation

    @property
    def models(self) -> Mapping[str, str]:
        """Digests of all model files that take part, by name."""
        return {**self.asked.model_files, **self.networks}

    @property
    def fps(self) -> int:
        """Frames per second of the file."""
        if self.interpolation is Interpolation.NONE:
            return MODEL_FPS
        return self.request.output.fps or INTERPOLATED_FPS

    @cached_property
    def rates(self) -> Rates:
        """Frames per second of the model and of the file."""
        return Rates(target=Fraction(self.fps))

    @property
    def frames_written(self) -> int:
        """Frames of the file."""
        return self.rates.count(self.plan.frames)

    def first_written(self, clip: Clip) -> int:
        """Place in the file of the first frame that is encoded with `clip`."""
        return self.rates.first_after(clip.start - 1) if self.plan.continues(clip) else self.rates.first_at(clip.start)

    def frames_between(self, clip: Clip) -> int:
        """Frames of the file that are encoded with `clip`."""
        rates, plan, begin = self.rates, self.plan, self.first_written(clip)
        if clip.stop == plan.frames:
            return self.frames_written - begin
        end = rates.first_at(clip.stop) if plan.is_last_of_chain(clip) else rates.first_after(clip.stop - 1)
        return end - begin

    @cached_property
    def encoding(self) -> Mapping[str, Any]:
        """How pictures are post-processed and encoded: as asked, and as it is really done."""
        wanted = request_parts(self.request, Role.ENCODING)
        done = {"output.interpolate": str(self.interpolation), "output.fps": self.fps, "networks": dict(self.networks)}
        return {name: value for name, value in (wanted | done).items() if name != "output.weights"}

    @cached_property
    def pixel_fingerprints(self) -> list[str]:
        """What a stored negative must be of to count, for each clip."""
        chained = self.engine.chains_clips
        return pixel_fingerprints(self.plan, self.asked.fingerprint, self.identity, are_chained=chained)

    @cached_property
    def clip_fingerprints(self) -> list[str]:
        """What a stored clip must be of to count, for each clip."""
        return clip_fingerprints(self.plan, self.pixel_fingerprints, self.encoding)

    @cached_property
    def interpolator(self) -> Method:
        """What makes the frames between; its network is loaded on first use."""
        output, compute = self.request.output, self.request.compute
        return open_method(self.interpolation, weights=output.weights, models=compute.models, device=compute.device)


def ask(
    request: Request,
    printed_models: Mapping[str, str] | None = None,
    choose: Callable[[Request], Choice] = open_engine,
) -> Asked:
    """Read the sound's length, choose an engine, and plan.

    Args:
        printed_models: digests of the model files that a render was made with which is only to be printed again: of
            them those that printing needs are looked for, and replaced by what is there.
        choose: opens an engine.
    """
    inputs = Inputs.of(files_read(request))
    naming.check_output(request, inputs)
    sound = probe_sound(request.audio)
    planning.shot_bounds(request, sound.seconds)  # what cannot be is known before an engine or a server is asked
    driving = check_drives(request) if printed_models is None else {}
    if printed_models is None:
        check_weights(request)
    choice = choose(request)
    planned = planning.plan(request, sound.seconds, equal_clips=choice.engine.equal_clips)
    naming.check_settings(planned, choice.engine.name)
    return Asked(
        plan=planned,
        inputs=inputs,
        sound=sound,
        driving=driving,
        choice=choice,
        interpolation=_interpolation(request, choice.engine),
        model_files=_model_files(choice.engine, request, printed_models),
    )


def _model_files(engine: Engine, request: Request, printed: Mapping[str, str] | None) -> Mapping[str, str]:
    if printed is None:
        return {**engine.model_files(request), **files_that_drive(request)}
    known = set(printed.values())
    return {**printed, **{name: found for name, found in engine.print_files(request).items() if found not in known}}


def prepare(
    what: Asked,
    kept: Identity | None = None,
    check: Check = go_on,
    *,
    only_print: bool = False,
    processes: KeptProcesses | None = None,
) -> PreparedRender:
    """Check all that a render needs and decide how it is done; nothing is written.

    Args:
        kept: what the engine decided when the render was begun: it is followed, or refused.
        check: called while the sound is read; may raise to stop.
        only_print: nothing will be sampled.
        processes: of a session: those that are not to render end, for what they hold is needed.
    """
    request = what.request
    check_method(what.interpolation, weights=request.output.weights, models=request.compute.models)
    division = divide(what.plan, what.engine)
    there = Elsewhere() if processes is None else processes.going_on(division.processes)
    what.engine.elsewhere = replace(there, render=division.is_divided)
    plan = division.plan_of(what.plan)
    prepared = what.engine.prepare_print(plan, kept) if only_print else what.engine.prepare(plan, kept)
    division = fitting(division, prepared.host_bytes, there.there)
    if processes is not None and not division.is_divided:
        processes.close()  # of which host memory holds too few: this one renders
    notes = (
        *_sound_notes(what.plan, what.sound, check),
        *says_of_files(what.plan, what.sound, what.driving),
        *_reference_notes(what.plan),
        *_storyboard_notes(what),
        *prepared.notes,
        *division.notes,
        *_interpolation_notes(request, what.interpolation),
    )
    networks = method_files(what.interpolation, weights=request.output.weights, models=request.compute.models)
    return PreparedRender(asked=what, prepared=prepared, division=division, networks=networks, notes=notes)


def _interpolation(request: Request, engine: Engine) -> Interpolation:
    """The method that is really used: a draft never needs FILM's weights, and a higher rate needs some method."""
    wanted, fps = request.output.interpolate, request.output.fps
    if fps == MODEL_FPS:
        return Interpolation.NONE
    if engine.name == "draft" and wanted is Interpolation.FILM:
        return Interpolation.MOTION
    return Interpolation.MOTION if wanted is Interpolation.NONE and fps is not None else wanted


def _interpolation_notes(request: Request, interpolation: Interpolation) -> Iterator[str]:
    wanted = request.output.interpolate
    if interpolation is Interpolation.MOTION and wanted is Interpolation.FILM:
        yield DRAFT_NEEDS_NO_FILM
    if interpolation is Interpolation.MOTION and wanted is Interpolation.NONE:
        yield RATE_NEEDS_A_METHOD.format(fps=request.output.fps)


def _sound_notes(planned: Plan, sound: SoundInfo, check: Check) -> Iterator[str]:
    if sound.truncated:
        yield f"the sound file is cut off: only {sound.seconds:.2f} s of it can be decoded"
    yield from silence_follows(planned.seconds, planned.silence_seconds)
    window = planned.request.window
    yield from _window_notes(planned, sound)
    yield from _channel_notes(sound)
    levels = measure_levels(planned.request.audio, start=window.start, seconds=planned.audio_seconds, check=check)
    if levels.lost == 1:
        yield "1 sample of the sound is not a number, or beyond any level: it becomes silence"
    elif levels.lost:
        yield f"{levels.lost:,} samples of the sound are not numbers, or beyond any level: they become silence"
    if levels.peak > NOTABLE_PEAK:
        yield f"the sound goes {20 * log10(levels.peak):.0f} dB beyond full scale: in the video it is clipped"


def _window_notes(planned: Plan, sound: SoundInfo) -> Iterator[str]:
    """What of the sound that was asked for is not heard, and what is heard before it begins."""
    window = planned.request.window
    asked_for = min(window.duration or 0.0, sound.seconds - window.start)
    is_heard_apart = planned.request.guide.av_align is AvAlign.REFERENCE  # there it is what the model hears
    if window.frames is not None and (asked_for - planned.seconds) * MODEL_FPS >= 1 and not is_heard_apart:
        yield f"--audio-duration is {window.duration:g} s: the video ends before, at {planned.seconds:.2f} s"
    silent = min(sound.silence - window.start, planned.seconds)
    if silent * MODEL_FPS >= 1:
        yield f"the sound sets in {sound.silence:.2f} s into the file: the video begins with {silent:.2f} s of silence"


def _channel_notes(sound: SoundInfo) -> Iterator[str]:
    """That there are more channels than a video gets."""
    if sound.channels > STEREO:
        lost = left_out(sound.channel_names)
        without = f", without {', '.join(lost)}" if lost else ""
        yield f"the sound has {sound.channels} channels: in the video they are mixed down to stereo{without}"


def _storyboard_notes(what: Asked) -> Iterator[str]:
    """That the sound is not the one that the storyboard was made for."""
    storyboard = what.request.storyboard
    noted = None if storyboard is None else noted_digest(storyboard)
    if storyboard is not None and noted is not None and noted != what.fingerprint.parts["audio"]:
        yield (
            f"{Path(storyboard).name} was made for another song than this {Path(what.request.audio).name} "
            "(song_sha256 differs): its cuts may lie elsewhere"
        )


def _reference_notes(plan: Plan) -> Iterator[str]:
    """What is to be known of the reference image, and of those that shots have of their own."""
    of_pictures = {shot.asked.ref_image: shot for shot in plan.shots if shot.asked.ref_image is not None}
    yield from _picture_notes(plan.request, "the reference image")
    for shot in of_pictures.values():
        yield from _picture_notes(plan.request_of(shot), f"the reference image of shot {shot.name!r}")


def _picture_notes(request: Request, says: str) -> Iterator[str]:
    if request.ref_image is None:
        return
    picture = probe_image(request.ref_image)
    if picture.animated:
        yield f"{Path(request.ref_image).name} is animated: its first frame is used"
    ratio = (picture.width * request.height) / (picture.height * request.width)
    lost = 1 - min(ratio, 1 / ratio)
    if lost > NOTABLE_CROP:
        yield (
            f"{lost:.0%} of {says} ({picture.width}×{picture.height}) is cropped away at "
            f"{request.width}×{request.height}: a --width and --height nearer to its shape keep more"
        )
