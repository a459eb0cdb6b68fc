"""What a user can choose from: the names that fields of a request take."""

from enum import StrEnum
from typing import Final


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


class Drive(StrEnum):
    """What drives the motion, where it is no file."""

    MIX = "mix"  # the sound itself
    VOCALS = "vocals"  # the voice separated from it, and silence where nobody sings
    VOCALS_AND_MIX = "vocals+mix"  # where nobody sings, the sound itself


SEPARATED: Final = frozenset({Drive.VOCALS, Drive.VOCALS_AND_MIX})
"""What takes the separator."""


class Interpolation(StrEnum):
    """What makes frames between frames."""

    NONE = "none"
    MOTION = "motion"  # libavfilter's motion compensation
    RIFE = "rife"
    FILM = "film"
