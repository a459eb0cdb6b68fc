"""Every memory mode on one GPU: a later clip of Wan 2.2 S2V 14B under each mode's hard cap, beside the plan's figures.

    python -m benchmarks.gpu_memory [--modes high 24gb …] [--size 480x832] [--steps N] [--text] [--tiny]

Weights are random and made block by block, on the way that blocks of a file go. `fp8` is everything on the GPU with
the large matrices rounded: what the ratios are against. Peaks are PyTorch's, of rendering and of making the weights;
the cap holds for both. --text also runs the text encoder, its weights zeros, as the mode has it.
"""

import argparse
import gc
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu import TINY, randomize
from soundreel.engines.native.block_placement import BlockPlacement, ResidentBlocks
from soundreel.engines.native.calibration import find_speeds
from soundreel.engines.native.clips import ClipDecoder, ClipInput, ClipSampler, Scene, Words
from soundreel.engines.native.cost import clip_seconds
from soundreel.engines.native.demand import Weights, demand
from soundreel.engines.native.denoiser import LocalDenoiser
from soundreel.engines.native.device import capped, compute_dtype, free_memory, vae_dtype
from soundreel.engines.native.memory_modes import budget_of, fit
from soundreel.engines.native.memory_plan import MemoryPlan
from soundreel.engines.native.vae import Vae
from soundreel.models.attention import Kernel, choose_kernel
from soundreel.models.frame_packing import MOTION_FRAMES
from soundreel.models.text_encoder import UMT5Encoder
from soundreel.models.transformer import WanS2VTransformer3DModel
from soundreel.models.vae_network import WanVae
from soundreel.planning import plan as plan_clips
from soundreel.request import Compute, Memory, Precision, Request, Sampling, Solver, VaePrecision, Window
from soundreel.sampling import shifted_schedule
from soundreel.types import Plan
from soundreel.weights.precision import block_layers, clip_layers, set_precision
from soundreel.weights.quantized import has_float8_products
from soundreel.weights.streaming import BUFFERS, BlockStream

GIB = 2**30
FP8 = "fp8"
MODES = (FP8, *(str(mode) for mode in Memory if mode is not Memory.AUTO))
TEXT: dict[str, Any] = {
    "vocab_size": 256384, "d_model": 4096, "d_kv": 64, "d_ff": 10240, "num_layers": 24, "num_heads": 64,
}  # fmt: skip
"""Of UMT5-XXL."""

TINY_TEXT: dict[str, Any] = {
    "vocab_size": 64,
    "d_model": 24,
    "d_kv": 8,
    "d_ff": 32,
    "num_layers": 3,
    "num_heads": 2,
}
WORDS = 60


class Bench:
    """One clip in every mode."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.device = options, torch.device(options.device)
        self.dtype = compute_dtype(self.device)
        self.sizes: dict[str, Any] = TINY if options.tiny else {}
        with torch.device("meta"):
            self.outline = WanS2VTransformer3DModel(**self.sizes)
        self.text = TINY_TEXT if options.tiny else TEXT

    def run(self, mode: str) -> dict[str, Any]:
        """Make the weights, render one clip, and measure."""
        planned, memory = self.plan(mode)
        self._fresh_peak()
        with capped(self.device, memory), torch.inference_mode():
            if self.options.text:
                self._encode_text(memory)
            made_peak, begun = self._peak(), time.perf_counter()
            transformer = self._transformer(planned.request, memory)
            loading = time.perf_counter() - begun
            made_peak = max(made_peak, self._peak())
            self._fresh_peak()
            seconds = self._render(planned, transformer, memory)
            figures = {
                "memory": memory,
                "loading": loading,
                "loading_peak": made_peak,
                "peak": self._peak(),
                "reserved": torch.cuda.max_memory_reserved(self.device) if self.device.type == "cuda" else 0,
                **seconds,
            }
        del transformer
        gc.collect()
        self._fresh_peak()
        return figures

    def plan(self, mode: str) -> tuple[Plan, MemoryPlan]:
        """Two clips, and how the mode goes about them."""
        height, width = (int(side) for side in self.options.size.split("x"))
        is_fp8 = mode == FP8 or (mode != Memory.HIGH and has_float8_products(self.device))
        request = Request(
            audio="any sound",
            ref_image="any picture",
            width=width,
            height=height,
            window=Window(frames=2 * self.options.frames - 3),
            sampling=Sampling(steps=self.options.steps, infer_frames=self.options.frames),
            compute=Compute(
                memory=Memory.HIGH if mode == FP8 else Memory(mode),
                precision=Precision.FP8 if is_fp8 else Precision.AUTO,
                attention=self.options.attention,
            ),
        )
        planned = plan_clips(request, 1000.0)
        kernel, weights = self.outline_kernel(request), self.weights()
        asked = demand(planned, dict(self.outline.config), self.device, kernel=kernel, vae=VaePrecision.AUTO)
        asked = replace(asked, float8_rows=is_fp8 and has_float8_products(self.device))
        found = fit(
            weights, asked, request, request.compute.memory, budget_of(request.compute.memory, free_memory(self.device))
        )
        if found is None:
            raise ValueError(f"{mode} does not fit {self.options.size}")
        return planned, found

    def weights(self) -> Weights:
        """As `weigh` finds them in files."""
        width = self.dtype.itemsize
        step, rounded, clip = [], [], 0
        for block in self.outline.blocks:
            matrices = [getattr(holder, leaf).weight for holder, leaf in block_layers(block)]
            step.append(sum(width * matrix.numel() for matrix in matrices))
            rounded.append(sum(matrix.numel() + 4 * matrix.shape[0] for matrix in matrices))
            clip += sum(width * value.numel() for layer in clip_layers(block) for value in layer.parameters())
        total = sum(width * value.numel() for value in self.outline.parameters())
        with torch.device("meta"):
            text, network = UMT5Encoder(**self.text), WanVae(**self._vae_sizes())
        blocks = [width * sum(value.numel() for value in block.parameters()) for block in text.encoder.block]
        words = width * sum(value.numel() for value in text.parameters())
        return Weights(
            step=tuple(step),
            rounded=tuple(rounded),
            clip=clip,
            others=total - sum(step) - clip,
            text=words,
            text_streamed=words - sum(blocks) + BUFFERS * max(blocks),
            text_loading=max(blocks),
            sound=0,
            vae=vae_dtype(VaePrecision.AUTO, self.device).itemsize
            * sum(value.numel() for value in network.parameters()),
        )

    def _vae_sizes(self) -> dict[str, Any]:
        return {"base_dim": 8} if self.options.tiny else {}

    def _transformer(self, request: Request, memory: MemoryPlan) -> WanS2VTransformer3DModel:
        with torch.device("meta"):
            model: WanS2VTransformer3DModel = WanS2VTransformer3DModel(**self.sizes)
        model.eval().requires_grad_(requires_grad=False)
        blocks = BlockPlacement(memory, [])
        for number, block in enumerate(model.blocks):
            block.to(self.dtype).to_empty(device=self.device)
            randomize(block)
            blocks(f"blocks.{number}", block)
        for name, module in model.named_children():
            if name != "blocks":
                module.to(self.dtype).to_empty(device=self.device)
                randomize(module)
        table = torch.zeros(model.scale_shift_table.shape, dtype=self.dtype, device=self.device)
        model.scale_shift_table = torch.nn.Parameter(table, requires_grad=False)
        if has_float8_products(self.device):
            set_precision(model, request.compute.precision, self.device)
        model.use_attention(request.compute.attention)
        blocks.settle(model, self.device)
        return model

    def _render(self, planned: Plan, model: WanS2VTransformer3DModel, memory: MemoryPlan) -> dict[str, float]:
        request, clip = planned.request, planned.clips[1]
        network = WanVae(**self._vae_sizes()).eval()
        vae = Vae(network.to(vae_dtype(VaePrecision.AUTO, self.device)))
        randomize(vae.network)
        vae.most_at_once = memory.vae_step
        resident = ResidentBlocks(model, memory, self.device)
        config = model.config
        decoder = ClipDecoder(vae, torch.rand(3, 1, request.height, request.width) * 2 - 1, self.device)
        vae.make_room = resident.leave
        sampler = ClipSampler(
            denoiser=LocalDenoiser(model, together=memory.together),
            decoder=decoder,
            scene=Scene(
                words=(
                    Words(
                        prompt=torch.randn(WORDS, config["text_dim"]), negative=torch.randn(WORDS, config["text_dim"])
                    ),
                ),
                sounds=[
                    torch.randn(config["num_audio_states"], config["audio_dim"], sum(c.size for c in planned.clips))
                ],
            ),
            schedule=shifted_schedule(Solver.UNIPC, steps=request.sampling.steps, shift=3.0),
            guide_scale=request.sampling.guide_scale,
        )
        motion = torch.rand(3, MOTION_FRAMES, request.height, request.width) * 2 - 1
        given = ClipInput(clip=clip, first_sampled=planned.first_sampled(clip), motion=motion)
        times: list[float] = []
        begun = time.perf_counter()
        negative = sampler.sample(given, request.height, request.width, partial(self._note, times))
        decoder.decode(negative, clip)
        ended = time.perf_counter()
        steps = [after - before for before, after in pairwise(times)]
        return {
            "pass": 500 * statistics.median(steps),
            "before": times[0] - begun - statistics.median(steps),
            "after": ended - times[-1],
        }

    def _note(self, times: list[float], _step: int, latents: Tensor) -> None:
        float(latents.sum())  # waits
        times.append(time.perf_counter())

    def _encode_text(self, memory: MemoryPlan) -> None:
        home = torch.device("cpu") if memory.text_streamed else self.device
        with torch.device("meta"):
            network: Any = UMT5Encoder(**self.text)
        network.to(self.dtype).to_empty(device=home).eval()
        for value in network.parameters():
            value.zero_()
        if memory.text_streamed:
            BlockStream(network.encoder.block, self.device, pinned=False)
            network.to(self.device)
        begun = time.perf_counter()
        for _ in range(2):
            float(network(torch.zeros(1, WORDS, dtype=torch.long, device=self.device)).sum())
        print(f"  text encoder, two prompts: {time.perf_counter() - begun:.2f} s, {self._peak() / GIB:.1f} GiB")
        del network
        gc.collect()
        if self.device.type == "cuda":
            torch.cuda.empty_cache()

    def _peak(self) -> int:
        return torch.cuda.max_memory_allocated(self.device) if self.device.type == "cuda" else 0

    def _fresh_peak(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self.device)

    def foreseen(self, planned: Plan, memory: MemoryPlan) -> float:
        """Milliseconds of a pass, as the plan says."""
        kernel = self.outline_kernel(planned.request)
        is_fp8 = planned.request.compute.precision is Precision.FP8
        kind = VaePrecision.BF16 if self.device.type != "cpu" else VaePrecision.FP32
        precision = Precision.FP8 if is_fp8 else Precision.BF16
        speeds = find_speeds(self.device, precision=precision, kernel=kernel, vae=kind).speeds
        clip = clip_seconds(
            planned,
            planned.clips[1],
            sizes=dict(self.outline.config),
            speeds=speeds,
            steps=planned.request.sampling.steps,
            float8=is_fp8,
            streamed_bytes=memory.streamed_bytes,
        )
        return 500 * clip.steps[0]

    def outline_kernel(self, request: Request) -> Kernel:
        """The attention that is used."""
        return choose_kernel(request.compute.attention, self.device, self.dtype, self.outline.head_width)


def main(arguments: Sequence[str] = ()) -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modes", nargs="+", default=MODES, choices=MODES)
    parser.add_argument("--size", default=None, help="HEIGHTxWIDTH")
    parser.add_argument("--frames", type=int, default=None)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--attention", default="auto")
    parser.add_argument("--text", action="store_true")
    parser.add_argument("--tiny", action="store_true", help="sizes that a CPU runs")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    options = parser.parse_args(arguments)
    options.size = options.size or ("64x64" if options.tiny else "832x480")
    options.frames = options.frames or (8 if options.tiny else 80)
    bench = Bench(options)
    name = torch.cuda.get_device_name(bench.device) if bench.device.type == "cuda" else "CPU"
    print(f"{name}, torch {torch.__version__}, {options.size}, clips of {options.frames}, {options.steps} steps\n")
    print(
        f"{'mode':<6}{'ms/pass':>9}{'plan':>7}{'ratio':>7}{'decode s':>9}{'peak GB':>9}{'plan':>7}{'reserved':>9}"
        f"{'load s':>8}{'GB':>6}  what"
    )
    yardstick: float | None = None
    for mode in options.modes:
        try:
            figures, foreseen = bench.run(mode), bench.foreseen(*bench.plan(mode))
        except Exception as error:  # noqa: BLE001 - a mode that does not run here is a row, not the table's end
            print(f"{mode:<6} {type(error).__name__}: {str(error).splitlines()[0]}")
            continue
        yardstick = yardstick or figures["pass"]
        memory = figures["memory"]
        print(
            f"{mode:<6}{figures['pass']:>9.0f}{foreseen:>7.0f}{figures['pass'] / yardstick:>7.2f}"
            f"{figures['after']:>9.2f}{figures['peak'] / 1e9:>9.2f}{memory.peak_bytes / 1e9:>7.2f}"
            f"{figures['reserved'] / 1e9:>9.2f}{figures['loading']:>8.1f}{figures['loading_peak'] / 1e9:>6.1f}"
            f"  {memory.says()}, VAE {memory.vae_step}",
            flush=True,
        )


if __name__ == "__main__":
    import sys

    main(sys.argv[1:])
