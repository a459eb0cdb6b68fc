"""How fast this machine is: measured once by `soundreel doctor --calibrate`, kept as JSON, read by every plan.

What is measured are the parts of a render as they are used: the transformer's own layers at its own widths, every
attention kernel that runs here at two lengths, the row operations, the VAE, copies from locked memory. On a CPU, where
nobody renders, the same on small sizes.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import platformdirs
import torch
from torch import Tensor, nn

from soundreel.disk.durable import make_folder, write_json
from soundreel.engines.native.cost import Speeds, decode_flops
from soundreel.engines.native.device import compute_dtype, device_name, vae_dtype, wait
from soundreel.engines.native.vae import Vae
from soundreel.errors import SoundreelError
from soundreel.models.attention import AUTO, Kernel, attend, choose_kernel, why_not
from soundreel.models.kernels.dispatch import operations
from soundreel.models.kernels.float8_rows import Affine, Gate
from soundreel.models.kernels.once import once
from soundreel.models.layers import FusedFeedForward
from soundreel.models.vae_network import WanVae
from soundreel.request import Precision, VaePrecision
from soundreel.weights.catalog import Component
from soundreel.weights.find import find_model
from soundreel.weights.quantized import Fp8Linear, has_float8_products, round_linear
from soundreel.weights.read import open_tensors

Run = Callable[[], object]

FORMAT = 1
"""Of the file; another one is not read."""

LEAST_SECONDS = 0.5
"""Of a measurement: a GPU slows down under load, and soon."""

MOST_RUNS = 2000

READ_SAMPLE_BYTES = 2 * 10**9
"""Of weights that are read to see how fast that goes."""


@dataclass(frozen=True, kw_only=True)
class Sample:
    """The sizes that are measured."""

    width: int = 5120
    heads: int = 40
    inner: int = 13824
    tokens: int = 32_768
    lengths: tuple[int, int] = (16_384, 65_536)  # for attention
    picture: tuple[int, int] = (480, 832)  # pixels, for the VAE
    latents: int = 9
    copied_bytes: int = 2**28


GPU_SAMPLE = Sample()
CPU_SAMPLE = Sample(
    width=256, heads=2, inner=512, tokens=512, lengths=(256, 1024), picture=(32, 32), latents=2, copied_bytes=2**24
)


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """What was measured on one device with one version of PyTorch."""

    device: str
    torch: str
    when: str
    products: Mapping[str, float]  # operations per second, by `Precision`
    attention: Mapping[str, Mapping[str, float]]  # operations per second, by kernel and number of tokens
    rows: float  # bytes per second
    vae: Mapping[str, float]  # operations per second, by `VaePrecision`
    to_device: float  # bytes per second
    read: float | None  # bytes per second; None: there were no weights to read
    start: float  # seconds: what is imported, and the first operations
    format: int = field(default=FORMAT)

    def speeds(self, *, precision: Precision, kernel: Kernel, vae: VaePrecision) -> Speeds | None:
        """Of one way to render; None if it was not measured."""
        try:
            lengths = self.attention[kernel]
            return Speeds(
                products=self.products[precision],
                attention={int(tokens): speed for tokens, speed in lengths.items()},
                rows=self.rows,
                vae=self.vae[vae],
                to_device=self.to_device,
                read=self.read or DEFAULT_READ,
                start=self.start,
            )
        except KeyError:
            return None


DEFAULT_READ = 2e9
"""Bytes of weights per second where nothing was read yet: a good solid-state drive."""

MEASURED: Mapping[str, Calibration] = {
    "NVIDIA H200": Calibration(
        device="NVIDIA H200",
        torch="2.11.0+cu130",
        when="2026-11-27T00:37:51+00:00",
        products={"bf16": 686e12, "fp8": 1254e12},
        attention={
            "sdpa": {"16384": 618e12, "65536": 602e12},
            "cudnn": {"16384": 598e12, "65536": 597e12},
            "flash": {"16384": 347e12, "65536": 347e12},
            "fp8": {"16384": 771e12, "65536": 782e12},
        },
        rows=2.99e12,
        vae={"fp32": 219e12, "bf16": 475e12},  # bf16: a later clip's decode and encode took 1.044 and 1.105 s
        to_device=55.2e9,
        read=None,
        start=7.0,
    ),
}
"""GPUs that were measured before, by name, for machines that are not calibrated."""

QUICK_SHARES = {"attention": 0.8, "float8": 1.7, "rows": 1 / 200, "vae": 0.15}
"""Of the speed of a quick product, as on an H200."""


@dataclass(frozen=True, kw_only=True)
class Basis:
    """Speeds, and in a few words where they are from."""

    speeds: Speeds
    says: str


def calibration_file() -> Path:
    """Where measurements are kept."""
    return platformdirs.user_data_path("soundreel") / "calibration.json"


def read_calibration(device: torch.device) -> Calibration | None:
    """What was measured on this device with this PyTorch; None if nothing was."""
    return _parse(_read_all().get(_key(device_name(device))))


def keep_calibration(found: Calibration) -> Path:
    """Store what was measured, beside that of other devices; returns the file, `MediaError` if it cannot be written."""
    path = calibration_file()
    make_folder(path.parent)
    write_json(path, {**_read_all(), _key(found.device): asdict(found)})
    return path


def _key(device: str) -> str:
    return f"{device}, torch {torch.__version__}"


def _read_all() -> dict[str, Any]:
    try:
        stored = json.loads(calibration_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return stored if isinstance(stored, dict) else {}


def _parse(stored: Any) -> Calibration | None:
    if not isinstance(stored, dict) or stored.get("format") != FORMAT:
        return None
    try:
        return Calibration(**stored)
    except TypeError:
        return None


def find_speeds(device: torch.device, *, precision: Precision, kernel: Kernel, vae: VaePrecision) -> Basis:
    """The speeds of a way to render: as calibrated, else as measured on such a GPU, else from a quick product."""
    wanted: dict[str, Any] = {"precision": precision, "kernel": kernel, "vae": vae}
    calibrated = read_calibration(device)
    speeds = calibrated.speeds(**wanted) if calibrated is not None else None
    if calibrated is not None and speeds is not None:
        return Basis(speeds=speeds, says=f"calibrated {calibrated.when[:10]}")
    known = MEASURED.get(device_name(device))
    speeds = known.speeds(**wanted) if known is not None else None
    uncalibrated = "uncalibrated: soundreel doctor --calibrate makes it exact"
    return Basis(speeds=speeds or _quick_speeds(device, precision), says=uncalibrated)


def attention_speeds(device: torch.device) -> Mapping[Kernel, float]:
    """Operations per second of each attention kernel at the longest length that was measured: as calibrated, else as on
    such a GPU; empty where nothing is known."""
    known = read_calibration(device) or MEASURED.get(device_name(device))
    measured = {} if known is None else known.attention
    return {kernel: measured[kernel][max(measured[kernel], key=int)] for kernel in Kernel if kernel in measured}


QUICK_TRIES = 4
"""Of the quick product, of which the best counts: others compute meanwhile, too."""


def _quick_speeds(device: torch.device, precision: Precision) -> Speeds:
    product = _quick_product(device)
    return Speeds(
        products=product * (QUICK_SHARES["float8"] if precision is Precision.FP8 else 1),
        attention={1: product * QUICK_SHARES["attention"]},
        rows=product * QUICK_SHARES["rows"],
        vae=product * QUICK_SHARES["vae"],
        to_device=1e10,
        read=DEFAULT_READ,
        start=6.0,
    )


@once
def _quick_product(device: torch.device) -> float:
    """Operations per second of a large matrix product, when it was first asked for."""
    size = 256 if device.type == "cpu" else 8192
    factor = torch.randn(size, size, device=device, dtype=compute_dtype(device))
    tries = (_seconds(lambda: factor @ factor, device, least=0.03) for _ in range(QUICK_TRIES))
    return 2 * size**3 / min(tries)


@torch.no_grad()
def measure(device: torch.device, tell: Callable[[str], object] = lambda _: None) -> Calibration:
    """Measure everything; about a minute on a GPU. `tell` hears what is being measured."""
    sample = GPU_SAMPLE if device.type == "cuda" else CPU_SAMPLE
    tell("start")
    imports, begun = time.process_time(), time.perf_counter()
    _start(device)
    start = imports + time.perf_counter() - begun
    tell("products")
    products = dict(_products(sample, device))
    tell("attention")
    attention = dict(_attention(sample, device))
    tell("row operations")
    rows = _rows(sample, device)
    tell("VAE")
    vae = dict(_vae(sample, device))
    tell("copies")
    to_device = _copies(sample, device)
    tell("reading weights")
    return Calibration(
        device=device_name(device),
        torch=torch.__version__,
        when=datetime.now().astimezone().isoformat(timespec="seconds"),
        products=products,
        attention=attention,
        rows=rows,
        vae=vae,
        to_device=to_device,
        read=_reading(device),
        start=start,
    )


def _seconds(run: Run, device: torch.device, least: float | None = None) -> float:
    """Of one run, from as many as take `least` seconds, after two that warm up."""
    run()
    one = _time(run, device, 1)
    runs = round((LEAST_SECONDS if least is None else least) / max(one, 1e-6))
    return _time(run, device, max(1, min(MOST_RUNS, runs)))


def _time(run: Run, device: torch.device, count: int) -> float:
    wait(device)
    begun = time.perf_counter()
    for _ in range(count):
        run()
    wait(device)
    return max((time.perf_counter() - begun) / count, 1e-9)


def _start(device: torch.device) -> None:
    """The first operations, with all that is made ready for them."""
    x = torch.zeros(1, 16, 64, device=device)
    operations(x).norm(x, Affine.everywhere(x[0, 0], x[0, 0]), 1e-6, torch.float32)
    choose_kernel(AUTO, device, compute_dtype(device), 64)
    wait(device)


def _products(sample: Sample, device: torch.device) -> Iterator[tuple[str, float]]:
    """The transformer's own layers: a projection, and the feed-forward layers with their activation."""
    dtype, width, inner = compute_dtype(device), sample.width, sample.inner
    with torch.device(device):
        feed_forward = FusedFeedForward(width, inner).to(dtype)
        projection: nn.Module = nn.Linear(width, width).to(dtype)
        x = torch.randn(1, sample.tokens, width, dtype=dtype)
    flops = sample.tokens * (2 * width**2 + 4 * width * inner)

    def run(given: Any = x) -> None:
        projection(given)
        feed_forward(given)

    yield Precision.BF16, flops / _seconds(run, device)
    if has_float8_products(device):
        projection = _rounded(projection)
        feed_forward.net[0].proj, feed_forward.net[2] = (
            _rounded(layer) for layer in (feed_forward.net[0].proj, feed_forward.net[2])
        )
        rows = operations(x).quantize(x)
        yield Precision.FP8, flops / _seconds(lambda: run(rows), device)


def _rounded(layer: Any) -> Fp8Linear:
    rounded = round_linear(layer)
    rounded.takes_float8 = True
    return rounded


def _attention(sample: Sample, device: torch.device) -> Iterator[tuple[str, dict[str, float]]]:
    """Every kernel that runs here."""
    dtype, head = compute_dtype(device), sample.width // sample.heads
    running = [kernel for kernel in Kernel if why_not(kernel, device, dtype, head) is None]
    for kernel in running:
        speeds = {}
        for length in sample.lengths:
            query, key, value = (
                torch.randn(1, length, sample.heads, head, dtype=dtype, device=device) for _ in range(3)
            )
            seconds = _seconds(_attending(query, key, value, kernel), device)
            speeds[str(length)] = 4 * length**2 * sample.width / seconds
        yield kernel, speeds


def _attending(query: Tensor, key: Tensor, value: Tensor, kernel: Kernel) -> Run:
    return lambda: attend(query, key, value, kernel)


def _rows(sample: Sample, device: torch.device) -> float:
    """Bytes per second of a sum with a norm."""
    dtype, tokens, width = compute_dtype(device), sample.tokens, sample.width
    x = torch.randn(1, tokens, width, device=device)
    update = x.to(dtype)
    ones = torch.ones(1, 2, width, device=device)
    affine, gate, ops = Affine(ones, ones, tokens // 2), Gate(ones, tokens // 2), operations(x)
    size = tokens * width * (4 + 4 + 2 * dtype.itemsize)
    return size / _seconds(lambda: ops.add_norm(x, update, gate, affine, 1e-6, dtype), device)


def _vae(sample: Sample, device: torch.device) -> Iterator[tuple[str, float]]:
    """Operations per second of a decode, in both float types where there are two."""
    height, width = sample.picture
    flops = decode_flops(width, height, sample.latents)
    kinds = (VaePrecision.FP32,) if device.type == "cpu" else (VaePrecision.FP32, VaePrecision.BF16)
    network = WanVae().eval().requires_grad_(False)
    for kind in kinds:
        for parameter in network.parameters():
            parameter.data = parameter.data.to(vae_dtype(kind, device))
        vae = Vae(network).to(device)
        latents = torch.randn(vae.channels, sample.latents, *vae.latent_size(height, width), device=device)
        yield kind, flops / _seconds(_decoding(vae, latents), device)


def _decoding(vae: Vae, latents: Tensor) -> Run:
    return lambda: vae.decode(latents)


def _copies(sample: Sample, device: torch.device) -> float:
    source = torch.zeros(sample.copied_bytes, dtype=torch.uint8, pin_memory=device.type == "cuda")
    target = torch.empty_like(source, device=device)
    return sample.copied_bytes / _seconds(lambda: target.copy_(source, non_blocking=True), device)


def _reading(device: torch.device) -> float | None:
    """Bytes per second from the default model's transformer files to the device; None if it is not here."""
    try:
        files = find_model()[Component.TRANSFORMER].files
        begun, done = time.perf_counter(), 0
        for file in map(open_tensors, files):
            for name in file.header.tensors:
                done += file.read(name, device).nbytes
                if done > READ_SAMPLE_BYTES:
                    break
        wait(device)
    except SoundreelError:
        return None
    return done / (time.perf_counter() - begun)
