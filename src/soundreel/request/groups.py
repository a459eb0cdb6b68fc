"""The groups of a request that say what is seen and heard: its length, its guides, how clips are drawn, the file."""

from dataclasses import dataclass
from pathlib import Path

from soundreel.request.choices import AvAlign, ClipSplit, Interpolation, RefFit, Solver
from soundreel.request.fields import Role, Seconds, option, settle, wrong
from soundreel.request.panels import LENGTH, MODEL, OUTPUT, PICTURE, SPEED, WHAT
from soundreel.units import (
    DEFAULT_CRF,
    FRAMES_PER_LATENT,
    MAX_CLIP_FRAMES,
    MAX_CLIPS,
    MAX_CRF,
    MAX_FPS,
    MAX_SECONDS,
    MAX_STEPS,
    MODEL_FPS,
    StrPath,
)


@dataclass(frozen=True, kw_only=True)
class Window:
    """Which part of the sound, and how long the video is.

    `frames`, else `duration`, else all with `full`, else what `default_clips` yield, or 77 frames, at most the sound's.
    """

    start: Seconds = option(
        0.0, "Seconds into the sound where the video begins",
        role=Role.PIXELS, panel=LENGTH, flags=("audio-start",), at_least=0, at_most=MAX_SECONDS,
    )  # fmt: skip
    duration: Seconds | None = option(  # also decides what is heard, with av_align reference
        None, "Seconds of sound to use",
        role=Role.PIXELS, panel=LENGTH, flags=("audio-duration",), above=0, at_most=MAX_SECONDS,
    )  # fmt: skip
    frames: int | None = option(
        None, "Exact length at 16 fps",
        role=Role.PLAN, panel=LENGTH, default_says="77 or the preset's, or what the sound has", at_least=1,
        at_most=MAX_CLIPS * MAX_CLIP_FRAMES,
    )  # fmt: skip
    full: bool = option(False, "All the sound from the start on", role=Role.PLAN, panel=LENGTH)
    num_clip: int | None = option(
        None, "At most what this many clips yield", role=Role.PLAN, panel=LENGTH, at_least=1, at_most=MAX_CLIPS
    )
    default_clips: int | None = option(  # presets give it
        None,
        "So many of the longest clips, where no length is asked for",
        role=Role.PLAN,
        at_least=1,
        at_most=MAX_CLIPS,
    )

    def __post_init__(self) -> None:
        settle(self, "window.")

    @property
    def has_length(self) -> bool:
        """Whether a length is asked for."""
        return self.full or any(length is not None for length in (self.frames, self.duration, self.num_clip))


@dataclass(frozen=True, kw_only=True)
class Guide:
    """What the pictures follow beside sound and words."""

    pose_video: StrPath | None = option(
        None, "Video whose movements to follow", role=Role.PIXELS, panel=WHAT, is_path=True, is_file=True
    )
    start_from_ref: bool = option(False, "Begin with the reference image", role=Role.PIXELS, panel=WHAT)
    ref_fit: RefFit = option(RefFit.COVER, "Cover the frame, or bars as the reference", role=Role.PIXELS, panel=PICTURE)
    av_align: AvAlign = option(
        AvAlign.SOUND, "Pair frame j with its own sound, or as the reference", role=Role.PIXELS, panel=MODEL
    )

    def __post_init__(self) -> None:
        settle(self, "guide.")


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How clips are drawn from noise."""

    steps: int = option(
        30, "Denoising steps per clip",
        role=Role.PIXELS, panel=MODEL, flags=("steps", "sample-steps"), at_least=1, at_most=MAX_STEPS,
    )  # fmt: skip
    guide_scale: float = option(
        4.5, "Guidance, 1 is off",
        role=Role.PIXELS, panel=MODEL, flags=("guide-scale", "sample-guide-scale"), at_least=0,
    )  # fmt: skip
    shift: float | None = option(
        None, "Flow shift",
        role=Role.PIXELS, panel=MODEL, flags=("shift", "sample-shift"), default_says="3, from 720p 5", above=0,
    )  # fmt: skip
    solver: Solver = option(
        Solver.UNIPC, "How the noise is followed", role=Role.PIXELS, panel=MODEL, flags=("solver", "sample-solver")
    )
    sigmas: tuple[float, ...] | None = option(  # they replace steps and shift
        None, "Noise levels of few-step weights, falling: 1.0,0.86,0.6,0.01", role=Role.PIXELS, panel=MODEL
    )
    turbo: bool = option(False, "Few-step weights with the engine's own noise levels", role=Role.PIXELS)
    cache: float = option(
        0.0, "Step cache: skip passes whose result is predicted to change by less, as 0.05; 0 is off",
        role=Role.PIXELS, panel=SPEED, at_least=0, at_most=1,
    )  # fmt: skip
    cfg_interval: tuple[float, float] | None = option(
        None, "Guide only this share of the steps: 0.0,0.8", role=Role.PIXELS, panel=SPEED, default_says="all"
    )
    infer_frames: int = option(
        80, "Longest clip, a multiple of 4",
        role=Role.PLAN, panel=MODEL,
        at_least=FRAMES_PER_LATENT, at_most=MAX_CLIP_FRAMES, multiple_of=FRAMES_PER_LATENT,
    )  # fmt: skip
    clip_split: ClipSplit = option(
        ClipSplit.EVEN, "Equal clips, or full ones as the reference", role=Role.PLAN, panel=MODEL
    )

    def __post_init__(self) -> None:
        settle(self, "sampling.")
        guided = self.cfg_interval
        if guided is not None and not 0.0 <= guided[0] < guided[1] <= 1.0:
            raise wrong("sampling.cfg_interval", guided, "two shares of the steps, from 0 to 1, rising")


@dataclass(frozen=True, kw_only=True)
class Output:
    """How pictures become a file, and where it goes."""

    path: StrPath | None = option(  # None: a new name in `dir`
        None, "Name of the video, replaced if it is there",
        role=Role.NEITHER, panel=OUTPUT, flags=("output", "o", "save-file"), is_path=True, is_written=True,
    )  # fmt: skip
    dir: StrPath = option(
        Path("output/video"), "Folder for automatic names",
        role=Role.NEITHER, panel=OUTPUT, flags=("output-dir",), is_path=True, is_written=True,
    )  # fmt: skip
    settings: str | None = option(
        None, "Tag in the automatic name", role=Role.NEITHER, panel=OUTPUT, default_says="the engine"
    )
    crf: int = option(
        DEFAULT_CRF,
        f"H.264 quality, 0 best to {MAX_CRF}",
        role=Role.ENCODING,
        panel=PICTURE,
        at_least=0,
        at_most=MAX_CRF,
    )
    fps: int | None = option(
        None, "Of the video, from 16: 24, 25, 30, 32, 60 …",
        role=Role.ENCODING, panel=PICTURE, default_says="16, interpolated 32", at_least=MODEL_FPS, at_most=MAX_FPS,
    )  # fmt: skip
    interpolate: Interpolation = option(  # none with fps above 16: motion
        Interpolation.NONE, "Frames between frames", role=Role.ENCODING, panel=PICTURE
    )
    weights: StrPath | None = option(
        None, "File of the rife or film network",
        role=Role.ENCODING, panel=PICTURE, flags=("interpolate-weights",), default_says="found", is_path=True,
    )  # fmt: skip
    color_match: bool = option(
        False, "Hold the first clip's colours and contrast",
        role=Role.ENCODING, panel=PICTURE, flags=("color-match", "no-color-match"),
    )  # fmt: skip
    score: bool = option(
        False, "Score the finished video: in its recipe, and shown by info", role=Role.NEITHER, panel=OUTPUT
    )
    preview: bool = option(False, "Keep a small picture of what is being rendered", role=Role.NEITHER, panel=OUTPUT)
    write_recipe: bool = option(
        True, "Write no recipe into the video", role=Role.NEITHER, panel=OUTPUT, flags=("no-recipe",)
    )
    recipe_paths: bool = option(  # else only the files' names
        False, "Write where files are, and the servers, into the video's recipe", role=Role.NEITHER, panel=OUTPUT
    )

    def __post_init__(self) -> None:
        settle(self, "output.")
