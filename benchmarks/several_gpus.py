"""What several GPUs of one host gain over one, step by step, and where the rest goes.

    python -m benchmarks.several_gpus [--gpus 2] [--sizes 480x832 832x1216] [--modes exact fp8] [--pictures]
        [--tiny]

A process for each is started, with the whole random full-size transformer, made on its GPU: the same on all. For each
mode and size: a guided step on one GPU, the same with a branch of guidance on half of them each, with the tokens
of both passes divided, and a pass without guidance with its tokens divided. `--pictures`: what the VAE does between two
clips, its pictures divided, and where its time goes (`pictures_apart`). Every figure is printed as soon as it is known.
Nothing hangs: after `--limit` seconds, or when one process ends, all are ended; what would not be done in time is left
out.

"without exchange" is the divided pass with ranks that keep their own data in place of what others would send: the time
of its arithmetic and copies; what the real one takes longer is communication that nothing hides. "given to the GPU" is
the time in which Python has launched everything: near the pass's own, launches bound it. Errors are relative L2.
"""

import argparse
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import wait as wait_for_any
from multiprocessing.process import BaseProcess
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.distributed import TCPStore  # type: ignore[attr-defined]

from benchmarks.gpu import MODES, TINY, Mode, build, draw_inputs, mode_of, relative
from benchmarks.pictures_apart import measure_pictures
from benchmarks.rank_bench import Bench, Work
from soundreel.engines.native.denoiser import ClipConditions, Denoiser, LocalDenoiser
from soundreel.engines.native.device import wait
from soundreel.engines.native.rank_process import LOOPBACK, Seat, meet, open_store, prepare_environment
from soundreel.engines.native.team import Team
from soundreel.models.attention import Kernel, why_not
from soundreel.models.parallel import exchange as exchange_module
from soundreel.models.parallel.ranks import Arrival, Mesh, Ranks, connect
from soundreel.models.transformer import WanS2VTransformer3DModel

SIZES = ("480x832", "832x1216")
USUAL_MODES = ("exact", "fp8")
SECONDS_PER_PIXEL = 0.9e-4
"""Of what is measured of the first size, roughly; others take 0.6 of it. What there is no time for is left out."""

RESERVED_SECONDS = 60.0
"""For what comes after a further size of a mode that is not the last."""

ENDING_SECONDS = 20.0
"""That a process may take to end."""


class SilentRanks(Ranks):
    """Ranks that exchange nothing: what a rank would send takes the place of what it would get."""

    def all_to_all(self, send: Tensor, counts: list[int], received: list[int]) -> Arrival:
        """At once; as many elements as would come."""
        del counts
        return lambda: send.view(-1)[: sum(received)]


@dataclass(frozen=True)
class Case:
    """One mode and size."""

    bench: Bench
    model: WanS2VTransformer3DModel
    conditions: ClipConditions
    latents: Tensor
    t: Tensor
    name: str
    is_first: bool  # size of the mode: all is measured, else the ratios alone, once

    @property
    def repeat(self) -> int:
        """How often each figure is measured; the best counts."""
        return int(self.bench.options.repeat) if self.is_first else 1

    def denoiser(self, mesh: Mesh | None, branches: int = 2) -> Denoiser:
        """The transformer, divided as `mesh` says, with the clip's conditioning."""
        known = self.conditions
        denoiser = LocalDenoiser(self.model, mesh=mesh)
        denoiser.condition(replace(known, texts=known.texts[:branches], sounds=known.sounds[:branches]))
        return denoiser

    def work(self, denoiser: Denoiser, count: int, mesh: Mesh | None = None) -> Work:
        """A step: with a mesh the latents come from the first rank, as in a render."""

        def step() -> list[Tensor]:
            latents = self.latents
            if mesh is not None:
                mesh.everyone.from_first(latents)
            return denoiser(latents, self.t, count)

        return step

    def measure(self) -> None:
        """All figures of it."""
        bench, say = self.bench, self.bench.say
        one = self.denoiser(None)
        self.warm_up(one)
        step, expected = bench.alone(f"{self.name} step", self.work(one, 2), self.repeat)
        say(f"{self.name}: a guided step on one GPU {step:.3f} s")
        single = step / 2
        if self.is_first:
            single, _ = bench.alone(f"{self.name} pass", self.work(one, 1), self.repeat)
            say(f"{self.name}: a pass on one GPU {single:.3f} s; {self.launches(one, 1)}")

        how = "guidance apart" if bench.options.gpus == 2 else f"guidance × {bench.options.gpus // 2} of tokens"
        taken, made = self.divided(bench.guidance, 2)
        error = max(map(relative, made, expected)) if expected else 0.0
        say(f"{self.name}: {how} {taken:.3f} s per step, {step / taken:.3f} ×; error {error:.2e}")

        shared = self.denoiser(bench.tokens)
        self.work(shared, 1, bench.tokens)()
        taken, made = bench.together(self.work(shared, 1, bench.tokens), self.repeat)
        error = max(map(relative, made, expected[:1])) if expected else 0.0
        say(f"{self.name}: tokens alone {taken:.3f} s per pass, {single / taken:.3f} ×; error {error:.2e}")
        if self.is_first:
            say(f"{self.name}: tokens alone, {self.launches(shared, 1, bench.tokens)}")
            both, _ = bench.together(self.work(shared, 2, bench.tokens), self.repeat)
            say(f"{self.name}: tokens of a guided step {both:.3f} s, {step / both:.3f} ×")
            self.where_the_rest_goes(single, taken)

    def divided(self, mesh: Mesh, count: int) -> tuple[float, list[Tensor]]:
        """Seconds and results of a step of `count` branches, divided as `mesh` says."""
        work = self.work(self.denoiser(mesh, count), count, mesh)
        work()
        return self.bench.together(work, self.repeat)

    def warm_up(self, denoiser: Denoiser) -> None:
        """Compile and choose kernels, on each GPU by itself."""
        begun = time.perf_counter()
        denoiser(self.latents, self.t, 1)
        wait(self.bench.device)
        self.bench.say(f"{self.name}: first pass, kernels compiled {time.perf_counter() - begun:.1f} s")

    def launches(self, denoiser: Denoiser, count: int, mesh: Mesh | None = None) -> str:
        """How long Python takes to launch a pass. On all GPUs, where there is a mesh, else on each alone."""
        wait(self.bench.device)
        begun = time.perf_counter()
        self.work(denoiser, count, mesh)()
        given = time.perf_counter() - begun
        wait(self.bench.device)
        return f"given to the GPU in {given:.3f} s"

    def where_the_rest_goes(self, single: float, shared: float) -> None:
        """Of a pass with its tokens divided: what is not a rank's share of a pass."""
        bench, tokens = self.bench, self.bench.tokens
        silent = SilentRanks(tokens.tokens.rank, tokens.tokens.size, tokens.tokens.place, tokens.tokens.group)
        quiet = self.denoiser(replace(tokens, tokens=silent))
        taken, _ = bench.together(self.work(quiet, 1, tokens), self.repeat)
        bench.say(
            f"{self.name}: of {shared:.3f} s share of a pass {single / silent.size:.3f}, more arithmetic and copies "
            f"{taken - single / silent.size:+.3f}, communication that nothing hides {shared - taken:+.3f}"
        )
        self.exchanges(silent)

    def exchanges(self, silent: Ranks) -> None:
        """All exchanges of a pass one after the other, with nothing to hide them."""
        bench, model = self.bench, self.model
        length = self.own_tokens()  # and the exchange is the real one again
        heads, width = int(model.config["num_attention_heads"]), model.head_width
        first: Any = next(iter(model.blocks))
        x = torch.randn(1, length, heads, width, device=bench.device, dtype=model.compute_dtype)
        exchange = first.attn1.exchange
        blocks = len(model.blocks)

        def travel() -> list[Tensor]:
            with mock.patch.object(exchange_module, "attend", lambda query, *_: query):
                for _ in range(blocks):
                    exchange.attend(x, lambda: x, lambda: x, Kernel.SDPA)
            return []

        travel()
        taken, _ = bench.together(travel, self.repeat)
        sent = blocks * 4 * x.numel() * x.element_size() * (silent.size - 1) / silent.size
        bench.say(
            f"{self.name}: all exchanges of a pass by themselves {taken:.3f} s with their copies, {sent / 1e9:.1f} GB "
            f"sent by each: {sent / taken / 1e9:.0f} GB/s"
        )

    def own_tokens(self) -> int:
        """Of a rank, padding included."""
        found: Any = self.denoiser(self.bench.tokens, branches=1)
        (branch,) = found._branches.values()
        return int(branch.own.rotary.cos.shape[0])


def draw_conditions(model: WanS2VTransformer3DModel, size: str, device: torch.device) -> tuple[ClipConditions, Tensor]:
    """Of a later clip, and its latents."""
    height, width = map(int, size.split("x"))
    inputs = draw_inputs(model, height, width, device)
    _, *latent_size = inputs["latents"].shape
    conditions = ClipConditions(
        clip=1,
        size=(latent_size[0], latent_size[1], latent_size[2]),
        texts=(inputs["text"], inputs["text"].flip(0)),
        sounds=(inputs["audio"], torch.zeros_like(inputs["audio"])),
        reference=inputs["reference"],
        motion=inputs["motion"],
        pose=None,
    )
    return conditions, inputs["latents"]


def kernels_apart(case: Case) -> None:
    """How far two exact attention kernels are from each other on one GPU: what rounding alone does."""
    bench, model = case.bench, case.model
    exact = (Kernel.CUDNN, Kernel.FLASH)  # "sdpa" may be either of them
    usable = [k for k in exact if why_not(k, bench.device, model.compute_dtype, model.head_width) is None]
    if len(usable) < 2:
        bench.say(f"{case.name}: cuDNN and flash attention do not both run here")
        return

    def work() -> list[Tensor]:
        made = []
        one = case.denoiser(None, branches=1)
        for kernel in usable:
            model.use_attention(kernel)
            made.append(one(case.latents, case.t, 1)[0])
        model.use_attention("auto")
        return made

    if bench.rank == 0:
        first, second = work()
        bench.say(f"{case.name}: {usable[0]} and {usable[1]} on one GPU: error {relative(second, first):.2e}")
    bench.agree(f"{case.name} kernels", lambda: True)


def run(bench: Bench) -> None:
    """Everything, in one process."""
    options, device = bench.options, bench.device
    for size in options.sizes if options.pictures else []:
        measure_pictures(bench, size)
    if not options.modes:
        return
    begun = time.perf_counter()
    tiny = {**TINY, "num_attention_heads": options.gpus}
    model = build(device, torch.float32 if options.tiny else torch.bfloat16, tiny if options.tiny else {})
    bench.say(f"transformer made in {time.perf_counter() - begun:.1f} s")
    for mode in (mode for mode in MODES if mode.name in options.modes):
        with mode_of(model, mode, device):
            for number, size in enumerate(options.sizes):
                measure_size(bench, model, mode, size, is_first=number == 0)


def measure_size(bench: Bench, model: WanS2VTransformer3DModel, mode: Mode, size: str, *, is_first: bool) -> None:
    """One mode and size, if there is time."""
    name = f"{mode.name} {size}"
    height, width = map(int, size.split("x"))
    needed = SECONDS_PER_PIXEL * height * width * (1.0 if is_first else 0.6)
    if not is_first and mode.name != bench.options.modes[-1]:
        needed += RESERVED_SECONDS
    needed = 0.0 if bench.options.tiny else needed
    if not bench.agree(f"{name}?", lambda: time.monotonic() + needed < bench.ends):
        bench.say(f"{name}: left out, there is no time for it")
        return
    if bench.device.type == "cuda":
        torch.cuda.empty_cache()
    conditions, latents = draw_conditions(model, size, bench.device)
    case = Case(bench, model, conditions, latents, torch.tensor(500.0, device=bench.device), name, is_first)
    case.measure()
    if is_first and mode.name == "exact":
        kernels_apart(case)


def process(rank: int, options: argparse.Namespace, port: int, ends: float) -> None:
    """The whole life of one of them."""
    prepare_environment()
    device = torch.device("cpu") if options.device == "cpu" else torch.device("cuda", rank)
    if device.type == "cuda":
        torch.cuda.set_device(device)
        torch.set_num_threads(max(1, torch.get_num_threads() // (options.gpus if rank else 1)))  # as a render's
    else:
        torch.set_num_threads(1)
    try:
        devices = tuple(device if device.type == "cpu" else torch.device("cuda", k) for k in range(options.gpus))
        team = Team(devices=devices, guidance=2, tokens=options.gpus // 2)
        store = TCPStore(LOOPBACK, port, is_master=False)
        begun = time.perf_counter()
        guidance = meet(Seat(rank=rank, team=team, port=port, time_limit=options.limit), store)
        tokens = connect(rank, 1, options.gpus, device)
        bench = Bench(rank, device, store, guidance, tokens, options, ends)
        bench.say(f"processes met in {time.perf_counter() - begun:.1f} s")
        with torch.inference_mode():
            run(bench)
        bench.say("done")
        sys.stdout.flush()
        bench.agree("end", lambda: True)
    except BaseException:  # noqa: BLE001 - whatever it is, the others wait
        traceback.print_exc()
        sys.stderr.flush()
        os._exit(1)
    os._exit(0)


def all_end_well(processes: Sequence[BaseProcess], ends: float) -> bool:
    """Wait until all have ended with status 0; False as soon as one ends otherwise, or when the time is over."""
    left = list(processes)
    while left:
        happened = wait_for_any([one.sentinel for one in left], max(0.0, ends - time.monotonic()))
        ended = [one for one in left if one.sentinel in happened]
        if not ended or any(exit_status(one) != 0 for one in ended):
            return False
        left = [one for one in left if one not in ended]
    return True


def exit_status(process: BaseProcess) -> int | None:
    """Of a process whose sentinel has come, which it does before the status: how long depends on what the system takes
    back from it. None: it does not come to its end."""
    until = time.monotonic() + ENDING_SECONDS
    while process.exitcode is None and time.monotonic() < until:
        time.sleep(0.02)
    return process.exitcode


def parse_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """What to measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpus", type=int, default=2, choices=[2, 4, 8])
    parser.add_argument("--sizes", nargs="+", default=None)
    parser.add_argument("--pictures", action="store_true", help="the VAE's, too")
    parser.add_argument("--modes", nargs="*", default=USUAL_MODES, choices=[mode.name for mode in MODES])
    parser.add_argument("--repeat", type=int, default=2)
    parser.add_argument("--limit", type=float, default=380, help="seconds for everything; then all is ended")
    parser.add_argument("--tiny", action="store_true", help="sizes that a CPU runs")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu", choices=["cpu", "cuda"])
    options = parser.parse_args(arguments)
    options.sizes = options.sizes or (["64x64"] if options.tiny else list(SIZES))
    return options


def main(arguments: Sequence[str] | None = None) -> None:
    """Start all processes and see to it that they end; exit 1 unless all have done everything."""
    options = parse_options(arguments)
    ends = time.monotonic() + options.limit
    prepare_environment()
    store = open_store()
    context = multiprocessing.get_context("spawn")
    processes = [
        context.Process(target=process, args=(rank, options, store.port, ends), daemon=True)
        for rank in range(options.gpus)
    ]
    name = torch.cuda.get_device_name() if options.device == "cuda" else "CPU"
    print(f"{options.gpus} × {name}, torch {torch.__version__}", flush=True)
    for one in processes:
        one.start()
    is_done = all_end_well(processes, ends)
    for one in processes:
        one.kill()
        one.join()
    if not is_done:
        print(f"broken off after {options.limit - (ends - time.monotonic()):.0f} s", flush=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
