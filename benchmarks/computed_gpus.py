"""What GPUs that were not at hand would take, computed by the plan's arithmetic: `python -m benchmarks.computed_gpus`.

The speeds of one H200 are measured (`calibration.MEASURED`). A card that was not measured is taken to attain the same
share of its peaks. Links are `links.NVLINK`, of which the speed is measured, and `links.PEERS`, of which it is not.
Seconds are of a later clip of 80 frames with guidance, and of its decode and the encode before it; loads are left out.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from soundreel.engines.native.calibration import MEASURED
from soundreel.engines.native.cost import ALL, Share, Speeds, clip_seconds
from soundreel.engines.native.links import NVLINK, PEERS, Links
from soundreel.engines.native.shared_cost import share_of
from soundreel.models.attention import Kernel
from soundreel.planning import plan
from soundreel.request import Precision, Request, VaePrecision
from soundreel.types import Plan

SIZES: dict[str, Any] = {
    "num_attention_heads": 40, "attention_head_dim": 128, "ffn_dim": 13824, "num_layers": 40,
    "audio_inject_layers": (0, 4, 8, 12, 16, 20, 24, 27, 30, 33, 36, 39),
}  # fmt: skip
STEPS = 30

H200_PEAK, H200_BYTES = 989e12, 4.8e12
A40_PEAK, A40_BYTES = 149.7e12, 696e9
"""Dense bf16 products, and bytes per second of its memory, by the makers' data sheets."""


@dataclass(frozen=True)
class Way:
    """How a card renders."""

    name: str
    speeds: Speeds
    float8: bool


def h200(*, float8: bool) -> Way:
    """As measured."""
    precision, kernel = (Precision.FP8, Kernel.FP8) if float8 else (Precision.BF16, Kernel.CUDNN)
    speeds = MEASURED["NVIDIA H200"].speeds(precision=precision, kernel=kernel, vae=VaePrecision.BF16)
    assert speeds is not None
    return Way("H200, fp8" if float8 else "H200, exact", speeds, float8)


def a40() -> Way:
    """As an H200 by their peaks; it has no fp8."""
    speeds = h200(float8=False).speeds
    products, rows = A40_PEAK / H200_PEAK, A40_BYTES / H200_BYTES
    attention = {length: speed * products for length, speed in speeds.attention.items()}
    slower = replace(
        speeds,
        products=speeds.products * products,
        attention=attention,
        vae=speeds.vae * products,
        rows=speeds.rows * rows,
    )
    return Way("A40, exact", slower, float8=False)


def planned(size: str) -> Plan:
    """Two clips of 80, the second of which is taken."""
    height, width = map(int, size.split("x"))
    fields: dict[str, Any] = {
        "audio": "a.wav", "ref_image": "a.png", "frames": 157, "width": width, "height": height, "steps": STEPS,
    }  # fmt: skip
    return plan(Request(**fields), 100.0)


def row(way: Way, made: Plan, guidance: int, tokens: int, links: Links) -> tuple[float, float, float]:
    """Seconds of a step, of decode and encode, and of the whole clip."""
    share: Share = ALL
    if guidance * tokens > 1:
        size = {"guidance": guidance, "tokens": tokens}
        share = share_of(SIZES, **size, links=links, float8_attention=way.float8)
    found = clip_seconds(
        made, made.clips[1], sizes=SIZES, speeds=way.speeds, steps=STEPS, float8=way.float8, share=share
    )
    return found.steps[0], found.before + found.after, found.total


def table(way: Way, size: str, meshes: list[tuple[int, int]], links: Links) -> Iterator[str]:
    """In Markdown."""
    yield f"| {way.name}, {size}, {links.says} | step | decode and encode | clip of {STEPS} steps | ratio |"
    yield "|---|---|---|---|---|"
    alone = row(way, planned(size), 1, 1, links)
    for guidance, tokens in meshes:
        step, pictures, whole = row(way, planned(size), guidance, tokens, links)
        parts = [f"guidance {guidance}"] * (guidance > 1) + [f"tokens {tokens}"] * (tokens > 1)
        name = f"{guidance * tokens} GPUs, {' × '.join(parts)}" if parts else "1 GPU"
        yield f"| {name} | {step:.2f} s | {pictures:.2f} s | {whole:.0f} s | {alone[2] / whole:.2f} |"
    yield ""


def main() -> None:
    """Print all tables."""
    print("Computed, not measured.\n")
    meshes = [(1, 1), (2, 1), (2, 2), (2, 4)]
    for way in (h200(float8=False), h200(float8=True)):
        for size in ("480x832", "832x1216"):
            print("\n".join(table(way, size, meshes, NVLINK)))
    print("\n".join(table(a40(), "480x832", [(1, 1), (2, 1), (1, 2)], PEERS)))


if __name__ == "__main__":
    main()
