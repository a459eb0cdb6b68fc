"""What a user asks for, checked: wrong values raise `InputError` before anything is opened."""

import math
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from soundreel.errors import InputError
from soundreel.units import FRAMES_PER_LATENT, MAX_FPS, MAX_SIDE_PIXELS, MODEL_FPS, SIZE_MULTIPLE, StrPath


class ClipSplit(StrEnum):
    """How N frames are spread over clips."""

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
    """How much of a GPU's memory a render may take, and so what is kept there."""

    AUTO = "auto"  # the first of the others that fits
    HIGH = "high"  # everything stays on the GPU
    GB24 = "24gb"
    GB16 = "16gb"
    GB12 = "12gb"


DEFAULT_SERVER_URL = "http://localhost:8188"
"""Where a ComfyUI listens that was started without options."""


@dataclass(frozen=True, kw_only=True)
class Server:
    """One ComfyUI server or several, and what the comfyui engine asks of them. Model files are named as there."""

    urls: tuple[str, ...] = (DEFAULT_SERVER_URL,)  # the least busy one renders; http or https, with a path if need be
    headers: tuple[str, ...] = field(default=(), repr=False)  # "Name: value", sent along: proxies that ask who you are
    timeout: float | None = None  # seconds without any progress; None: by the size of the render
    workflow: StrPath | None = None  # a graph of the user's own in API format; None: ours
    diffusion_model: str | None = None  # None: the first official name that the server has; so for all four
    text_encoder: str | None = None
    vae: str | None = None
    audio_encoder: str | None = None
    first_frame_fix: bool = True  # decode the first latent frame twice, or the first picture comes out too contrasty

    def __post_init__(self) -> None:
        _check_server(self)


@dataclass(frozen=True, kw_only=True)
class Request:
    """What the user asks for. Wrong values raise `InputError` here, before anything is opened.

    Paths may be `str` or `Path`; they are checked when they are opened.
    """

    audio: StrPath  # any file with sound in it
    ref_image: StrPath | None = None  # style and subject; covers the picture, centre-cropped
    prompt: str | None = None  # None: the engine's default
    negative_prompt: str | None = None

    audio_start: float = 0.0  # seconds into the file where the video begins
    frames: int | None = None  # exact length; else audio_duration, else full, else 77 or what the sound has
    audio_duration: float | None = None  # seconds of sound to use
    full: bool = False  # all the sound from audio_start on
    num_clip: int | None = None  # at most what this many clips yield

    width: int = 480  # pixels, multiple of 16
    height: int = 832
    infer_frames: int = 80  # longest clip the model samples at once, multiple of 4
    clip_split: ClipSplit = ClipSplit.EVEN
    seed: int = 0  # clip k is drawn with seed + k
    clip_seeds: tuple[int, ...] = ()  # of the first clips, where they are others

    pose_video: StrPath | None = None  # whose movements to follow
    start_from_ref: bool = False  # the first frames are the reference image
    ref_fit: RefFit = RefFit.COVER
    av_align: AvAlign = AvAlign.SOUND

    steps: int = 30  # denoising steps per clip
    guide_scale: float = 4.5  # 1 turns guidance off
    shift: float | None = None  # None: 3 below 720p, 5 from there
    solver: Solver = Solver.UNIPC
    sigmas: tuple[float, ...] | None = None  # noise levels of few-step weights, falling; replace steps and shift
    turbo: bool = False  # few-step weights: the engine's own noise levels, and where it has one its LoRA
    loras: tuple[str, ...] = ()  # FILE or FILE:strength

    engine: str = "auto"  # auto, or an engine's name
    server: Server = field(default_factory=Server)  # for the comfyui engine
    models: StrPath | None = None  # folder of the model, in any layout; None: the default one
    device: str = "auto"  # auto, cpu, cuda, cuda:1, mps
    attention: str = "auto"  # auto: the fastest exact kernel; sdpa, cudnn, flash, sage, fp8
    precision: Precision = Precision.AUTO
    vae_precision: VaePrecision = VaePrecision.AUTO
    memory: Memory = Memory.AUTO
    cache: float = 0.0  # relative change of a step's result that may go by uncomputed; 0: every step is computed
    cfg_interval: tuple[float, float] | None = None  # share of the steps that is guided, as (0.0, 0.8); None: all
    interpolate: str = "none"  # none, or a method of `soundreel.interpolation.frames`; none with fps above 16: motion
    interpolate_weights: StrPath | None = None  # of the method's network; None: looked for in the models folder
    fps: int | None = None  # of the file; None: 32 with interpolation, else 16
    color_match: bool = False  # bring every clip to the first one's brightness, contrast and tint
    preview: bool = False  # keep a small picture of what is being rendered, and name it in the progress
    crf: int = 18  # H.264 quality: 0 lossless … 51 worst
    output: StrPath | None = None  # None: a new name in output_dir
    output_dir: StrPath = Path("output/video")
    settings: str | None = None  # tag in the file name; None: the engine's name
    recipe: StrPath | None = None  # video that this is to be like: what differs by now is said

    def __post_init__(self) -> None:
        _validate(self)


@dataclass(frozen=True, kw_only=True)
class Keeping:
    """How a render is kept while it is under way, and whether one that was interrupted goes on."""

    work_dir: StrPath | None = None  # of this render alone; None: beside the output
    keep_work: bool = False  # after success too
    resume: bool = True  # False: what was rendered before is thrown away
    redo_clip: int | None = None  # number from 1, of a kept or unfinished render: with another seed
    only_resume: bool = False  # where there is nothing to go on with, that is an error

    def __post_init__(self) -> None:
        if self.redo_clip is not None and not self.resume:
            raise InputError("--redo-clip goes on with a kept render, --no-resume throws it away: give one of them")


BESIDE_THE_OUTPUT = Keeping()
"""Kept until the video is there, and gone on with."""


def _check_server(server: Server) -> None:
    if not server.urls:
        raise InputError(f"no server url is given: expected at least one, for example {DEFAULT_SERVER_URL}")
    for url in server.urls:
        if not _is_server_url(url):
            raise InputError(f"--url is {url!r}: expected http://HOST:PORT or https://HOST/PATH")
    for header in server.headers:
        name, colon, _ = header.partition(":")  # the value may be a password: never in a message
        if not colon or not name.strip() or not header.isprintable() or not header.isascii():
            raise InputError("a --header is not understood: expected 'Name: value' in plain characters")
    if server.timeout is not None and not 0 < server.timeout < math.inf:
        raise InputError(f"--timeout is {server.timeout}: expected seconds, more than 0")


def without_password(url: str) -> str:
    """A url as messages and files may show it."""
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def _is_server_url(url: str) -> bool:
    try:
        parts = urlsplit(url)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:  # a port or an address that is none
        return False


def _validate(request: Request) -> None:
    _check_sizes(request)
    _check_numbers(request)


def _check_sizes(request: Request) -> None:
    for name in ("width", "height"):
        value = getattr(request, name)
        if not isinstance(value, int) or isinstance(value, bool):
            raise InputError(f"{name} is {value!r}: expected a whole number of pixels")
        if not SIZE_MULTIPLE <= value <= MAX_SIDE_PIXELS or value % SIZE_MULTIPLE:
            raise InputError(
                f"{name} is {value}: expected a multiple of {SIZE_MULTIPLE} from {SIZE_MULTIPLE} to "
                f"{MAX_SIDE_PIXELS}; nearest: {_nearest_sizes(value)}"
            )


def _nearest_sizes(value: int) -> str:
    below = min(max(value // SIZE_MULTIPLE * SIZE_MULTIPLE, SIZE_MULTIPLE), MAX_SIDE_PIXELS)
    above = min(below + SIZE_MULTIPLE, MAX_SIDE_PIXELS)
    return f"{below}" if not below < value < above else f"{below} or {above}"


def _check_savings(request: Request) -> None:
    if not 0.0 <= request.cache <= 1.0:
        raise InputError(f"cache is {request.cache}: expected 0 (nothing is guessed) to 1")
    guided = request.cfg_interval
    if guided is not None and not (len(guided) == 2 and 0.0 <= guided[0] < guided[1] <= 1.0):
        raise InputError(f"cfg_interval is {guided}: expected two shares of the steps, from 0 to 1, rising")


def _check_numbers(request: Request) -> None:
    _check_savings(request)
    _expect(request, "audio_start", at_least=0.0)
    _expect(request, "audio_duration", above=0.0)
    _expect(request, "frames", whole=True, at_least=1)
    _expect(request, "num_clip", whole=True, at_least=1)
    _expect(request, "infer_frames", whole=True, at_least=FRAMES_PER_LATENT, multiple_of=FRAMES_PER_LATENT)
    _expect(request, "seed", whole=True, at_least=0)
    _expect(request, "steps", whole=True, at_least=1)
    _expect(request, "guide_scale", at_least=0.0)
    _expect(request, "shift", above=0.0)
    for strength in request.sigmas or ():
        if not math.isfinite(strength):
            raise InputError(f"sigmas hold {strength}: expected finite numbers, falling from at most 1")
    if not all(isinstance(seed, int) and seed >= 0 for seed in request.clip_seeds):
        raise InputError(f"clip_seeds are {request.clip_seeds}: expected whole numbers, at least 0")
    if request.start_from_ref and request.ref_image is None:
        raise InputError("start_from_ref begins with the reference image: give one with --ref-image")
    _expect(request, "fps", whole=True, at_least=MODEL_FPS, at_most=MAX_FPS)
    _expect(request, "crf", whole=True, at_least=0, at_most=51)


def _expect(
    request: Request,
    name: str,
    *,
    whole: bool = False,
    at_least: float | None = None,
    above: float | None = None,
    at_most: float | None = None,
    multiple_of: int | None = None,
) -> None:
    """Raise `InputError` unless field `name` is None (where optional) or a number in range."""
    value = getattr(request, name)
    if value is None:
        return
    conditions = [
        ("a whole number", not whole or (isinstance(value, int) and not isinstance(value, bool))),
        ("a finite number", math.isfinite(value)),
        (f"at least {at_least}", at_least is None or value >= at_least),
        (f"more than {above}", above is None or value > above),
        (f"at most {at_most}", at_most is None or value <= at_most),
        (f"a multiple of {multiple_of}", multiple_of is None or value % multiple_of == 0),
    ]
    broken = next((text for text, holds in conditions if not holds), None)
    if broken is not None:
        raise InputError(f"{name} is {value}: expected {broken}")
