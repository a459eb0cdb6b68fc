"""What lives when: the moments of a render, and what each takes of the device's and of the host's memory.

    text       words are encoded: the text encoder alone, or what of it is not streamed
    sound      wav2vec2 alone, and a window of sound
    load       the transformer arrives, block by block; what is rounded is there in float32 for a while
    encode     the VAE makes latents of the frames that a clip continues, and of its poses
    condition  clean tokens, poses, keys and values of words and sound are made, for both branches of guidance
    pass       they stay, and rows go through the blocks
    decode     what the passes needed has left; the VAE makes pixels
    hand over  pixels become pictures and the frames that the next clip continues, which begins with `encode`

From `load` on the transformer stays, and beside it the VAE. Before `text` the VAE alone makes latents of the
reference image. Where there is room the transformer is loaded from the beginning on, in a thread of its own: then
`reference`, `text` and `sound` are beside it. In host memory are the blocks that are streamed, the layers that are
used once per clip, and pixels: those that the VAE reads and makes, and the pictures of the clip before, which are
encoded meanwhile. What the system takes back when it wants to, as pages of mapped files, is not counted.

Where the VAE runs out of memory all the same, the transformer's blocks leave for host memory, and at last the CPU does
its work: both only where that has the room, so neither is part of the plan.

Legend: D model width, I inner width of the feed-forward layers, L tokens of a pass. Figures are bytes.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from soundreel.engines.native.cost import TEXT_ROWS
from soundreel.engines.native.demand import Demand, PixelDemand, Weights
from soundreel.engines.native.memory_plan import Encoders, MemoryPlan
from soundreel.engines.native.vae_memory import CPU_FACTOR, Sizes, decode_bytes, encode_bytes
from soundreel.weights.reading import AHEAD_BYTES
from soundreel.weights.streaming import BUFFERS, spread

VAE_REST = 350 * 10**6
"""Of an encode or a decode, for what is small beside the features: latents, what products of attention take."""

STEP_REST = 420 * 10**6
"""What a step takes that is not counted piece by piece: workspaces of the products, scales, the latents."""

STEP_SLACK, STREAMED_STEP_SLACK = 0.1, 0.03
"""Of a step's activations, what it takes more: where no block is streamed, and where some are. All three were fitted to
whole commands on H100s (benchmarks/results/h100_cards.md)."""

UNPACKED_BYTES = 4
"""Of each weight of a packed matrix, while it is unpacked for its product: as a byte, in float16 and in bfloat16."""

SOUND_BYTES = 1_200 * 10**6
"""What wav2vec2 takes beside its weights, for a window of sound."""

ROUNDING_BYTES_PER_WEIGHT = 9
"""What rounding takes beside the matrix: it and its quotient in float32, and the result."""

GPU_PROCESS_BYTES = 2_750 * 10**6
"""Of the host, for Python and the libraries that compute on a GPU: whole commands on an H100 took 2.0 to 2.75 GB beside
what is counted here (benchmarks/results/h100_cards.md). Since then 128 MB more are page-locked to read weights, and
200 MB of libraries are no longer imported."""

CPU_PROCESS_BYTES = 600 * 10**6
"""The same without a GPU's libraries, measured."""

ENCODER_BYTES_PER_PIXEL = 250
"""Of the host, for a picture's pixels: what H.264's encoder looks ahead at and refers to, measured."""

RGB_FLOATS = 12
"""Bytes of a pixel as float32."""

STAGED_BYTES_PER_PIXEL = 2 * 8 * (12 + 3)
"""Of page-locked host memory through which a piece of a decode comes: 8 frames, as float32 and as pictures, rounded up
to powers of two."""

FLOAT32_ROWS = 2
"""Times what is counted for bf16 rows: on a CPU they are float32."""


@dataclass(frozen=True, kw_only=True)
class Moment:
    """What is there at one moment of a render."""

    name: str
    device: int  # allocated by PyTorch
    host: int  # of the host's memory, beside a device that computes in it


def device_peak(weights: Weights, asked: Demand, memory: MemoryPlan) -> int:
    """Most that is allocated at once on the device."""
    return max(moment.device for moment in moments(weights, asked, memory))


def host_peak(weights: Weights, asked: Demand, memory: MemoryPlan) -> int:
    """Most that is taken at once of the host's memory."""
    found = moments(weights, asked, memory)
    own = max(moment.host + (moment.device if asked.shares_host else 0) for moment in found)
    return own + asked.workers * _worker_bytes(weights, asked, memory)


def _worker_bytes(weights: Weights, asked: Demand, memory: MemoryPlan) -> int:
    """That a worker takes of the host's memory: as this process, but nothing for pixels, words and sound."""
    on_device = resident_bytes(weights, memory) + conditioning_bytes(asked) + step_bytes(asked, memory)
    return _process_bytes(asked) + waiting_bytes(weights, memory) + (on_device if asked.shares_host else 0)


def moments(weights: Weights, asked: Demand, memory: MemoryPlan) -> Iterator[Moment]:
    """The moments of a render, in order; those from `encode` on come again for every clip."""
    process = _process_bytes(asked)
    waiting = process + waiting_bytes(weights, memory)
    encoders = weights.text + weights.sound if memory.encoders is Encoders.STAY else 0
    stays = resident_bytes(weights, memory) + weights.vae + encoders
    sampling = waiting + sampling_pixels(asked)
    decoding = waiting + decoding_pixels(asked) + shared_pictures(asked)
    conditioned = stays + conditioning_bytes(asked)
    unpacked = UNPACKED_BYTES * weights.largest_packed
    yield from _encoding(weights, asked, memory, process)
    yield Moment(
        name="load",
        device=stays + arriving_bytes(weights, asked, memory),
        host=waiting + max(_streamed(weights, memory), default=0),  # one block is copied into its buffer
    )
    yield Moment(name="encode", device=stays + vae_encode_bytes(asked, memory), host=sampling)
    yield Moment(name="condition", device=conditioned, host=sampling)
    yield Moment(name="pass", device=conditioned + unpacked + step_bytes(asked, memory), host=sampling)
    yield Moment(name="decode", device=stays + vae_decode_bytes(asked, memory), host=decoding)
    yield Moment(name="hand over", device=stays, host=decoding)


def _encoding(weights: Weights, asked: Demand, memory: MemoryPlan, process: int) -> Iterator[Moment]:
    """Words and sound: before the transformer is loaded, or while it is, or in a session beside it."""
    is_beside = memory.loads_beside or memory.encoders is not Encoders.ALONE
    beside = resident_bytes(weights, memory) + weights.vae if is_beside else 0
    if memory.loads_beside:
        beside += arriving_bytes(weights, asked, memory)
        pixels = process + waiting_bytes(weights, memory) + sampling_pixels(asked)
        yield Moment(name="reference", device=beside + vae_encode_bytes(asked, memory), host=pixels)
    streamed = memory.text_streamed or memory.encoders is Encoders.STREAMED
    waiting = process + (waiting_bytes(weights, memory) if is_beside else 0)
    sound = weights.sound + SOUND_BYTES
    yield Moment(
        name="text",
        device=beside + (weights.text_streamed if streamed else weights.text),
        host=waiting + (weights.text + weights.text_loading if streamed else 0),
    )
    stays = weights.text if memory.encoders is Encoders.STAY else 0
    yield Moment(name="sound", device=beside + stays + sound, host=waiting)


def print_moment(vae: int, asked: PixelDemand, memory: MemoryPlan) -> Moment:
    """The one moment of a render whose clips are only decoded, with a VAE of so many bytes."""
    device = vae + max(vae_decode_bytes(asked, memory), vae_encode_bytes(asked, memory))
    return Moment(name="print", device=device, host=_process_bytes(asked) + decoding_pixels(asked))


# the device


def resident_bytes(weights: Weights, memory: MemoryPlan) -> int:
    """Of the transformer on the device, buffers for streamed blocks included."""
    step = weights.rounded if memory.rounds else weights.step
    streamed = _streamed(weights, memory)
    buffers = min(BUFFERS, len(streamed)) * max(streamed, default=0)
    return weights.others + (0 if memory.offloads else weights.clip) + sum(step) - sum(streamed) + buffers


def arriving_bytes(weights: Weights, asked: Demand, memory: MemoryPlan) -> int:
    """What is there of the transformer, while it is loaded, beside what will stay: read ahead, or being rounded."""
    rounding = rounding_bytes(weights, asked) if memory.rounds else 0
    changes = memory.rounds or memory.streamed or memory.offloads or asked.shares_host
    total = weights.others + weights.clip + sum(weights.step)
    return rounding + (min(AHEAD_BYTES, total) if changes else 0)


def rounding_bytes(weights: Weights, asked: Demand) -> int:
    """What is there of a block while it is rounded: its largest matrix in float32, and the others as stored."""
    return ROUNDING_BYTES_PER_WEIGHT * asked.width * asked.inner + max(weights.step)


def conditioning_bytes(asked: Demand) -> int:
    """What `condition` makes for all branches: clean tokens, poses, keys and values of text and sound."""
    width, clean = asked.width, asked.tokens.reference + asked.tokens.motion
    text = asked.blocks * TEXT_ROWS * 2 * 2 * width
    sound = asked.audio_blocks * asked.latents * (5 * 2 * 2 + 2 * 4) * width
    pose = 2 * width * asked.tokens.noise if asked.has_pose else 0
    return asked.branches * (4 * width * clean + text + sound + pose)


def step_bytes(asked: Demand, memory: MemoryPlan) -> int:
    """What a step takes beside weights, what is unpacked of them, and conditioning."""
    activations = (FLOAT32_ROWS if asked.shares_host else 1) * activation_bytes(asked, memory)
    slack = STREAMED_STEP_SLACK if memory.streamed else STEP_SLACK
    return activations + int(slack * activations) + STEP_REST


def activation_bytes(asked: Demand, memory: MemoryPlan) -> int:
    """What goes through the blocks of a pass, at the larger of its two peaks.

    Between self-attention and feed-forward: the residual stream (float32) before the block, before the sum and after
    it, the update and the normed rows. In the feed-forward layers: the residual stream before the block and now, the
    normed rows, the inner layer, the output. Of another branch: its stream, and the update that is still to be added.
    """
    width, tokens = asked.width, asked.tokens.total
    row = 1 if asked.float8_rows else 2
    attention = (4 + 3 * 2 + 2 * 2 + row + (3 if asked.float8_attention else 0)) * width * tokens
    sums = (3 * 4 + 2 + row) * width * tokens
    inner = asked.inner * min(memory.tokens_at_once or tokens, tokens) * (2 + (1 if asked.float8_rows else 0))
    feed_forward = (2 * 4 + row + 2) * width * tokens + inner
    other_branch = (4 + 2) * width * tokens if memory.together else 0
    return max(attention, sums, feed_forward) + other_branch


def vae_decode_bytes(asked: PixelDemand, memory: MemoryPlan) -> int:
    """What a decode takes beside weights."""
    return _vae_factor(asked) * decode_bytes(_vae_sizes(asked), memory.vae_step, memory.vae_bands) + VAE_REST


def vae_encode_bytes(asked: PixelDemand, memory: MemoryPlan) -> int:
    """What the encode of motion frames or poses takes beside weights."""
    return _vae_factor(asked) * encode_bytes(_vae_sizes(asked), memory.vae_step, memory.vae_bands) + VAE_REST


def _vae_factor(asked: PixelDemand) -> int:
    return CPU_FACTOR if asked.shares_host else 1


def _vae_sizes(asked: PixelDemand) -> Sizes:
    return Sizes(
        height=asked.height,
        width=asked.pixels // asked.height,
        latents=asked.latents,
        bytes_each=asked.vae_dtype.itemsize,
    )


# the host


def _process_bytes(asked: PixelDemand) -> int:
    return CPU_PROCESS_BYTES if asked.shares_host else GPU_PROCESS_BYTES


def waiting_bytes(weights: Weights, memory: MemoryPlan) -> int:
    """Of the transformer in host memory: streamed blocks, and layers that are used once per clip."""
    return sum(_streamed(weights, memory)) + (weights.clip if memory.offloads else 0)


def streamed_bytes(weights: Weights, memory: MemoryPlan) -> int:
    """Of the blocks that come to the device for every pass."""
    return sum(_streamed(weights, memory))


def _streamed(weights: Weights, memory: MemoryPlan) -> list[int]:
    """Of each block that is streamed."""
    step = weights.rounded if memory.rounds else weights.step
    return [step[k] for k in spread(len(step), memory.streamed)]


def sampling_pixels(asked: PixelDemand) -> int:
    """Of the host while a clip is sampled: the frames that it continues, its poses while those before it leave."""
    return RGB_FLOATS * asked.pixels * (asked.motion_frames + 2 * _pose_frames(asked)) + _written(asked)


def decoding_pixels(asked: PixelDemand) -> int:
    """Of the host while a clip is decoded and handed over: its frames, those that it and the next one continue."""
    frames = asked.frames + 2 * asked.motion_frames + _pose_frames(asked)
    staged = 0 if asked.shares_host else STAGED_BYTES_PER_PIXEL * asked.pixels
    return RGB_FLOATS * asked.pixels * frames + staged + _written(asked)


def shared_pictures(asked: Demand) -> int:
    """A clip's pictures, uint8, as several processes write them where all can: they are copied from there."""
    return 3 * asked.frames * asked.pixels if asked.workers else 0


def _pose_frames(asked: PixelDemand) -> int:
    return 1 + asked.frames if asked.has_pose else 0


def _written(asked: PixelDemand) -> int:
    """The pictures of the clip before, uint8, and their encoder."""
    return (3 * asked.frames + ENCODER_BYTES_PER_PIXEL) * asked.pixels
