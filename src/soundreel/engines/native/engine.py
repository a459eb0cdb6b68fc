"""The native engine: Wan 2.2 S2V in this process, from the model's files to clips."""

import gc
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import torch

from soundreel.disk.digests import sampled_digest
from soundreel.engines.base import Estimate
from soundreel.engines.native.block_placement import load_transformer
from soundreel.engines.native.clips import ClipRenderer, next_motion
from soundreel.engines.native.device import (
    compute_dtype,
    head_width,
    release_memory,
    runs_aside,
    vae_dtype,
)
from soundreel.engines.native.inputs import (
    to_uint8,
)
from soundreel.engines.native.memory import capped, choose_memory
from soundreel.engines.native.prepared import Setting, any_plan, find_files, forecast, plan_schedule, saving_of
from soundreel.engines.native.preview import open_previewer, preview_note
from soundreel.engines.native.progress import StepClock, report_loading, report_steps, show_picture
from soundreel.engines.native.scene import MOTION, motion_before, next_input, pose_match, poses, prepare_scene
from soundreel.engines.native.vae import Vae
from soundreel.media.pose import PoseMatch, missing_pose_seconds
from soundreel.media.video import probe_video
from soundreel.models.attention import choose_kernel
from soundreel.models.devices import pick_device
from soundreel.request import Request
from soundreel.types import Carry, Plan, RenderedClip, Report
from soundreel.weights.components import check_model
from soundreel.weights.lora_files import LoraSource, lora_file
from soundreel.weights.precision import check_precision

TURBO_NEEDS_WEIGHTS = (
    "turbo takes few-step weights: without their LoRA (--lora FILE, as "
    "wan2.2_t2v_lightx2v_4steps_lora_v1.1_high_noise.safetensors) four steps give unfinished pictures"
)


class NativeEngine:
    """Renders with the 14B model in this process, on one device."""

    name = "native"
    equal_clips = False

    def check(self, request: Request) -> None:
        """Raise for wrong options, missing weights and too little memory; no weight is read."""
        plan_schedule(request)
        for source in map(LoraSource.parse, request.loras):
            lora_file(source.path)
        if request.pose_video is not None:
            probe_video(request.pose_video)
        files, device = find_files(request), pick_device(request.device)
        check_model(files)
        check_precision(request.precision, device)
        choose_kernel(request.attention, device, compute_dtype(device), head_width(files))
        choose_memory(files, any_plan(request), device)

    def estimate(self, plan: Plan) -> Estimate:
        """From the plan's arithmetic and what this machine was measured to attain."""
        device, files = pick_device(plan.request.device), find_files(plan.request)
        memory = choose_memory(files, plan, device)
        seconds, basis = forecast(plan, files, device, memory)
        return Estimate(
            seconds=seconds.total,
            memory_bytes=memory.peak_bytes,
            seconds_basis=basis,
            memory_mode=memory.says(),
        )

    def model_files(self, request: Request) -> Mapping[str, str]:
        """The parts that `find_files` finds, in which form they compute, and the LoRAs with their strengths."""
        files = find_files(request)
        is_rounded = choose_memory(files, any_plan(request), pick_device(request.device)).rounds
        forms = {"matrices": "rounded to fp8"} if is_rounded else {}
        parts = {f"{name} {path.name}": path for name, part in files.parts.items() for path in part.files}
        sources = enumerate(map(LoraSource.parse, request.loras), start=1)
        loras = {f"LoRA {k} × {source.strength:g} {source.path.name}": lora_file(source.path) for k, source in sources}
        return forms | {name: sampled_digest(path) for name, path in (parts | loras).items()}

    def notes(self, plan: Plan) -> Iterator[str]:
        """Say what memory is saved by, what turbo lacks, whether previews are rough, and where poses end too early."""
        request = plan.request
        yield from choose_memory(find_files(request), plan, pick_device(request.device)).notes()
        if request.turbo and not request.loras:
            yield TURBO_NEEDS_WEIGHTS
        rough = preview_note(request.models) if request.preview else None
        if rough is not None:
            yield rough
        if request.pose_video is None:
            return
        match, lead_in = pose_match(request), plan.clips[0].lead_in
        sizes = [clip.size for clip in plan.clips]
        missing = missing_pose_seconds(request.pose_video, sizes, match=match, lead_in=lead_in)
        if missing > 0:
            then = "there is no pose" if match is PoseMatch.REFERENCE else "its last pose is held"
            yield f"the pose video is {missing:.2f} s shorter than the render: for that long {then}"

    @torch.inference_mode()
    def render(
        self, plan: Plan, start: int, carry: Carry | None, report: Report, scratch: Path
    ) -> Iterator[RenderedClip]:
        """Yield the clips from index `start` on; the carry holds the motion frames."""
        request = plan.request
        device, files = pick_device(request.device), find_files(request)
        memory = choose_memory(files, plan, device)
        try:
            with capped(device, memory):
                previewer = open_previewer(request.models, scratch, device) if request.preview else None
                setting = Setting(files=files, device=device, memory=memory, previewer=previewer)
                yield from self._clips(plan, start, carry, report, setting)
        finally:
            gc.collect()  # what waited in host memory is in cycles with the blocks that it waited for
            release_memory(device)

    @torch.inference_mode()
    def _clips(
        self, plan: Plan, start: int, carry: Carry | None, report: Report, setting: "Setting"
    ) -> Iterator[RenderedClip]:
        request, files, device, memory = plan.request, setting.files, setting.device, setting.memory
        loading = report_loading(report)
        scene = prepare_scene(plan, files, device, loading, memory)
        vae = Vae.load(files, dtype=vae_dtype(request.vae_precision, device), on_load=loading)
        vae.most_at_once = memory.vae_step or vae.most_at_once
        transformer = load_transformer(files, request, device, loading, memory)
        schedule = plan_schedule(request)
        renderer = ClipRenderer(
            transformer=transformer,
            vae=vae,
            scene=scene,
            schedule=schedule,
            guide_scale=request.guide_scale,
            device=device,
            saving=saving_of(request),
            together=memory.together,
        )
        show = None if setting.previewer is None else partial(show_picture, setting.previewer, renderer)
        motion, clock = motion_before(plan, start, carry, scene), StepClock(forecast(plan, files, device, memory)[0])
        upcoming = zip(plan.clips[start:], poses(plan, start), strict=True)
        given = next_input(plan, upcoming, motion)
        while given is not None:
            clip = given.clip
            on_step = report_steps(plan, clip, schedule.steps, report, clock, show)
            pixels = renderer.render(given, request.height, request.width, on_step)[:, : clip.frames]
            motion = next_motion(motion, pixels)
            frames = to_uint8(pixels)
            del pixels  # the pipeline is about to hold its uint8 copy
            facts = {"passes_spared": renderer.spared} if renderer.spared else {}
            given = next_input(plan, upcoming, motion)
            if given is not None and runs_aside(device):
                renderer.begin(given, request.height, request.width)
            yield RenderedClip(clip=clip, frames=frames, carry=Carry(tensors={MOTION: motion.numpy()}), facts=facts)
            del frames
            gc.collect()  # the networks leave cycles that hold a clip's tensors: 90 MB at 64×64
