"""How fast the machine's GPU runs Wan 2.2 S2V 14B, mode by mode, beside the official code in the same run.

    python -m benchmarks.gpu [--sizes 480x832 …] [--modes exact fp8 …] [--vae] [--attention] [--repeat N] [--tiny]

Weights are random and made on the device: times and memory are those of trained ones, errors are not, since trained
weights have outliers. Errors are relative L2 of a pass from the reference operations (PyTorch) in bfloat16. The share
of the ceiling is the pass's arithmetic (`pass_cost`) at the speed of large products, measured just before: bfloat16's
for the exact modes, float8's for those with both fp8 products and fp8 attention.
"""

import argparse
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from diffusers.models.autoencoders.autoencoder_kl_wan import AutoencoderKLWan
from torch import Tensor, nn

from benchmarks import official
from soundreel.engines.native.cost import TEXT_ROWS
from soundreel.engines.native.vae import Vae, chosen_by_shape
from soundreel.models.attention import Kernel, attend, why_not
from soundreel.models.conditioning import Conditioning
from soundreel.models.frame_packing import MOTION_FRAMES, MOTION_LATENTS
from soundreel.models.kernels import dispatch, reference
from soundreel.models.transformer import WanS2VTransformer3DModel
from soundreel.request import Precision
from soundreel.weights.precision import set_precision

GIB = 2**30
FRAMES, KEPT = 20, 80
"""Latent frames of a clip of 80, and the pictures that are kept."""

PASSES = 80
"""Of a clip: 40 steps with guidance."""

SIZES = ("480x832", "704x1024", "832x1216")
TINY: dict[str, Any] = {
    "num_attention_heads": 2, "attention_head_dim": 16, "text_dim": 24, "ffn_dim": 64, "num_layers": 4,
    "audio_dim": 8, "num_audio_states": 3, "audio_inject_layers": (0, 2),
}  # fmt: skip
"""Sizes that a CPU runs, to prove the table itself."""


@dataclass(frozen=True)
class Mode:
    """A way to compute a pass."""

    name: str
    precision: Precision = Precision.BF16
    attention: str = "auto"
    fused: bool = True


MODES = (
    Mode("plain", fused=False),
    Mode("exact"),
    Mode("fp8-attention", attention="fp8"),
    Mode("fp8-products", Precision.FP8),
    Mode("fp8", Precision.FP8, attention="fp8"),
)
"""In this order: weights, once rounded, stay so. The first is the yardstick of all errors."""

OFFICIAL = "official"

Timed = Callable[[], Any]


def milliseconds(work: Timed, device: torch.device, repeat: int, *, is_warm: bool = False) -> float:
    """Of the fastest of some runs, after one that warms up."""
    if not is_warm:
        work()
    times = []
    for _ in range(repeat):
        _wait(device)
        begun = time.perf_counter()
        work()
        _wait(device)
        times.append(1000 * (time.perf_counter() - begun))
    return min(times)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def relative(made: Tensor, expected: Tensor) -> float:
    """L2 of the difference over that of what was expected."""
    return float((made.float() - expected.float()).norm() / expected.float().norm())


def build(device: torch.device, dtype: torch.dtype, sizes: dict[str, Any]) -> WanS2VTransformer3DModel:
    """The transformer with random weights, each layer's output about as large as its input."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            model: WanS2VTransformer3DModel = WanS2VTransformer3DModel(**sizes)
    finally:
        torch.set_default_dtype(before)
    randomize(model)
    model.eval().requires_grad_(False)
    return model


@torch.no_grad()
def randomize(model: nn.Module) -> None:
    """Draw every parameter anew, where it is."""
    torch.manual_seed(0)
    for name, parameter in model.named_parameters():
        is_matrix = parameter.ndim > 1 and "table" not in name and "modulation" not in name
        parameter.normal_(std=parameter[0].numel() ** -0.5 if is_matrix else 0.5)
        if "norm" in name and name.endswith("weight"):
            parameter.add_(1)


def draw_inputs(model: WanS2VTransformer3DModel, height: int, width: int, device: torch.device) -> dict[str, Tensor]:
    """A later clip: sound, words, reference and motion."""
    generator = torch.Generator(device).manual_seed(1)
    rows, columns, config = height // 8, width // 8, model.config

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=device)

    return {
        "latents": draw(16, FRAMES, rows, columns),
        "t": torch.tensor(500.0, device=device),
        "text": draw(60, config["text_dim"]),
        "audio": draw(config["num_audio_states"], config["audio_dim"], 4 * FRAMES),
        "reference": draw(16, 1, rows, columns),
        "motion": draw(16, MOTION_LATENTS, rows, columns),
    }


def condition(model: WanS2VTransformer3DModel, inputs: dict[str, Tensor]) -> Conditioning:
    """What the steps of a clip share."""
    _, frames, height, width = inputs["latents"].shape
    names = ("text", "audio", "reference", "motion")
    return model.condition(frames=frames, height=height, width=width, **{name: inputs[name] for name in names})


def ceiling_seconds(model: WanS2VTransformer3DModel, mode: Mode, tokens: int, speeds: dict[bool, float]) -> float:
    """What the products and the attention of all blocks would take at the speed of large products."""
    width, config = model.head_width * model.config["num_attention_heads"], model.config
    products = config["num_layers"] * 2 * tokens * (6 * width**2 + 2 * width * config["ffn_dim"])
    attention = config["num_layers"] * 4 * tokens * (tokens + TEXT_ROWS) * width
    float8_products, float8_attention = mode.precision is Precision.FP8, mode.attention == Kernel.FP8
    return float(products / speeds[float8_products] + attention / speeds[float8_attention])


def product_speeds(device: torch.device) -> dict[bool, float]:
    """FLOP/s of a large product in bfloat16, and in float8 where the GPU has it."""
    size = 8192 if device.type == "cuda" else 256
    factor = torch.randn(size, size, device=device, dtype=torch.bfloat16)
    speeds = {False: 2000 * size**3 / milliseconds(lambda: factor @ factor, device, 5)}
    if device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 9):
        rows = reference.quantize(factor[None])
        values, scale = rows.values[0], rows.scale[0]
        transposed = values.t().contiguous().t()

        def multiply() -> Tensor:
            made: Tensor = torch._scaled_mm(
                values, transposed, scale, scale.t(), out_dtype=torch.bfloat16, use_fast_accum=True
            )
            return made

        speeds[True] = 2000 * size**3 / milliseconds(multiply, device, 5)
    return speeds


@contextmanager
def mode_of(model: WanS2VTransformer3DModel, mode: Mode, device: torch.device) -> Iterator[None]:
    """The model as `mode` computes it."""
    set_precision(model, mode.precision, device)
    model.use_attention(mode.attention)
    before = dispatch.is_fused
    if not mode.fused:
        dispatch.is_fused = lambda _: False
    try:
        yield
    finally:
        dispatch.is_fused = before


def print_passes(options: argparse.Namespace, device: torch.device) -> None:
    """The table of modes and sizes."""
    dtype = torch.float32 if options.tiny else torch.bfloat16
    speeds = product_speeds(device)
    print("products: " + ", ".join(f"{'fp8' if k else 'bf16'} {v / 1e12:.0f} TFLOP/s" for k, v in speeds.items()))
    print(f"{'mode':<15}{'size':>10}{'ms/pass':>10}{'s/clip':>8}{'GiB':>7}{'error':>9}{'of ceiling':>11}")
    expected: dict[str, Tensor] = {}
    model = build(device, dtype, TINY if options.tiny else {})
    for mode in (mode for mode in MODES if mode.name in options.modes):
        try:
            with mode_of(model, mode, device):
                for size in options.sizes:
                    print_pass(model, mode, size, options, expected, speeds)
        except Exception as error:  # noqa: BLE001 - a mode that does not run here is a row, not the table's end
            print(f"{mode.name:<15} {type(error).__name__}: {str(error).splitlines()[0]}")
    inputs = {size: draw_inputs(model, *_sides(size), device) for size in options.sizes}
    del model
    if OFFICIAL in options.modes:
        print_official(inputs, options, device)


def print_pass(
    model: WanS2VTransformer3DModel,
    mode: Mode,
    size: str,
    options: argparse.Namespace,
    expected: dict[str, Tensor],
    speeds: dict[bool, float],
) -> None:
    """One row; the first mode's result is what the others' errors are measured by."""
    device = model.patch_embedding.weight.device
    inputs = draw_inputs(model, *_sides(size), device)
    conditioning = condition(model, inputs)
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)

    def work() -> Tensor:
        made: Tensor = model(inputs["latents"][None], inputs["t"], conditioning)
        return made

    made = work()
    error = relative(made, expected.setdefault(size, made))
    taken = milliseconds(work, device, options.repeat, is_warm=True)
    tokens = conditioning.rotary.cos.shape[0]
    share = ceiling_seconds(model, mode, tokens, speeds) / (taken / 1000)
    _print_row(mode.name, size, taken, f"{error:>9.4f}{share:>11.0%}", device)


def _print_row(name: str, size: str, taken: float, rest: str, device: torch.device) -> None:
    peak = torch.cuda.max_memory_allocated(device) / GIB if device.type == "cuda" else 0.0
    print(f"{name:<15}{size:>10}{taken:>10.0f}{PASSES * taken / 1000:>8.0f}{peak:>7.1f}{rest}", flush=True)


def print_official(inputs: dict[str, dict[str, Tensor]], options: argparse.Namespace, device: torch.device) -> None:
    """The official code's rows: times alone, its weights are others."""
    try:
        model = official.build(device, torch.bfloat16)
        randomize(model)
        for size, given in inputs.items():
            if device.type == "cuda":
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats(device)
            taken = milliseconds(official.forward(model, torch.bfloat16, given), device, options.repeat)
            _print_row(OFFICIAL, size, taken, "", device)
    except Exception as error:  # noqa: BLE001 - as above
        print(f"{OFFICIAL:<15} {type(error).__name__}: {str(error).splitlines()[0]}")


def print_vae(options: argparse.Namespace, device: torch.device) -> None:
    """Decode and motion encode of a later clip: diffusers in float32, ours in float32 and bfloat16."""
    print(f"\n{'VAE':<15}{'size':>10}{'decode ms':>11}{'encode ms':>11}{'GiB':>7}{'PSNR dB':>9}")
    network = AutoencoderKLWan(**({"base_dim": 8} if options.tiny else {})).eval().to(device)
    randomize(network)
    for size in options.sizes:
        height, width = _sides(size)
        latents = torch.randn(16, MOTION_LATENTS + FRAMES, height // 8, width // 8, device=device)
        pixels = torch.rand(3, MOTION_FRAMES, height, width, device=device) * 2 - 1
        expected: Tensor | None = None
        for name, dtype in (("diffusers fp32", None), ("fp32", torch.float32), ("bf16", torch.bfloat16)):
            if device.type == "cuda":
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats(device)
            decode, encode = _vae_work(network, dtype, latents, pixels)
            made = decode()[:, -KEPT:].float()
            expected = made if expected is None else expected
            error = float(10 * torch.log10(4 / (made - expected).square().mean().clamp(min=1e-12)))
            times = [milliseconds(work, device, 1) for work in (decode, encode)]
            peak = torch.cuda.max_memory_allocated(device) / GIB if device.type == "cuda" else 0.0
            print(f"{name:<15}{size:>10}{times[0]:>11.0f}{times[1]:>11.0f}{peak:>7.1f}{error:>9.1f}", flush=True)
        _vae_work(network, torch.float32, latents, pixels)


def _vae_work(
    network: AutoencoderKLWan, dtype: torch.dtype | None, latents: Tensor, pixels: Tensor
) -> tuple[Timed, Timed]:
    if dtype is None:
        return lambda: network.decode(latents[None]).sample[0], lambda: network.encode(pixels[None]).latent_dist.mean
    vae = Vae(network.to(dtype)).to(latents.device)
    mean, std = (x.to(latents.device) for x in (vae._mean, vae._std))
    given = (latents - mean) / std  # as normalised, so that all decode the same
    return lambda: vae.decode(given, KEPT), lambda: vae.encode(pixels)


def print_attention(options: argparse.Namespace, device: torch.device) -> None:
    """Every kernel that runs here, for a single call and for one after half a second of work: GPUs slow down."""
    tokens = (35_074, 88_920) if device.type == "cuda" else (300,)
    heads, width = (40, 128) if device.type == "cuda" else (2, 16)
    print(f"\n{'attention':<10}{'tokens':>8}{'ms':>9}{'TFLOP/s':>9}{'warm':>7}{'error':>9}")
    for count in tokens:
        generator = torch.Generator(device).manual_seed(0)
        q, k, v = (torch.randn(1, count, heads, width, generator=generator, device=device) for _ in range(3))
        given = [x.to(torch.bfloat16) for x in (2 * q, k + 2 * k[:, :1], v + v[:, :1])]
        rows = [x.float() for x in (given[0][:, :256], *given[1:])]
        expected = attend(rows[0], rows[1], rows[2], Kernel.SDPA)
        for kernel in Kernel:
            if why_not(kernel, device, torch.bfloat16, width) is not None:
                continue

            def work(kernel: Kernel = kernel, given: list[Tensor] = given) -> Tensor:
                return attend(given[0], given[1], given[2], kernel)

            error = relative(work()[:, :256], expected)
            cold = milliseconds(work, device, options.repeat)
            warm = sum(milliseconds(work, device, 1) for _ in range(10)) / 10
            flops = 4e-9 * count**2 * heads * width
            print(
                f"{kernel:<10}{count:>8}{cold:>9.2f}{flops / cold:>9.0f}{flops / warm:>7.0f}{error:>9.4f}", flush=True
            )


def _sides(size: str) -> tuple[int, int]:
    height, width = size.split("x")
    return int(height), int(width)


def main(arguments: Sequence[str] = ()) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [OFFICIAL, *(mode.name for mode in MODES)]
    parser.add_argument("--sizes", nargs="+", default=None)
    parser.add_argument("--modes", nargs="*", default=names, choices=names)
    parser.add_argument("--vae", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--attention", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--tiny", action="store_true", help="sizes that a CPU runs")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args(arguments)
    options.sizes = options.sizes or (["64x64"] if options.tiny else SIZES)
    device = torch.device(options.device)
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}\n")
    with torch.inference_mode(), chosen_by_shape():
        if options.modes:
            print_passes(options, device)
        if options.vae:
            print_vae(options, device)
        if options.attention:
            print_attention(options, device)


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
