"""The VAE's convolutions on this machine's GPU: layers and whole videos, by cuDNN and by this package's kernels.

    python -m benchmarks.vae_convolutions [--sizes 480x832 …] [--methods NAME …] [--types bf16 fp32] [--seconds N]

Weights are random. First two fresh processes decode and encode the same video: their digests must be equal. Then, for
each method, every distinct convolution of a decode and an encode (of the piece that repeats: 2 latent frames), and a
later clip's whole decode (39 latent frames, the last 80 pictures kept) and motion encode (73 frames). Operations are
those of the convolution as it is written, also where a kernel needs fewer. Errors are from float64, on a corner of the
input: relative L2, and the largest one over the mean square's root.

Methods run in a process of their own, which is ended when it stands still: a kernel that hangs or breaks is a row, not
the table's end. Sizes after the first have rows of layers for the first methods only. Before all that, processes side
by side compile the kernels, for one frame: those for more are the same. The table names the peak of PyTorch's
allocations beyond what was there before, and what the plan says it is.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import Tensor

from benchmarks.gpu import FRAMES, GIB, KEPT, randomize, relative
from soundreel.engines.native.vae import Vae, chosen_by_shape
from soundreel.engines.native.vae_memory import Sizes, decode_bytes, encode_bytes
from soundreel.models.frame_packing import MOTION_LATENTS
from soundreel.models.kernels import convolution_plain, dispatch
from soundreel.models.kernels.convolution_layers import Layer, Tiling, choose_tiling, hopper_tiling, other_tiling
from soundreel.models.vae import LATENT_STEP, decode, encode
from soundreel.models.vae_network import WanVae

SIZES = ("480x832", "832x1216")
DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
STILL_SECONDS = 60
"""Without a row, after which a process counts as hanging."""

CORNER = 4, 24, 40
"""Frames, rows and columns of the input that errors are measured on."""

TIMED = 5

EVERYWHERE = 3
"""The first methods, whose layers are measured at each size."""

Choose = Callable[[Layer], Tiling]


@dataclass(frozen=True)
class Method:
    """How convolutions are computed: by a tiling of our kernels, or by PyTorch with these settings of cuDNN."""

    name: str
    tiling: str | None = None
    benchmark: bool = False
    deterministic: bool = False


METHODS = (
    Method("cudnn-tried", benchmark=True),
    Method("table", "table"),
    Method("pointers", "pointers"),
    Method("hopper-192", "hopper-192"),
    Method("hopper-256", "hopper-256"),
    Method("hopper-256-pair", "hopper-256-pair"),
    Method("hopper-deep", "hopper-deep"),
    Method("hopper-4-warps", "hopper-4-warps"),
    Method("hopper-deep-4-warps", "hopper-deep-4-warps"),
    Method("hopper-alone", "hopper-alone"),
    Method("pointers-256", "pointers-256"),
    Method("pointers-deep", "pointers-deep"),
    Method("cudnn-rules"),
    Method("cudnn-deterministic", deterministic=True),
)


def tilings() -> dict[str, Choose]:
    """By name: what makes a tiling of a layer."""

    def table(layer: Layer) -> Tiling:
        return choose_tiling(layer, torch.cuda.get_device_capability())

    hopper, other = hopper_tiling, other_tiling
    return {
        "table": table,
        "pointers": other,
        "pointers-256": partial(other, positions=256),
        "pointers-deep": partial(other, depth=64),
        "hopper-192": partial(hopper, most=192, programs=1),
        "hopper-256": partial(hopper, positions=256, most=96, programs=1),
        "hopper-256-pair": partial(hopper, positions=256, most=96),
        "hopper-deep": partial(hopper, depth=64, programs=1),
        "hopper-4-warps": partial(hopper, warps=4),
        "hopper-deep-4-warps": partial(hopper, depth=64, warps=4, most=96),  # two programs' reads just fit
        "hopper-alone": partial(hopper, programs=1),
    }


@contextmanager
def method_of(method: Method) -> Iterator[None]:
    """Convolutions as a method computes them."""
    with chosen_by_shape(), replaced(dispatch, "is_convolved", lambda *_: method.tiling is not None), _tiled(method):
        torch.backends.cudnn.benchmark, torch.backends.cudnn.deterministic = method.benchmark, method.deterministic
        yield


@contextmanager
def _tiled(method: Method) -> Iterator[None]:
    if method.tiling is None:
        yield
        return
    from soundreel.models.kernels import convolution as kernels  # noqa: PLC0415 - Triton is not everywhere

    choose = tilings()[method.tiling]
    with replaced(kernels, "choose_tiling", lambda layer, _: choose(layer)):
        yield


@contextmanager
def replaced(module: ModuleType, name: str, value: Any) -> Iterator[None]:
    """A module's attribute, as long as it is asked for."""
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


class Call(NamedTuple):
    """One convolution that the VAE asks for."""

    operation: str
    features: tuple[int, ...]
    weight: tuple[int, ...]
    residual: bool
    time_stride: int

    @property
    def out_shape(self) -> tuple[int, ...]:
        """Of the result."""
        _, _, frames, height, width = self.features
        made = self.weight[0]
        if self.operation == "convolve":
            return 1, made, (frames - self.weight[2]) // self.time_stride + 1, height, width
        if self.operation == "double":
            return 1, made // 2, 2 * (frames - self.weight[2] + 1), height, width
        if self.operation == "halve":
            return 1, made, frames, height // 2, width // 2
        return 1, made, frames, 2 * height, 2 * width

    @property
    def operations(self) -> float:
        """Multiplications and additions."""
        made = torch.Size(self.out_shape).numel()
        return 2.0 * made * torch.Size(self.weight[1:]).numel()

    @property
    def of_one_frame(self) -> "Call":
        """The same layer over as few frames as it takes: it needs the same kernel."""
        frames = self.weight[2] if len(self.weight) == 5 else 1
        return self._replace(features=(*self.features[:2], frames, *self.features[3:]))

    def __str__(self) -> str:
        taps = "×".join(str(k) for k in self.weight[2:])
        kind = {"convolve": "", "double": " double", "halve": " halve", "enlarge": " enlarge"}[self.operation]
        more = (" +x" if self.residual else "") + (f" /{self.time_stride}" if self.time_stride > 1 else "")
        shape = "×".join(str(k) for k in self.features[2:])
        return f"{self.weight[1]}→{self.weight[0]} {taps}{kind}{more} of {shape}"


class Recorder(ModuleType):
    """Stands where the convolutions do, and writes down what is asked for."""

    def __init__(self) -> None:
        super().__init__("recorder")
        self.calls: list[Call] = []

    def __getattr__(self, name: str) -> Any:
        return partial(self._call, name)

    def _call(
        self, name: str, x: Tensor, weight: Tensor, _: Tensor, residual: Tensor | None = None, time_stride: int = 1
    ) -> Tensor:
        call = Call(name, tuple(x.shape), tuple(weight.shape), residual is not None, time_stride)
        self.calls.append(call)
        return x.new_zeros(call.out_shape).contiguous(memory_format=_layout(x))


def calls_of(network: WanVae, height: int, width: int) -> Counter[Call]:
    """Of a decode and an encode, and how often: of the piece that is repeated."""
    from soundreel.models import vae_stages  # noqa: PLC0415

    weight, counts = network.post_quant_conv.weight, []
    for frames in (1, 3):  # what the second has more is one piece
        recorder = Recorder()
        with replaced(vae_stages, "convolutions", lambda _, recorder=recorder: recorder):
            decode(network, weight.new_zeros(network.config["z_dim"], frames, height // 8, width // 8))
            encode(network, weight.new_zeros(3, 4 * frames - 3, height, width))
        counts.append(Counter(recorder.calls))
    return counts[1] - counts[0]


def _layout(x: Tensor) -> torch.memory_format:
    return torch.channels_last_3d if x.is_cuda else torch.contiguous_format


class Inputs(NamedTuple):
    """Of one convolution."""

    x: Tensor
    weight: Tensor
    bias: Tensor
    residual: Tensor | None

    @staticmethod
    def of(call: Call, device: torch.device, dtype: torch.dtype) -> "Inputs":
        """Random ones."""
        generator = torch.Generator(device).manual_seed(0)

        def draw(shape: Sequence[int], std: float = 1.0) -> Tensor:
            layout = {5: torch.channels_last_3d, 4: torch.channels_last}.get(len(shape), torch.contiguous_format)
            made = torch.empty(*shape, device=device, dtype=dtype, memory_format=layout)
            return made.normal_(std=std, generator=generator)

        weight = draw(call.weight, torch.Size(call.weight[1:]).numel() ** -0.5)
        residual = draw(call.out_shape) if call.residual else None
        return Inputs(draw(call.features), weight, draw(call.weight[:1]), residual)

    def corner(self, call: Call) -> "Inputs":
        """The first frames, rows and columns."""
        frames, rows, columns = CORNER
        cut = self.x[:, :, :frames, :rows, :columns]
        residual = self.residual
        if residual is not None:
            shape = call._replace(features=tuple(cut.shape)).out_shape
            residual = residual[:, :, : shape[2], : shape[3], : shape[4]]
            residual = residual.contiguous(memory_format=torch.channels_last_3d)
        cut = cut.contiguous(memory_format=torch.channels_last_3d)
        return Inputs(cut, self.weight, self.bias, residual)

    def double(self) -> "Inputs":
        """In float64."""
        residual = None if self.residual is None else self.residual.double()
        return Inputs(self.x.double(), self.weight.double(), self.bias.double(), residual)

    def run(self, call: Call, module: ModuleType) -> Tensor:
        """The result."""
        options: dict[str, Any] = {}
        if call.operation == "convolve":
            options = {"residual": self.residual, "time_stride": call.time_stride}
        made: Tensor = getattr(module, call.operation)(self.x, self.weight, self.bias, **options)
        return made


def milliseconds(work: Callable[[], Any], device: torch.device, count: int) -> float:
    """Of the fastest run."""
    times = []
    for _ in range(count):
        _wait(device)
        begun = time.perf_counter()
        work()
        _wait(device)
        times.append(1000 * (time.perf_counter() - begun))
    return min(times)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def build(device: torch.device, dtype: torch.dtype, *, tiny: bool) -> WanVae:
    """The VAE with random weights, laid out as `Vae` lays them out."""
    network = WanVae(base_dim=8 if tiny else 96).eval().requires_grad_(False).to(device)
    randomize(network)
    return Vae(network.to(dtype)).to(device).network


def measure(options: argparse.Namespace) -> None:
    """Rows of every method, as JSON: what the process of their own prints."""
    device = torch.device(options.device)
    for name in options.methods:
        method = next(method for method in METHODS if method.name == name)
        emit(begin=name)
        for type_name in options.types:
            dtype = DTYPES[type_name]
            network = build(device, dtype, tiny=options.tiny)
            for size in options.sizes:
                height, width = (int(side) for side in size.split("x"))
                key = {"method": name, "type": type_name, "size": size}
                with torch.inference_mode(), method_of(method):
                    layered = size == options.sizes[0] or METHODS.index(method) < EVERYWHERE
                    calls = calls_of(network, height, width) if layered else Counter()
                    rows = [_measure_layer(call, count, key, device, dtype) for call, count in calls.items()]
                    if all(rows):
                        _measure_video(network, height, width, key, device)
        emit(end=name)


def _measure_layer(call: Call, count: int, key: dict[str, str], device: torch.device, dtype: torch.dtype) -> bool:
    row = key | {"layer": str(call), "count": count}
    try:
        given = Inputs.of(call, device, dtype)
        module = dispatch.convolutions(given.x)
        begun = time.perf_counter()
        given.run(call, module)
        _wait(device)
        first = time.perf_counter() - begun
        taken = milliseconds(lambda: given.run(call, module), device, TIMED)
        made, expected = _made_and_expected(given.corner(call), call, module)
        largest = float((made - expected).abs().max() / expected.square().mean().sqrt())
        emit(
            **row,
            ms=taken,
            tera=call.operations / taken / 1e9,
            first=first,
            error=relative(made, expected),
            most=largest,
        )
    except Exception as error:  # noqa: BLE001 - a layer that does not run here is a row
        emit(**row, failed=f"{type(error).__name__}: {_line(error)}")
        return False
    return True


EXPECTED: dict[tuple[Call, torch.dtype], Tensor] = {}


def _made_and_expected(given: Inputs, call: Call, module: ModuleType) -> tuple[Tensor, Tensor]:
    with chosen_by_shape():
        made = given.run(call, module).double()
        key = call, given.x.dtype
        if key not in EXPECTED:
            EXPECTED[key] = given.double().run(call, convolution_plain)
    return made, EXPECTED[key]


def compile_kernels(options: argparse.Namespace) -> None:
    """Run every layer of the methods once, which fills Triton's cache; JSON as in `measure`."""
    device = torch.device(options.device)
    for name in options.methods:
        method = next(method for method in METHODS if method.name == name)
        for type_name in options.types:
            network = build(device, DTYPES[type_name], tiny=options.tiny)
            begun, failed = time.perf_counter(), 0
            with torch.inference_mode(), method_of(method):
                for size in options.sizes:
                    height, width = (int(side) for side in size.split("x"))
                    for call in {call.of_one_frame for call in calls_of(network, height, width)}:
                        failed += not _runs(call, device, DTYPES[type_name])
                        emit(alive=True)
            emit(method=name, type=type_name, seconds=time.perf_counter() - begun, failed=failed)


def _runs(call: Call, device: torch.device, dtype: torch.dtype) -> bool:
    try:
        given = Inputs.of(call, device, dtype)
        given.run(call, dispatch.convolutions(given.x))
        _wait(device)
    except Exception:  # noqa: BLE001 - told when it is measured
        return False
    return True


def _measure_video(network: WanVae, height: int, width: int, key: dict[str, str], device: torch.device) -> None:
    generator = torch.Generator(device).manual_seed(1)
    weight = network.post_quant_conv.weight
    frames, before = (MOTION_LATENTS + FRAMES, 73) if device.type == "cuda" else (3, 9)
    shape = network.config["z_dim"], frames, height // 8, width // 8
    latents = torch.randn(shape, generator=generator, device=device).to(weight.dtype)
    pixels = (torch.rand(3, before, height, width, generator=generator, device=device) * 2 - 1).cpu()
    sizes = Sizes(height=height, width=width, latents=frames, bytes_each=weight.element_size())
    works: dict[str, tuple[Callable[[], Tensor], int]] = {}
    for step, bands in ((LATENT_STEP, 1), (1, 1), (1, 4)) if key["method"] == "table" else ((LATENT_STEP, 1),):
        how = "" if (step, bands) == (LATENT_STEP, 1) else f", {step} at once, {bands} bands"
        works |= {
            f"decode{how}": (partial(decode, network, latents, KEPT, step, bands), decode_bytes(sizes, step, bands)),
            f"encode{how}": (
                partial(encode, network, pixels, step, bands),
                encode_bytes(replace(sizes, latents=1 + before // 4), step, bands),
            ),
        }
    for name, (work, plan) in works.items():
        try:
            if device.type == "cuda":
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats(device)
            there = torch.cuda.memory_allocated(device) if device.type == "cuda" else 0
            work()
            taken = milliseconds(work, device, 2)
            peak = (torch.cuda.max_memory_allocated(device) - there) / GIB if device.type == "cuda" else 0.0
            emit(**key, video=name, ms=taken, peak=peak, plan=plan / GIB)
        except Exception as error:  # noqa: BLE001 - as above
            emit(**key, video=name, failed=f"{type(error).__name__}: {_line(error)}")


def digest(options: argparse.Namespace) -> None:
    """Digests of what a fresh process makes, as JSON."""
    device = torch.device(options.device)
    height, width = (int(side) for side in options.sizes[0].split("x"))
    for type_name in options.types:
        vae = Vae(build(device, DTYPES[type_name], tiny=options.tiny))
        latents = torch.randn(vae.channels, 5, height // 8, width // 8, generator=torch.Generator().manual_seed(2))
        begun = time.perf_counter()
        frames = vae.decode(latents)
        means = vae.encode(frames)
        _wait(device)
        vae.bands = 3
        is_seamless = bool((vae.decode(latents) == frames).all() and (vae.encode(frames) == means).all())
        digests = [hashlib.sha256(x.cpu().numpy().tobytes()).hexdigest()[:16] for x in (frames, means)]
        is_kernel = device.type == "cuda" and dispatch.is_convolved(device, DTYPES[type_name])
        emit(
            type=type_name,
            digests=digests,
            kernels=is_kernel,
            seamless=is_seamless,
            seconds=time.perf_counter() - begun,
        )


def emit(**row: Any) -> None:
    """One row for the process that asked."""
    print(json.dumps(row), flush=True)


def _line(error: Exception) -> str:
    return next((line for line in reversed(str(error).splitlines()) if line.strip()), "")[:160]


class Report:
    """Prints what is found, and keeps it in a file where there is one."""

    def __init__(self, path: Path | None) -> None:
        self._path, self._lines = path, list[str]()

    def say(self, line: str = "") -> None:
        """One line."""
        print(line, flush=True)
        self._lines.append(line)
        if self._path is not None:
            self._path.write_text("\n".join(self._lines) + "\n")


def rows_of(part: str, options: argparse.Namespace, methods: Sequence[str], until: float) -> Iterator[dict[str, Any]]:
    """What a process of its own finds, row by row; the last one says how it ended, if not well."""
    command = [
        sys.executable, "-u", "-m", "benchmarks.vae_convolutions", "--part", part, "--device", options.device,
        "--sizes", *options.sizes, "--types", *options.types, "--methods", *methods,
    ]  # fmt: skip
    process = subprocess.Popen(
        [*command, *(["--tiny"] if options.tiny else [])], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    lines: Queue[str | None] = Queue()
    errors: list[str] = []
    readers = [
        Thread(target=_read, args=(process.stdout, lines.put)),
        Thread(target=_read, args=(process.stderr, errors.append)),
    ]
    for reader in readers:
        reader.start()
    end = ""
    try:
        while (line := lines.get(timeout=max(1.0, min(STILL_SECONDS, until - time.monotonic())))) is not None:
            if line.startswith("{"):
                yield json.loads(line)
    except Empty:
        end = "out of time" if time.monotonic() >= until else "stands still"
    finally:
        process.kill()
        code = process.wait()
        for reader in readers:
            reader.join()
    if end or code:
        tail = next((line for line in reversed(errors) if line and line.strip()), "").strip()
        yield {"ended": end or f"exit {code}: {tail[:160]}"}


def _read(stream: Any, put: Callable[[str | None], Any]) -> None:
    for line in stream:
        put(line)
    put(None)


def report_digests(options: argparse.Namespace, report: Report, until: float) -> None:
    """Whether two fresh processes make the same."""
    report.say("\n## One seed, two processes\n")
    report.say("| type | process | decoded | encoded | kernels | in 3 bands | s, all |\n|---|---|---|---|---|---|---|")
    found: dict[str, list[list[str]]] = {}
    for number in (1, 2):
        for row in rows_of("digest", options, [], until):
            if "ended" in row:
                report.say(f"| | {number} | {row['ended']} | | | | |")
                continue
            found.setdefault(row["type"], []).append(row["digests"])
            decoded, encoded = row["digests"]
            bands = "equal" if row["seamless"] else "not equal"
            own = "own" if row["kernels"] else "PyTorch's"
            report.say(f"| {row['type']} | {number} | {decoded} | {encoded} | {own} | {bands} | {row['seconds']:.1f} |")
    for name, digests in found.items():
        equal = len(digests) == 2 and digests[0] == digests[1]
        report.say(f"\n{name}: {'equal' if equal else 'NOT EQUAL'}")


def report_compiling(options: argparse.Namespace, report: Report, until: float) -> None:
    """How long the kernels of each method take to compile, all methods side by side."""
    found: Queue[dict[str, Any]] = Queue()

    def follow(method: Method) -> None:
        for row in rows_of("compile", options, [method.name], until):
            if "alive" not in row:
                found.put({"method": method.name} | row)

    methods = [method for method in METHODS if method.tiling is not None and method.name in options.methods]
    followers = [Thread(target=follow, args=(method,)) for method in methods]
    report.say("\n## Compiling, side by side\n")
    for follower in followers:
        follower.start()
    for follower in followers:
        follower.join()
    while not found.empty():
        row = found.get()
        told = row.get("ended") or f"{row['type']}, {row['seconds']:.0f} s, {row['failed']} layers failed"
        report.say(f"- {row['method']}: {told}")


def report_methods(options: argparse.Namespace, report: Report, until: float) -> None:
    """Every row as it comes, then the tables."""
    report.say("\n## Row by row\n")
    waiting, rows = list(options.methods), list[dict[str, Any]]()
    while waiting and time.monotonic() < until:
        current = waiting[0]
        for row in rows_of("measure", options, waiting, until):
            if "begin" in row:
                current = row["begin"]
            elif "end" in row:
                waiting.remove(row["end"])
            elif "ended" in row:
                report.say(f"- {current}: {row['ended']}")
                if current in waiting:
                    waiting.remove(current)
            else:
                rows.append(row)
                report.say("- " + _described(row))
    for name in waiting:
        report.say(f"- {name}: not run, out of time")
    _report_tables(options, report, rows)


def _described(row: dict[str, Any]) -> str:
    start = f"{row['method']} {row['type']} {row['size']} {row.get('layer') or row.get('video')}: "
    if "failed" in row:
        return f"{start}{row['failed']}"
    if "video" in row:
        return start + f"{row['ms']:.0f} ms, {row['peak']:.2f} GiB (plan {row['plan']:.2f})"
    return start + (
        f"{row['ms']:.3f} ms, {row['tera']:.0f} TFLOP/s, error {row['error']:.1e} (most {row['most']:.1e}), "
        f"first {row['first']:.1f} s, {row['count']} times"
    )


def _report_tables(options: argparse.Namespace, report: Report, rows: list[dict[str, Any]]) -> None:
    names = [name for name in options.methods if any(row["method"] == name for row in rows)]
    for type_name in options.types:
        for size in options.sizes:
            here = [row for row in rows if row["type"] == type_name and row["size"] == size and "ms" in row]
            by_place = {(row.get("layer") or row["video"], row["method"]): row for row in here}
            counts = {row["layer"]: row["count"] for row in here if "layer" in row}
            report.say(f"\n## {size} {type_name}: ms\n")
            report.say(f"| layer | times | {' | '.join(names)} |\n|---|---|{'---|' * len(names)}")
            for layer, count in counts.items():
                cells = [_cell(by_place.get((layer, name)), ".3f") for name in names]
                report.say(f"| {layer} | {count} | {' | '.join(cells)} |")
            sums = [
                f"{sum(count * by_place[layer, name]['ms'] for layer, count in counts.items()):.1f}"
                if all((layer, name) in by_place for layer in counts) else "–" for name in names
            ]  # fmt: skip
            report.say(f"| **all of a piece** | | {' | '.join(sums)} |")
            for video in ("decode", "encode"):
                cells = [_cell(by_place.get((video, name)), ".0f") for name in names]
                report.say(f"| **whole {video}** | | {' | '.join(cells)} |")


def _cell(row: dict[str, Any] | None, digits: str) -> str:
    if row is None:
        return "–"
    more = f"{row['peak']:.2f} GiB, plan {row['plan']:.2f}" if "peak" in row else f"{row['tera']:.0f}"
    return f"{float(row['ms']):{digits}} ({more})"


def main(arguments: Sequence[str] = ()) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    names = [method.name for method in METHODS]
    parser.add_argument("--sizes", nargs="+", default=None)
    parser.add_argument("--methods", nargs="*", default=None, choices=names)
    parser.add_argument("--types", nargs="+", default=["bf16"], choices=list(DTYPES))
    parser.add_argument("--digest", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--seconds", type=float, default=230, help="after which what is left is not run")
    parser.add_argument("--tiny", action="store_true", help="sizes that a CPU runs")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--part", choices=["compile", "measure", "digest"], help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    is_gpu = options.device.startswith("cuda")
    options.sizes = options.sizes or (["64x64"] if options.tiny else SIZES)
    if options.methods is None:
        options.methods = names if is_gpu else ["cudnn-rules"]
    if options.part is not None:
        {"compile": compile_kernels, "measure": measure, "digest": digest}[options.part](options)
        return
    until = time.monotonic() + options.seconds
    folder = os.environ.get("OUT")
    report = Report(Path(folder) / "vae_convolutions.md" if folder else None)
    device = torch.cuda.get_device_name() if is_gpu else "CPU"
    report.say(f"# Convolutions of the VAE: {device}, torch {torch.__version__}")
    if is_gpu:
        report_compiling(options, report, time.monotonic() + options.seconds / 3)
    if options.digest:
        report_digests(options, report, until)
    report_methods(options, report, until)


if __name__ == "__main__":
    main(sys.argv[1:])
