"""What a render computes and how long that takes: pure arithmetic on a plan, the network's sizes and measured speeds.

A multiply-add is 2 operations. L tokens, D model width, I inner width of the feed-forward layers. The table of the
model's specification (§17) is met within 3 %.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Final

from soundreel.engines.native.passes import is_guided
from soundreel.models.frame_packing import MOTION_FRAMES, MOTION_LATENTS
from soundreel.models.vae_stages import Starts
from soundreel.planning import Tokens, count_tokens
from soundreel.types import Clip, Plan
from soundreel.units import FRAMES_PER_LATENT

TEXT_ROWS = 100
"""Rows of text that a token attends to, about: the words, and one row for all that pads them."""

ROW_BYTES_PER_WIDTH = 50
"""Bytes that the row operations of a block read and write per token and unit of D: 12 for each of three sums with a
norm, 4 for each of two RMS norms, 6 for the attention to text with its own."""

AUDIO_ROW_BYTES_PER_WIDTH = 18
"""Of noise tokens in a block with audio injection: sum with a norm, attention."""

FLOAT8_ROW_BYTES_PER_WIDTH = 3
"""Of rounding what self-attention made to float8."""

AREA_480P = 480 * 832
ENCODE_FLOPS = 2.7e12, 8.07e12
"""Of the VAE at 480×832: for the first latent frame, and for each further one (§17)."""

DECODE_FLOPS = 4.0e12, 13.55e12

STAGE_SHARES = LATENT_SHARE, HALF_RATE_SHARE, HALF_SIZE_SHARE, FULL_SHARE = 0.06, 0.11, 0.40, 0.43
"""Of a decode's operations, by the stage of the decoder, from the latents' size up."""


@dataclass(frozen=True, kw_only=True)
class PassCost:
    """One forward pass."""

    products: float  # operations
    attention: float
    tokens: int
    row_bytes: float  # that the operations between them read and write


@dataclass(frozen=True, kw_only=True)
class Speeds:
    """What a machine attains, for one precision and one attention kernel."""

    products: float  # operations per second
    attention: Mapping[int, float]  # operations per second, by the number of tokens
    rows: float  # bytes per second that row operations read and write
    vae: float  # operations per second
    to_device: float  # bytes per second from locked host memory
    read: float  # bytes per second of weights, from files to the device
    start: float  # seconds until the first operation has run

    def attention_at(self, tokens: int) -> float:
        """Between two measured lengths by the logarithm; beyond them as at the nearer one."""
        lengths = sorted(self.attention)
        if tokens <= lengths[0]:
            return self.attention[lengths[0]]
        for below, above in pairwise(lengths):
            if tokens <= above:
                share = math.log(tokens / below) / math.log(above / below)
                return self.attention[below] + share * (self.attention[above] - self.attention[below])
        return self.attention[lengths[-1]]


@dataclass(frozen=True, kw_only=True)
class ClipSeconds:
    """What a clip takes."""

    steps: tuple[float, ...]
    before: float  # encoding what it continues
    after: float  # decoding

    @property
    def total(self) -> float:
        """All of it."""
        return self.before + sum(self.steps) + self.after


@dataclass(frozen=True, kw_only=True)
class Forecast:
    """What a render takes, before it begins and while it runs."""

    load: float
    clips: tuple[ClipSeconds, ...]

    @property
    def total(self) -> float:
        """Seconds from the command to the last frame."""
        return self.load + self.rendering

    @property
    def rendering(self) -> float:
        """All but loading."""
        return sum(clip.total for clip in self.clips)

    def remaining(self, clip: int, step: int, pace: float = 1.0) -> float:
        """Seconds after step number `step` (from 1) of the clip with index `clip`.

        `pace` is how many times longer steps have taken than they were said to.
        """
        here, later = self.clips[clip], self.clips[clip + 1 :]
        steps = sum(here.steps[step:]) + sum(sum(other.steps) for other in later)
        return pace * steps + here.after + sum(other.before + other.after for other in later)


def pass_cost(
    sizes: Mapping[str, Any], tokens: Tokens, *, float8: bool = False, text_rows: int = TEXT_ROWS
) -> PassCost:
    """One forward pass of a transformer of these sizes."""
    width, inner = sizes["num_attention_heads"] * sizes["attention_head_dim"], sizes["ffn_dim"]
    blocks, injections = sizes["num_layers"], len(sizes["audio_inject_layers"])
    length = tokens.total
    rows = (ROW_BYTES_PER_WIDTH + (FLOAT8_ROW_BYTES_PER_WIDTH if float8 else 0)) * blocks * length
    return PassCost(
        products=blocks * 2 * length * (6 * width**2 + 2 * width * inner) + injections * 4 * tokens.noise * width**2,
        attention=blocks * 4 * length * (length + text_rows) * width,
        tokens=length,
        row_bytes=width * (rows + AUDIO_ROW_BYTES_PER_WIDTH * injections * tokens.noise),
    )


def pass_seconds(cost: PassCost, speeds: Speeds) -> float:
    """Of one forward pass with all weights at hand."""
    attention = cost.attention / speeds.attention_at(cost.tokens)
    return cost.products / speeds.products + attention + cost.row_bytes / speeds.rows


@dataclass(frozen=True, kw_only=True)
class Share:
    """What the busiest of several devices has to do of a render."""

    guidance: int = 1  # branches that are computed at the same time
    one_pass: Callable[[PassCost, Speeds], float] = pass_seconds  # seconds of a forward pass
    encode: float = 1.0  # share of an encode, and of a decode
    decode: float = 1.0


ALL: Final = Share()


def step_passes(steps: int, *, guided: bool, interval: tuple[float, float] | None = None) -> tuple[int, ...]:
    """Forward passes of each step: two where it is guided; `interval` is the share of the steps that is."""
    return tuple(2 if guided and is_guided(step, steps, interval) else 1 for step in range(steps))


def encode_flops(width: int, height: int, frames: int) -> float:
    """Of the VAE for pixels [3, frames, height, width]."""
    first, further = ENCODE_FLOPS
    return width * height / AREA_480P * (first + further * ((frames - 1) // FRAMES_PER_LATENT))


def decode_flops(width: int, height: int, latent_frames: int, keep: int | None = None) -> float:
    """Of the VAE for latents of so many frames, of whose pictures the last `keep` are made."""
    first, further = DECODE_FLOPS
    frames = 1 + FRAMES_PER_LATENT * (latent_frames - 1)
    starts = Starts.of(frames, frames if keep is None else min(keep, frames))
    half_rate = (frames + 1) // 2
    done = (
        FULL_SHARE * (1 - starts.full / frames)
        + HALF_SIZE_SHARE * (1 - starts.half_size / frames)
        + HALF_RATE_SHARE * (1 - starts.half_rate / half_rate)
        + LATENT_SHARE * (1 - starts.latent / latent_frames)
    )
    return done * width * height / AREA_480P * (first + further * (latent_frames - 1))


def clip_seconds(  # noqa: PLR0913 - what a clip takes depends on all of it
    plan: Plan,
    clip: Clip,
    *,
    sizes: Mapping[str, Any],
    speeds: Speeds,
    steps: int,
    float8: bool = False,
    streamed_bytes: float = 0.0,
    together: bool = False,
    share: Share = ALL,
) -> ClipSeconds:
    """What `clip` takes on the busiest of the devices that share it.

    `streamed_bytes` come to the device for every pass, or with `together` for every step; meanwhile it computes.
    """
    request = plan.request_of(plan.shot_of(clip))
    one = share.one_pass(pass_cost(sizes, count_tokens(plan, clip), float8=float8), speeds)
    copies = streamed_bytes / speeds.to_device
    passes = step_passes(steps, guided=request.sampling.guide_scale > 1, interval=request.sampling.cfg_interval)
    in_a_row = [math.ceil(n / share.guidance) for n in passes]
    continues = plan.continues(clip) or request.guide.start_from_ref
    encoded = encode_flops(request.width, request.height, MOTION_FRAMES) if continues else 0.0
    if request.guide.pose_video is not None:
        encoded += encode_flops(request.width, request.height, 1 + clip.size)
    before = MOTION_LATENTS if continues else int(request.ref_image is not None)
    latents = before + clip.size // FRAMES_PER_LATENT
    decoded = decode_flops(request.width, request.height, latents, clip.size - clip.lead_in)
    return ClipSeconds(
        steps=tuple(max(n * one, copies) if together else n * max(one, copies) for n in in_a_row),
        before=share.encode * encoded / speeds.vae,
        after=share.decode * decoded / speeds.vae,
    )


def longest(tokens: Sequence[Tokens]) -> Tokens:
    """Those of the clip that takes the most."""
    return max(tokens, key=lambda count: count.total)
