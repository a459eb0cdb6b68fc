"""Where a pass of Wan 2.2 S2V 14B goes, part by part, beside its floor: rates measured in the same run.

    python -m benchmarks.floors [--sizes 480x832 832x1216] [--modes exact fp8] [--repeat N] [--kernels N] [--tiny]

Weights are random and made on the device, as in `benchmarks.gpu`. Events around every attention, product and row
operation of a pass say what each part *took*. Then each call is made alone, on tensors of its own shapes. The *floor*
of attention and products is what the fastest of a few single calls took; *warm* is the mean of many in a row, in which
a GPU slows down to keep to its power. The floor of the row operations, and of attention to the few keys of text, is the
bytes that they read and write, at the rate of a plain copy. Sound injection is a part by itself, of all that happens in
it. What is left is other small work, and gaps in which the GPU waits for Python: PyTorch's profiler says how long it
was busy. *Python alone* is a pass of 64×64, which leaves the GPU nothing to do. Errors are relative L2 from the first
mode's pass.
"""

import argparse
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._pytree import tree_leaves, tree_map

from benchmarks.gpu import MODES, TINY, Mode, build, condition, draw_inputs, mode_of, relative
from soundreel.models import attention
from soundreel.models.block import WanS2VTransformerBlock
from soundreel.models.kernels.dispatch import operations
from soundreel.models.kernels.projected import Projected
from soundreel.models.transformer import WanS2VTransformer3DModel

KEPT_BYTES = 2**28
"""Larger arguments of a call are drawn anew when it is made alone."""

WARM_SECONDS = 0.3
"""That a call is made alone for, and before that as long to warm up."""

SHORT_SECONDS = 0.02
"""The same on a CPU, which does not slow down."""

COOL_CALLS, COOL_SECONDS = 3, 0.05
"""Single calls whose fastest counts, and the rest before each."""

COPIED_BYTES = 2**30
WARM_BLOCKS = 5
"""Of a pass that warms up: the last one with sound."""

ROW_OPERATIONS = ("norm", "add", "add_norm", "rms_norm", "gelu", "quantize")


class Part(StrEnum):
    """Of a pass."""

    ATTENTION = "attention"
    PRODUCTS = "products"
    TEXT = "text"
    SOUND = "sound"
    ROWS = "rows"


@dataclass(frozen=True)
class Drawn:
    """A large tensor that is not kept: what it takes to make one like it."""

    shape: tuple[int, ...]
    dtype: torch.dtype

    def draw(self, device: torch.device) -> Tensor:
        """Random values: a GPU multiplies zeros with less power, and faster."""
        is_float8 = self.dtype.itemsize == 1
        values = torch.randn(self.shape, device=device, dtype=torch.bfloat16 if is_float8 else self.dtype)
        return values.mul_(100).to(self.dtype) if is_float8 else values


@dataclass
class Calls:
    """Calls of one function with arguments of the same shapes, in one part of a pass."""

    part: Part
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    options: Mapping[str, Any]
    flops: float  # of one call; 0 for what only reads and writes
    bytes: int  # that one call reads and writes
    spans: list[tuple[Any, Any]] = field(default_factory=list)

    def alone(self, device: torch.device, rate: float) -> tuple[float, float]:
        """Seconds of one call made alone, cool and warm; what only reads and writes does it at `rate`."""
        if not self.flops:
            return self.bytes / rate, self.bytes / rate

        def real(value: Any) -> Any:
            return value.draw(device) if isinstance(value, Drawn) else value

        arguments, options = tree_map(real, (self.arguments, dict(self.options)))
        run = partial(self.function, *arguments, **options)
        return cool_seconds(run, device), warm_seconds(run, device)


def cool_seconds(run: Callable[[], Any], device: torch.device) -> float:
    """Of the fastest of a few single runs."""
    run()
    found = []
    for _ in range(COOL_CALLS):
        _wait(device)
        time.sleep(COOL_SECONDS)
        found.append(_seconds(run, device, 1))
    return min(found)


def warm_seconds(run: Callable[[], Any], device: torch.device) -> float:
    """Of one run among many, on a warm GPU."""
    run()
    least = WARM_SECONDS if device.type == "cuda" else SHORT_SECONDS
    count = max(1, round(least / max(_seconds(run, device, 1), 1e-6)))
    _seconds(run, device, count)
    return _seconds(run, device, count)


def _seconds(run: Callable[[], Any], device: torch.device, count: int) -> float:
    _wait(device)
    begun = time.perf_counter()
    for _ in range(count):
        run()
    _wait(device)
    return (time.perf_counter() - begun) / count


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def copy_rate(device: torch.device) -> float:
    """Bytes per second that a plain copy reads and writes."""
    source = torch.ones(COPIED_BYTES if device.type == "cuda" else 2**22, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    return 2 * source.nbytes / warm_seconds(lambda: target.copy_(source), device)


class Watch:
    """Notes every call of a part in the passes that are made while it is entered, and when it began and ended."""

    def __init__(self, device: torch.device) -> None:
        self.calls: dict[Any, Calls] = {}
        self._device = device
        self._inside = False  # a call: what it calls in turn is part of it
        self._in_sound = False

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Put it around all functions whose calls are parts."""
        rows = operations(torch.empty(0, device=self._device))
        places: list[tuple[Any, str, Part, Callable[..., float]]] = [
            (attention, "attend", Part.ATTENTION, _attention_flops),
            (attention, "attend_projected", Part.ATTENTION, _projected_flops),
            (rows, "attend_few", Part.TEXT, _none),
            (functional, "linear", Part.PRODUCTS, _linear_flops),
            (torch, "_addmm_activation", Part.PRODUCTS, _bias_first_flops),
            (torch, "_scaled_mm", Part.PRODUCTS, _matrix_flops),
            *((rows, name, Part.ROWS, _none) for name in ROW_OPERATIONS),
        ]
        with ExitStack() as stack:
            for owner, name, part, flops in places:
                watched = partial(self._call, part, flops, getattr(owner, name))
                stack.enter_context(patch.object(owner, name, watched))
            inject = WanS2VTransformerBlock._with_audio
            stack.enter_context(patch.object(WanS2VTransformerBlock, "_with_audio", self._sound(inject)))
            yield

    def _sound(self, inject: Callable[..., Any]) -> Callable[..., Any]:
        def run(*given: Any) -> Any:
            self._in_sound = True
            try:
                return inject(*given)
            finally:
                self._in_sound = False

        return run

    def _call(
        self, part: Part, flops: Callable[..., float], function: Callable[..., Any], *given: Any, **options: Any
    ) -> Any:
        if self._inside:
            return function(*given, **options)
        self._inside, begun = True, self._mark()
        try:
            made = function(*given, **options)
        finally:
            self._inside = False
        ended = self._mark()
        part = Part.SOUND if self._in_sound else part
        key = (part, function, *map(_shape, tree_leaves((given, options))))
        if key not in self.calls:
            arguments, named = tree_map(_outline, (given, options))
            touched = {x.data_ptr(): x.nbytes for x in tree_leaves((given, options, made)) if isinstance(x, Tensor)}
            total = sum(touched.values())
            self.calls[key] = Calls(part, function, arguments, named, flops(*given, **options), total)
        self.calls[key].spans.append((begun, ended))
        return made

    def _mark(self) -> Any:
        if self._device.type != "cuda":
            return time.perf_counter()
        new_event: Any = torch.cuda.Event
        event = new_event(enable_timing=True)
        event.record()
        return event

    def took(self, calls: Calls) -> float:
        """Seconds of all of them."""
        if self._device.type != "cuda":
            return float(sum(ended - begun for begun, ended in calls.spans))
        return float(sum(begun.elapsed_time(ended) for begun, ended in calls.spans)) / 1000


def _shape(value: Any) -> Any:
    return (tuple(value.shape), value.dtype) if isinstance(value, Tensor) else value


def _outline(value: Any) -> Any:
    is_large = isinstance(value, Tensor) and value.nbytes > KEPT_BYTES
    return Drawn(tuple(value.shape), value.dtype) if is_large else value


def _none(*_: Any, **__: Any) -> float:
    return 0.0


def _attention_flops(query: Tensor, key: Tensor, *_: Any) -> float:
    return 4.0 * query.numel() * key.shape[1]


def _projected_flops(query: Projected, key: Projected, *_: Any, **__: Any) -> float:
    return 4.0 * query.x.numel() * key.x.shape[1]


def _linear_flops(x: Tensor, weight: Tensor, *_: Any) -> float:
    return 2.0 * x.numel() * weight.shape[0]


def _bias_first_flops(_: Tensor, x: Tensor, weight: Tensor, **__: Any) -> float:
    return 2.0 * x.numel() * weight.shape[1]


def _matrix_flops(x: Tensor, weight: Tensor, **__: Any) -> float:
    return 2.0 * x.numel() * weight.shape[1]


@dataclass(frozen=True)
class Busy:
    """What the profiler saw of a pass, in seconds."""

    span: float  # from the first kernel's begin to the last one's end
    busy: float
    kernels: Mapping[str, tuple[int, float]]  # runs and seconds, by name


def profile_pass(run: Callable[[], Any], device: torch.device) -> Busy | None:
    """None where nothing can be seen: on a CPU, or without the right to look."""
    if device.type != "cuda":
        return None
    _wait(device)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as seen:
        run()
        _wait(device)
    found = [event for event in seen.events() or () if str(event.device_type).endswith("CUDA")]
    spans = sorted((event.time_range.start, event.time_range.end) for event in found)
    if not spans:
        return None
    busy, reached = 0.0, spans[0][0]
    for begin, end in spans:
        busy += max(0.0, end - max(begin, reached))
        reached = max(reached, end)
    runs, seconds = Counter[str](), Counter[str]()
    for event in found:
        runs[event.name] += 1
        seconds[event.name] += (event.time_range.end - event.time_range.start) / 1e6
    kernels = {name: (runs[name], value) for name, value in seconds.most_common()}
    return Busy((reached - spans[0][0]) / 1e6, busy / 1e6, kernels)


def print_floor(
    model: WanS2VTransformer3DModel, mode: Mode, size: str, options: argparse.Namespace, expected: dict[str, Tensor]
) -> None:
    """The table of one mode at one size; the first mode's result is what the others' errors are measured by."""
    device = model.patch_embedding.weight.device
    run = _passing(model, size)
    with _first_blocks(model, WARM_BLOCKS):
        run()
    passes = [_seconds(run, device, 1) for _ in range(options.repeat)]
    watch, made = Watch(device), list[Tensor]()
    with watch.watching():
        watched = _seconds(lambda: made.append(run()), device, 1)
    error = relative(made[0], expected.setdefault(size, made[0]))
    seen = profile_pass(run, device) if options.profile else None
    alone = _passing(model, options.python_size)
    alone()
    python = _seconds(alone, device, 2)
    rate = copy_rate(device)
    floors = {key: calls.alone(device, rate) for key, calls in watch.calls.items()}
    whole = 1000 * min([*passes, watched])
    floor = 1000 * sum(len(calls.spans) * floors[key][0] for key, calls in watch.calls.items())
    print(
        f"\n{mode.name} {size}: {whole:.0f} ms a pass, floor {floor:.0f}; watched {1000 * watched:.0f}, "
        f"error {error:.4f}, Python alone {1000 * python:.0f}; a copy {rate / 1e12:.2f} TB/s"
    )
    if seen is not None:
        count = sum(runs for runs, _ in seen.kernels.values())
        gaps = 1000 * (seen.span - seen.busy)
        print(f"GPU busy {1000 * seen.busy:.0f} of {1000 * seen.span:.0f} ms, gaps {gaps:.1f} between {count} kernels")
    _print_parts(watch, floors, watched)
    if options.calls:
        _print_calls(watch, floors)
    for name, (runs, took) in list(seen.kernels.items())[: options.kernels] if seen is not None else ():
        print(f"{1000 * took:>9.1f} ms {runs:>6} × {name[:100]}", flush=True)


@contextmanager
def _first_blocks(model: WanS2VTransformer3DModel, count: int) -> Iterator[None]:
    """The model with its first blocks alone: all that a whole pass compiles and chooses, in a part of its time."""
    blocks = model.blocks
    model.blocks = blocks[:count]
    try:
        yield
    finally:
        model.blocks = blocks


def _passing(model: WanS2VTransformer3DModel, size: str) -> Callable[[], Any]:
    height, width = map(int, size.split("x"))
    inputs = draw_inputs(model, height, width, model.patch_embedding.weight.device)
    conditioning = condition(model, inputs)
    return lambda: model(inputs["latents"][None], inputs["t"], conditioning)


Floors = Mapping[Any, tuple[float, float]]
"""Seconds of one call made alone, cool and warm, by the keys of `Watch.calls`."""


def _print_parts(watch: Watch, floors: Floors, seconds: float) -> None:
    print(f"{'part':<12}{'calls':>7}{'floor ms':>10}{'warm ms':>9}{'took ms':>9}{'TFLOP/s':>9}{'TB/s':>7}")
    left = seconds
    for part in Part:
        keys = [key for key, calls in watch.calls.items() if calls.part is part]
        calls = [watch.calls[key] for key in keys]
        count, took = sum(len(call.spans) for call in calls), sum(map(watch.took, calls))
        if not count:
            continue
        left -= took
        flops = sum(len(call.spans) * call.flops for call in calls) / took / 1e12
        moved = sum(len(call.spans) * call.bytes for call in calls) / took / 1e12
        cool, warm = (1000 * sum(len(watch.calls[key].spans) * floors[key][k] for key in keys) for k in (0, 1))
        print(f"{part:<12}{count:>7}{cool:>10.1f}{warm:>9.1f}{1000 * took:>9.1f}{flops:>9.0f}{moved:>7.2f}")
    print(f"{'what is left':<12}{'':>7}{'':>10}{'':>9}{1000 * left:>9.1f}", flush=True)


def _print_calls(watch: Watch, floors: Floors) -> None:
    """Every call by itself."""
    for key, call in sorted(watch.calls.items(), key=lambda pair: -watch.took(pair[1])):
        took, count = watch.took(call), len(call.spans)
        name = getattr(call.function, "__name__", "?")
        shapes = " ".join("×".join(map(str, x.shape)) for x in tree_leaves(call.arguments) if hasattr(x, "shape"))
        each = 1e12 * took / count
        rate = f"{call.flops / each:.0f} TFLOP/s" if call.flops else f"{call.bytes / each:.2f} TB/s"
        print(
            f"  {call.part:<10}{name:<18}{count:>4} × {1000 * took / count:>8.3f} ms, floor "
            f"{1000 * floors[key][0]:>8.3f}, warm {1000 * floors[key][1]:>8.3f}, {rate:<14} {shapes[:70]}"
        )


def main(arguments: Sequence[str] = ()) -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    known = {mode.name: mode for mode in MODES}
    parser.add_argument("--sizes", nargs="+", default=None)
    parser.add_argument("--modes", nargs="+", default=["exact", "fp8"], choices=list(known))
    parser.add_argument("--repeat", type=int, default=1, help="passes beside the watched one")
    parser.add_argument("--kernels", type=int, default=0, help="print so many kernels that take the most time")
    parser.add_argument("--profile", action=argparse.BooleanOptionalAction, default=True, help="one more pass")
    parser.add_argument("--calls", action="store_true", help="print every call by itself")
    parser.add_argument("--tiny", action="store_true", help="sizes that a CPU runs")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args(arguments)
    options.sizes = options.sizes or (["64x64"] if options.tiny else ["480x832", "832x1216"])
    options.python_size = "32x32" if options.tiny else "64x64"
    device = torch.device(options.device)
    print(f"{torch.cuda.get_device_name(device) if device.type == 'cuda' else 'CPU'}, torch {torch.__version__}")
    with torch.inference_mode():
        model = build(device, torch.float32 if options.tiny else torch.bfloat16, TINY if options.tiny else {})
        expected: dict[str, Tensor] = {}
        for mode in (known[name] for name in known if name in options.modes):  # weights, once rounded, stay so
            with mode_of(model, mode, device):
                for size in options.sizes:
                    print_floor(model, mode, size, options, expected)


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
