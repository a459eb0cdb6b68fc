"""What a user asks for: `Request` and its groups. Wrong values raise `InputError` before anything is opened.

Each field is declared once. The command line, JSON, recipes and fingerprints follow from its declaration.
"""

import dataclasses
import functools
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeVar

from soundreel.errors import InputError
from soundreel.fields import Role, Seconds, fields_of, group, option, required, settle, wrong
from soundreel.request_checks import check_header, check_lengths, check_side, check_url
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

WHAT, LENGTH, PICTURE, MODEL, SPEED, SERVER, OUTPUT = (
    "What", "Length", "Picture", "Model", "Speed (native)", "ComfyUI server", "Output",
)  # fmt: skip
"""Headings of the command line's help."""


class EngineName(StrEnum):
    """What renders."""

    AUTO = "auto"  # the first of the others that can run here
    NATIVE = "native"
    COMFYUI = "comfyui"
    DRAFT = "draft"


class ClipSplit(StrEnum):
    """How the frames of a shot are spread over clips."""

    EVEN = "even"  # equal clips, nothing rendered only to be cut
    FULL = "full"  # the reference's way: every clip `infer_frames` long, the surplus cut


class AvAlign(StrEnum):
    """Which sound drives which output frame of the model."""

    SOUND = "sound"  # frame j the sound at j/16 s
    REFERENCE = "reference"  # with a lead-in, frame j the sound 3 frames later, as the reference does


class RefFit(StrEnum):
    """How the reference image is brought to the video's size."""

    COVER = "cover"  # scaled to cover it, centre-cropped, no bars
    REFERENCE = "reference"  # shorter side to shorter side, cropped or with black bars, as the reference does


class Solver(StrEnum):
    """How the flow is followed from noise to picture."""

    UNIPC = "unipc"  # second order with a corrector; the official default
    DPMPP = "dpm++"  # second order, midpoint
    EULER = "euler"  # first order, for few-step weights


class Attention(StrEnum):
    """What computes the attention."""

    AUTO = "auto"  # the fastest exact kernel
    SDPA = "sdpa"
    CUDNN = "cudnn"
    FLASH = "flash"
    SAGE = "sage"
    FP8 = "fp8"


class Precision(StrEnum):
    """What the transformer's large products are computed in."""

    AUTO = "auto"  # as the weights are stored: fp8 files in fp8 where the GPU multiplies it
    BF16 = "bf16"  # never in fp8, however the weights are stored
    FP8 = "fp8"  # weights and activations, row by row


class VaePrecision(StrEnum):
    """What the VAE computes in."""

    AUTO = "auto"  # bf16 on GPUs, else fp32
    FP32 = "fp32"  # as the reference
    BF16 = "bf16"


class Memory(StrEnum):
    """How much of a GPU's memory a render may take: a name, or any other size as 20gb or 11.5gb, in 10⁹ bytes."""

    AUTO = "auto"  # what is free
    HIGH = "high"  # everything stays on the GPU
    GB32 = "32gb"
    GB24 = "24gb"
    GB16 = "16gb"
    GB12 = "12gb"


class Parallel(StrEnum):
    """What several GPUs divide."""

    AUTO = "auto"  # shots where all stay busy, else guidance where it is on and they are even in number, and tokens
    SHOTS = "shots"  # one GPU each
    GUIDANCE = "guidance"  # two, one branch of guidance each
    TOKENS = "tokens"  # each pass


ALL_GPUS: Final = "all"


MOST_GPUS: Final = 64
"""Of one host."""


def _names_gpus(gpus: str) -> bool:
    """Whether it is `all`, a number of GPUs, or different numbers that they have, with commas between."""
    if gpus == ALL_GPUS:
        return True
    if not re.fullmatch(r"\d{1,3}(,\d{1,3})*", gpus):
        return False
    numbers = [int(number) for number in gpus.split(",")]
    if len(numbers) == 1:
        return 1 <= numbers[0] <= MOST_GPUS
    return len(set(numbers)) == len(numbers) <= MOST_GPUS


def memory_bytes(memory: str) -> int | None:
    """The bytes that a size stands for; None for auto and high. `ValueError` for anything else."""
    if memory in (Memory.AUTO, Memory.HIGH):
        return None
    size = re.fullmatch(r"(\d+(?:\.\d+)?)gb", memory)
    if size is None or float(size[1]) == 0:
        raise ValueError(memory)
    return round(float(size[1]) * 1e9)


class Interpolation(StrEnum):
    """What makes frames between frames."""

    NONE = "none"
    MOTION = "motion"  # libavfilter's motion compensation
    RIFE = "rife"
    FILM = "film"


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


def split_lora(lora: str) -> tuple[str, str]:
    """Path and the rest of `FILE` or `FILE:strength`; no path where nothing here has that name: it is a server's."""
    path, colon, strength = lora.rpartition(":")
    found = [(name, rest) for name, rest in ((lora, ""), (path, colon + strength)) if name and Path(name).exists()]
    return found[0] if found else ("", lora)


def _absolute_lora(lora: str) -> str:
    path, rest = split_lora(lora)
    return str(Path(path).absolute()) + rest if path else rest


def _lora_name(lora: str) -> str:
    path, rest = split_lora(lora)
    if path:
        return Path(path).name + rest
    return re.split(r"[/\\]", rest)[-1] if rest.startswith(("/", "~")) else rest


@dataclass(frozen=True, kw_only=True)
class Compute:
    """What computes, and from which files."""

    models: StrPath | None = option(
        None, "Folder of the model, in any layout",
        role=Role.IDENTITY, panel=MODEL, flags=("models", "ckpt-dir"), is_path=True,
    )  # fmt: skip
    loras: tuple[str, ...] = option(
        (), "FILE or FILE:STRENGTH; several times if need be",
        role=Role.IDENTITY, panel=MODEL, flags=("lora",), make_absolute=_absolute_lora, make_name=_lora_name,
    )  # fmt: skip
    device: str = option("auto", "auto, cpu, cuda, cuda:1, mps", role=Role.IDENTITY, panel=MODEL)
    gpus: str | None = option(  # on a CPU: processes
        None, "Several GPUs: 2, all, or which ones: 0,2",
        role=Role.NEITHER, panel=SPEED, default_says="1", is_of_machine=True,
    )  # fmt: skip
    parallel: Parallel = option(
        Parallel.AUTO, "What several GPUs divide: shots, the branches of guidance, or tokens",
        role=Role.NEITHER, panel=SPEED, is_of_machine=True,
    )  # fmt: skip
    attention: Attention = option(
        Attention.AUTO, "auto is the fastest exact kernel; sage and fp8 round", role=Role.PIXELS, panel=SPEED
    )
    precision: Precision = option(
        Precision.AUTO, "Of the large products; auto is fp8 for fp8 files", role=Role.PIXELS, panel=SPEED
    )
    vae_precision: VaePrecision = option(
        VaePrecision.AUTO, "Of the VAE; auto is bf16 on GPUs, preset high fp32", role=Role.PIXELS, panel=SPEED
    )
    memory: str = option(
        Memory.AUTO, "Of the GPU: auto, high, or at most so much: 24gb, 16gb, 12gb, 20.5gb; less takes fp8",
        role=Role.IDENTITY, panel=SPEED,
    )  # fmt: skip

    def __post_init__(self) -> None:
        settle(self, "compute.")
        size = self.memory.strip().lower()
        try:
            memory_bytes(size)
        except ValueError:
            raise wrong("compute.memory", self.memory, "auto, high, or a size as 24gb, 16gb, 20.5gb") from None
        object.__setattr__(self, "memory", size)
        if self.gpus is not None:
            gpus = self.gpus.replace(" ", "").lower()
            if not _names_gpus(gpus):
                raise wrong("compute.gpus", self.gpus, "a number as 2, all, or different numbers as 0,2")
            object.__setattr__(self, "gpus", gpus)


DEFAULT_SERVER_URL: Final = "http://localhost:8188"
"""Where a ComfyUI listens that was started without options."""


@dataclass(frozen=True, kw_only=True)
class Server:
    """One ComfyUI server or several, and what the comfyui engine asks of them. Model files are named as there."""

    urls: tuple[str, ...] = option(  # http or https, with a path if need be
        (DEFAULT_SERVER_URL,), "A server; of several the least busy",
        role=Role.NEITHER, panel=SERVER, flags=("url",), is_address=True,
    )  # fmt: skip
    headers: tuple[str, ...] = option(
        (), "'Name: value' for a proxy that asks who you are",
        role=Role.NEITHER, panel=SERVER, flags=("header",), is_secret=True,
    )  # fmt: skip
    timeout: float | None = option(
        None, "Longest time without progress, in seconds",
        role=Role.NEITHER, panel=SERVER, default_says="by the size of the render", above=0,
    )  # fmt: skip
    workflow: StrPath | None = option(
        None, "Your own graph in API format, filled in", role=Role.PIXELS, panel=SERVER, is_path=True, is_file=True
    )
    diffusion_model: str | None = option(  # None: the first official name that the server has; so for all four
        None, "File on the server", role=Role.PIXELS, panel=SERVER, flags=("diffusion-model", "unet")
    )
    text_encoder: str | None = option(
        None, "File on the server", role=Role.PIXELS, panel=SERVER, flags=("text-encoder", "clip")
    )
    vae: str | None = option(None, "File on the server", role=Role.PIXELS, panel=SERVER)
    audio_encoder: str | None = option(None, "File on the server", role=Role.PIXELS, panel=SERVER)
    first_frame_fix: bool = option(  # or the first picture comes out too contrasty
        True, "Decode the first latent frame twice", role=Role.PIXELS, panel=SERVER,
        flags=("first-frame-fix", "no-first-frame-fix"),
    )  # fmt: skip

    def __post_init__(self) -> None:
        settle(self, "server.")
        if not self.urls:
            raise wrong("server.urls", self.urls, f"at least one, for example {DEFAULT_SERVER_URL}")
        for url in self.urls:
            check_url(url)
        for header in self.headers:
            check_header(header)


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
    preview: bool = option(False, "Keep a small picture of what is being rendered", role=Role.NEITHER, panel=OUTPUT)
    write_recipe: bool = option(
        True, "Write no recipe into the video", role=Role.NEITHER, panel=OUTPUT, flags=("no-recipe",)
    )
    recipe_paths: bool = option(  # else only the files' names
        False, "Write where files are, and the servers, into the video's recipe", role=Role.NEITHER, panel=OUTPUT
    )

    def __post_init__(self) -> None:
        settle(self, "output.")


T = TypeVar("T", bound=type)


def _takes_flat_names(kind: T) -> T:
    """Let a dataclass of groups take the fields of its groups as well: `Request(steps=4)`, as version 0.1.0 did."""
    init: Any = kind.__init__  # type: ignore[misc]

    @functools.wraps(init)
    def take(self: Any, **given: Any) -> None:
        init(self, **grouped(given))

    kind.__init__ = take  # type: ignore[misc]
    return kind


@_takes_flat_names
@dataclass(frozen=True, kw_only=True)
class Request:
    """What the user asks for. Paths are checked when they are opened.

    Fields of the groups may be given by themselves, under the names of version 0.1.0: `Request(audio=…, steps=4)`.
    """

    audio: StrPath = required("Any file with sound in it", role=Role.PIXELS, is_path=True, is_file=True)
    ref_image: StrPath | None = option(
        None, "Picture that gives style and subject",
        role=Role.PIXELS, panel=WHAT, flags=("ref-image", "image"), is_path=True, is_file=True,
    )  # fmt: skip
    prompt: str | None = option(  # None: the engine's default; so for the negative one
        None, "What to see", role=Role.PIXELS, panel=WHAT, flags=("prompt", "positive")
    )
    negative_prompt: str | None = option(
        None, "What not to see", role=Role.PIXELS, panel=WHAT, flags=("negative-prompt", "negative")
    )
    width: int = option(480, "Pixels, a multiple of 16", role=Role.PIXELS, panel=PICTURE)
    height: int = option(832, "Pixels, a multiple of 16", role=Role.PIXELS, panel=PICTURE)
    seed: int = option(  # clip k is drawn with seed + k
        0, "Same seed, same video; -1 draws one",
        role=Role.PIXELS, panel=MODEL, flags=("seed", "base-seed"), at_least=0,
    )  # fmt: skip
    clip_seeds: tuple[int, ...] = option(  # every clip's fingerprint has its own
        (), "Seeds of the first clips, where they are others", role=Role.PLAN, at_least=0
    )
    cuts: tuple[Seconds, ...] = option(
        (), "Hard cut at this time of the sound, in seconds or as 1:23.5; several times if need be",
        role=Role.PLAN, panel=LENGTH, flags=("cut",), above=0, at_most=MAX_SECONDS,
    )  # fmt: skip
    engine: EngineName = option(EngineName.AUTO, "What renders", role=Role.IDENTITY, panel=MODEL)
    recipe: StrPath | None = option(  # what differs from it by now is said
        None, "A finished video to render again; single options win over its recipe",
        role=Role.NEITHER, panel=WHAT, is_path=True,
    )  # fmt: skip

    window: Window = group(Window)
    guide: Guide = group(Guide)
    sampling: Sampling = group(Sampling)
    compute: Compute = group(Compute)
    server: Server = group(Server)
    output: Output = group(Output)

    def replace(self, **given: Any) -> "Request":
        """A copy with other fields; fields of the groups may be given by themselves."""
        fields = {field.name: getattr(self, field.name) for field in dataclasses.fields(self)}
        return Request(**grouped(given, fields))

    def __post_init__(self) -> None:
        settle(self)
        window, is_heard_apart = self.window, self.guide.av_align is AvAlign.REFERENCE
        check_lengths(frames=window.frames, duration=window.duration, full=window.full, is_heard_apart=is_heard_apart)
        for name in ("width", "height"):
            check_side(name, getattr(self, name))
        if self.guide.start_from_ref and self.ref_image is None:
            raise InputError(
                "start_from_ref begins with the reference image: give one with --ref-image",
                field="guide.start_from_ref",
            )


RENAMED: Final = {
    "audio_start": "window.start",
    "audio_duration": "window.duration",
    "output_dir": "output.dir",
    "interpolate_weights": "output.weights",
}
"""Names of version 0.1.0 → where they are now, where the leaf is another word."""

FLAT_NAMES: Final[Mapping[str, str]] = RENAMED | {
    field.leaf: field.name
    for field in fields_of(Request)
    if "." in field.name and not field.name.startswith("server.") and field.name not in RENAMED.values()
}
"""Names under which the fields of the groups may be given to `Request`; not those of `Server`, which never were."""


def grouped(given: Mapping[str, Any], before: Mapping[str, Any] = MappingProxyType({})) -> dict[str, Any]:
    """Fields of `Request`: those `before`, with the ones given put over them, flat names into their groups."""
    flat = {name: value for name, value in given.items() if name in FLAT_NAMES}
    if "output" in given and isinstance(given["output"], str | os.PathLike | None):  # as 0.1.0 named the file
        flat["path"] = given["output"]
    moved = {*flat, "output"} if "path" in flat else flat
    kept = {name: value for name, value in given.items() if name not in moved}
    fields = {**before, **kept}
    for name, value in flat.items():
        place, _, leaf = FLAT_NAMES[name].partition(".")
        fields[place] = {**members(fields.get(place, {})), leaf: value}
    return fields


def members(group_or_data: Any) -> Mapping[str, Any]:
    """The fields of a group by name, whether it is one already or its data."""
    if isinstance(group_or_data, Mapping):
        return group_or_data
    return {field.name: getattr(group_or_data, field.name) for field in dataclasses.fields(group_or_data)}


def files_read(request: Request) -> Iterator[tuple[str, StrPath]]:
    """What a request names to be read, files and folders: what each is, for messages, and its path."""
    for field in fields_of(Request):
        path = field.of(request)
        if field.option.is_path and not field.option.is_written and path is not None:
            yield "the sound" if field.name == "audio" else f"the {field.flag}", path
    for lora in request.compute.loras:
        path, _ = split_lora(lora)
        if path:
            yield "the --lora", path


@dataclass(frozen=True, kw_only=True)
class WorkOptions:
    """How a render is kept while it is under way, and whether one that was interrupted goes on."""

    work_dir: StrPath | None = None  # may hold several renders; None: one of its own beside the output
    keep_work: bool | None = None  # after success too; None: where the engine keeps negatives, and with cuts
    resume: bool = True  # False: what was rendered before is thrown away
    redo_clip: int | None = None  # number from 1, of a kept or unfinished render: with another seed
    redo_seed: int | None = None  # None: one that no take of the clip has had
    redo_output: StrPath | None = None  # name of its video; None: a new one, for the earlier video stays
    only_resume: bool = False  # where there is nothing to go on with, that is an error
    only_print: bool = False  # from what is kept, never a pass of the model: where that cannot be, it is an error
    is_shared: bool = False  # other processes may take shots of it meanwhile
    printed_models: Mapping[str, str] | None = None  # digests of the files that it was rendered with; None: those here

    def __post_init__(self) -> None:
        if self.redo_clip is not None and not self.resume:
            raise InputError("--redo-clip goes on with a kept render, --no-resume throws it away: give one of them")


BESIDE_THE_OUTPUT: Final = WorkOptions()
"""Kept until the video is there, and gone on with."""
