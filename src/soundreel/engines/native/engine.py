"""The native engine: Wan 2.2 S2V in this process, from the model's files to clips."""

import gc
from collections.abc import Iterator, Mapping
from functools import partial

import torch

from soundreel.disk.digests import sampled_digest
from soundreel.engines.base import Estimate, HoldsNothing, Identity, Prepared, Start
from soundreel.engines.native import prepared as decisions
from soundreel.engines.native.block_placement import load_transformer
from soundreel.engines.native.clips import ClipInput, ClipRenderer, next_motion
from soundreel.engines.native.device import release_memory, runs_aside, vae_dtype
from soundreel.engines.native.inputs import to_uint8
from soundreel.engines.native.memory import capped
from soundreel.engines.native.prepared import Placement, find_files, forecast, pass_options, plan_schedule
from soundreel.engines.native.preview import open_previewer
from soundreel.engines.native.progress import RemainingTime, report_loading, report_steps, show_picture
from soundreel.engines.native.scene import MOTION, motion_before, poses, prepare_scene
from soundreel.engines.native.vae import Vae
from soundreel.request import Request
from soundreel.types import Carry, Plan, RenderedClip, Report
from soundreel.weights.lora_files import LoraSource, lora_file


class NativeEngine(HoldsNothing):
    """Renders with the 14B model in this process, on one device."""

    name = "native"
    equal_clips = False

    def model_files(self, request: Request) -> Mapping[str, str]:
        """The parts that `find_files` finds, and the LoRAs with their strengths."""
        files = find_files(request)
        parts = {f"{name} {path.name}": path for name, part in files.parts.items() for path in part.files}
        sources = enumerate(map(LoraSource.parse, request.compute.loras), start=1)
        loras = {f"LoRA {k} × {source.strength:g} {source.path.name}": lora_file(source.path) for k, source in sources}
        return {name: sampled_digest(path) for name, path in (parts | loras).items()}

    def prepare(self, plan: Plan, kept: Identity | None = None) -> Prepared:
        """Check options, files and memory, and decide all of `Placement`; no weight is read."""
        return decisions.prepare(plan, kept)

    def estimate(self, prepared: Prepared) -> Estimate:
        """From the plan's arithmetic and what this machine was measured to attain."""
        placement: Placement = prepared.placement
        seconds, basis = forecast(prepared.plan, placement)
        return Estimate(
            seconds=seconds.total,
            memory_bytes=placement.memory.peak_bytes,
            seconds_basis=basis,
            memory_mode=placement.memory.says(),
        )

    @torch.inference_mode()
    def render(self, prepared: Prepared, start: Start, report: Report) -> Iterator[RenderedClip]:
        """Yield the clips from `start` on; the carry holds the motion frames."""
        placement: Placement = prepared.placement
        try:
            with capped(placement.device, placement.memory):
                yield from _render(prepared, start, report)
        finally:
            gc.collect()  # what waited in host memory is in cycles with the blocks that it waited for
            release_memory(placement.device)


@torch.inference_mode()
def _render(prepared: Prepared, start: Start, report: Report) -> Iterator[RenderedClip]:
    plan, placement = prepared.plan, prepared.placement
    request, device, schedule = plan.request, placement.device, plan_schedule(plan.request)
    loading = report_loading(report)
    previewer = open_previewer(request.compute.models, start.scratch, device) if request.output.preview else None
    scene = prepare_scene(prepared, loading)
    vae = Vae.load(placement.files, dtype=vae_dtype(placement.arithmetic.vae, device), on_load=loading)
    vae.most_at_once = placement.memory.vae_step
    renderer = ClipRenderer(
        transformer=load_transformer(placement, request.compute.loras, loading),
        vae=vae,
        scene=scene,
        schedule=schedule,
        guide_scale=request.sampling.guide_scale,
        device=device,
        passes=pass_options(request),
        together=placement.memory.together,
    )
    show = None if previewer is None else partial(show_picture, previewer, renderer)
    left = RemainingTime(forecast(plan, placement)[0])
    upcoming = zip(plan.clips[start.index :], poses(plan, start.index), strict=True)

    def next_input(carry: Carry) -> ClipInput | None:
        clip, pose = next(upcoming, (None, None))
        if clip is None:
            return None
        motion = motion_before(plan, clip, carry, scene)
        return ClipInput(clip=clip, first_sampled=plan.first_sampled(clip), motion=motion, pose=pose)

    given = next_input(start.carry)
    while given is not None:
        clip = given.clip
        on_step = report_steps(plan, clip, schedule.steps, report, left, show)
        pixels = renderer.render(given, request.height, request.width, on_step)[:, : clip.frames]
        carry = Carry(tensors={MOTION: next_motion(given.motion, pixels).numpy()})
        frames = to_uint8(pixels)
        del pixels  # the pipeline is about to hold its uint8 copy
        facts = {"passes_spared": renderer.passes_saved} if renderer.passes_saved else {}
        given = next_input(carry)
        if given is not None and runs_aside(device):
            renderer.begin(given, request.height, request.width)
        yield RenderedClip(clip=clip, frames=frames, carry=carry, facts=facts)
        del frames
        gc.collect()  # the networks leave cycles that hold a clip's tensors: 90 MB at 64×64
