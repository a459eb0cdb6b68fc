"""The native engine: Wan 2.2 S2V in this process, from the model's files to clips."""

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from soundreel import planning
from soundreel.devices import pick_device
from soundreel.digests import sampled_digest
from soundreel.engines.base import Estimate
from soundreel.engines.native.arrival import Arrival
from soundreel.engines.native.calibration import find_speeds
from soundreel.engines.native.clips import ClipInput, ClipRenderer, Scene, first_motion, next_motion
from soundreel.engines.native.cost import Forecast, clip_seconds
from soundreel.engines.native.device import (
    compute_dtype,
    head_width,
    release_memory,
    runs_aside,
    transformer_sizes,
    vae_dtype,
)
from soundreel.engines.native.inputs import (
    fit_reference,
    pose_windows,
    to_pixels,
    to_uint8,
)
from soundreel.engines.native.long_sound import encode_columns, survey
from soundreel.engines.native.memory import EVERYTHING, MemoryPlan, capped, choose_memory
from soundreel.engines.native.passes import PassOptions
from soundreel.engines.native.preview import STEPS_BETWEEN, Previewer, open_previewer, preview_note
from soundreel.engines.native.sound import SoundEncoder, lead_in_shift
from soundreel.engines.native.sound_store import StoredSound, cached_features, features_key
from soundreel.engines.native.text import TextEncoder
from soundreel.engines.native.vae import Vae
from soundreel.media.audio import model_sound_blocks
from soundreel.media.image import cover, load_image, load_plain_image
from soundreel.media.pose import PoseMatch, missing_pose_seconds
from soundreel.media.video import probe_video
from soundreel.models.attention import choose_kernel
from soundreel.models.transformer import WanS2VTransformer3DModel
from soundreel.presets import DEFAULT_NEGATIVE_PROMPT, DEFAULT_PROMPT, TURBO_SIGMAS, default_shift
from soundreel.sampling import Schedule, explicit_schedule, shifted_schedule
from soundreel.types import (
    MODEL_FPS,
    AvAlign,
    Carry,
    Clip,
    Plan,
    Precision,
    Progress,
    RefFit,
    RenderedClip,
    Report,
    Request,
    Stage,
    VaePrecision,
)
from soundreel.weights.catalog import Component
from soundreel.weights.components import check_model, load_part, outline_part
from soundreel.weights.find import ModelFiles, find_model
from soundreel.weights.identify import Storage
from soundreel.weights.load import LoadProgress, OnLoad
from soundreel.weights.lora import apply_loras, open_lora
from soundreel.weights.lora_files import LoraSource, lora_file
from soundreel.weights.precision import check_precision, set_precision
from soundreel.weights.quantized import has_float8_products

AFTERSOUND_SECONDS = 0.04
"""Sound heard after the window: features are rounded to 1/30 s, and the last frame's own must not be missing."""

REPORTED_SHARE = 0.02
"""Of a network's bytes, how many more are read between two reports."""

TURBO_NEEDS_WEIGHTS = (
    "turbo takes few-step weights: without their LoRA (--lora FILE, as "
    "wan2.2_t2v_lightx2v_4steps_lora_v1.1_high_noise.safetensors) four steps give unfinished pictures"
)

MOTION = "motion"
"""Name of the carry's tensor: the motion frames for the next clip, float32 [3, 73, H, W]."""


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
        choose_memory(files, _any_plan(request), device)

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
        is_rounded = choose_memory(files, _any_plan(request), pick_device(request.device)).rounds
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
        match, lead_in = _pose_match(request), plan.clips[0].lead_in
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
        loading = _loading(report)
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
            passes=pass_options(request),
            together=memory.together,
        )
        show = None if setting.previewer is None else partial(_show, setting.previewer, renderer)
        motion, clock = motion_before(plan, start, carry, scene), StepClock(forecast(plan, files, device, memory)[0])
        upcoming = zip(plan.clips[start:], poses(plan, start), strict=True)
        given = _next_input(plan, upcoming, motion)
        while given is not None:
            clip = given.clip
            on_step = _stepping(plan, clip, schedule.steps, report, clock, show)
            pixels = renderer.render(given, request.height, request.width, on_step)[:, : clip.frames]
            motion = next_motion(motion, pixels)
            frames = to_uint8(pixels)
            del pixels  # the pipeline is about to hold its uint8 copy
            facts = {"passes_spared": renderer.passes_saved} if renderer.passes_saved else {}
            given = _next_input(plan, upcoming, motion)
            if given is not None and runs_aside(device):
                renderer.begin(given, request.height, request.width)
            yield RenderedClip(clip=clip, frames=frames, carry=Carry(tensors={MOTION: motion.numpy()}), facts=facts)
            del frames
            gc.collect()  # the networks leave cycles that hold a clip's tensors: 90 MB at 64×64


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What a render computes with and where."""

    files: ModelFiles
    device: torch.device
    memory: MemoryPlan
    previewer: Previewer | None


def find_files(request: Request) -> ModelFiles:
    """The model's files, in the places that the request names or else in the default one."""
    return find_model(*([] if request.models is None else [request.models]))


def _any_plan(request: Request) -> Plan:
    """A plan before the sound's length is known: two clips of it, where the request does not say how long."""
    return planning.plan(request, request.audio_start + 2 * request.infer_frames / MODEL_FPS)


def plan_schedule(request: Request) -> Schedule:
    """The noise levels of every clip."""
    sigmas = request.sigmas or (TURBO_SIGMAS if request.turbo else None)
    if sigmas is not None:
        return explicit_schedule(sigmas)
    shift = default_shift(request.width, request.height) if request.shift is None else request.shift
    return shifted_schedule(request.solver, steps=request.steps, shift=shift)


def pass_options(request: Request) -> PassOptions:
    """Which forward passes the request lets a clip do without."""
    return PassOptions(cache_threshold=request.cache, guidance_interval=request.cfg_interval)


def forecast(plan: Plan, files: ModelFiles, device: torch.device, memory: MemoryPlan) -> tuple[Forecast, str]:
    """What a render takes, and what that is known from."""
    request = plan.request
    sizes = transformer_sizes(files[Component.TRANSFORMER])
    kernel = choose_kernel(request.attention, device, compute_dtype(device), int(sizes["attention_head_dim"]))
    float8 = computes_in_float8(files, request, device, memory)
    precision = Precision.FP8 if float8 else Precision.BF16
    kind = VaePrecision.FP32 if vae_dtype(request.vae_precision, device) is torch.float32 else VaePrecision.BF16
    basis = find_speeds(device, precision=precision, kernel=kernel, vae=kind)
    speeds = basis.speeds
    read = sum(path.stat().st_size for part in files.parts.values() for path in part.files)
    seconds = partial(
        clip_seconds,
        plan,
        sizes=sizes,
        speeds=speeds,
        steps=plan_schedule(request).steps,
        float8=float8,
        streamed_bytes=memory.streamed_bytes,
        together=memory.together,
    )
    clips = tuple(seconds(clip) for clip in plan.clips)
    return Forecast(load=speeds.start + read / speeds.read, clips=clips), basis.says


def computes_in_float8(files: ModelFiles, request: Request, device: torch.device, memory: MemoryPlan) -> bool:
    """Whether the transformer's large products will run in float8."""
    if request.precision is Precision.BF16 or not has_float8_products(device):
        return False
    is_stored = files[Component.TRANSFORMER].storage is Storage.FP8
    return request.precision is Precision.FP8 or memory.rounds or is_stored


def prepare_scene(
    plan: Plan,
    files: ModelFiles,
    device: torch.device,
    on_load: OnLoad | None = None,
    memory: MemoryPlan = EVERYTHING,
) -> Scene:
    """Encode words and sound; each encoder has the device to itself and leaves it."""
    request = plan.request
    prompt = request.prompt or DEFAULT_PROMPT
    negative = request.negative_prompt or DEFAULT_NEGATIVE_PROMPT
    prompts = [prompt, negative] if request.guide_scale > 1 else [prompt]
    home = torch.device("cpu") if memory.text_streamed else device
    encoder = TextEncoder.load(files, device=home, dtype=compute_dtype(device), on_load=on_load)
    if memory.text_streamed:
        encoder.stream_to(device)
    texts = [encoder.encode(text) for text in prompts]
    del encoder
    release_memory(device)
    sound = encode_sound(plan, files, device, on_load)
    release_memory(device)
    reference = None if request.ref_image is None else read_reference(request)
    return Scene(
        prompt=texts[0],
        negative=texts[1] if len(texts) > 1 else None,
        sound=sound,
        reference=reference,
    )


def encode_sound(
    plan: Plan, files: ModelFiles, device: torch.device, on_load: OnLoad | None = None
) -> Tensor | StoredSound:
    """wav2vec2 features, [S, C, sampled frames of the plan], one column per frame; on disk where they are many.

    The reference hears the whole file, whatever part of it is rendered; otherwise the window is heard.
    """
    request = plan.request
    as_reference = request.av_align is AvAlign.REFERENCE
    seconds = request.audio_duration if as_reference else plan.audio_seconds + AFTERSOUND_SECONDS
    blocks = partial(model_sound_blocks, request.audio, start=request.audio_start, seconds=seconds)
    found = survey(blocks())
    frames = sum(clip.size for clip in plan.clips)
    shift = lead_in_shift(plan.clips[0].lead_in, request.av_align)

    def encode() -> Iterator[Tensor]:
        encoder = SoundEncoder.load(files, device=device, on_load=on_load)
        yield from encode_columns(encoder, found, blocks, frames, shift)

    key = features_key(found, files[Component.AUDIO_ENCODER].files, device, frames, shift)
    return cached_features(key, encode(), frames=frames, in_memory=found.samples is not None)


def read_reference(request: Request) -> Tensor:
    """The reference image as pixels [3, 1, H, W]."""
    path, size = request.ref_image, (request.width, request.height)
    assert path is not None
    if request.ref_fit is RefFit.REFERENCE:
        picture = fit_reference(load_plain_image(path), *size)
    else:
        picture = cover(load_image(path), *size)
    return to_pixels(picture[None])


def load_transformer(
    files: ModelFiles,
    request: Request,
    device: torch.device,
    on_load: OnLoad | None = None,
    memory: MemoryPlan = EVERYTHING,
) -> WanS2VTransformer3DModel:
    """The transformer with the request's LoRAs, computing as the request says, its weights where `memory` has them."""
    part, sources = files[Component.TRANSFORMER], [LoraSource.parse(text) for text in request.loras]
    outline = outline_part(part, WanS2VTransformer3DModel)[0] if sources else None
    arrival = Arrival(memory, [] if outline is None else [open_lora(source, outline) for source in sources])
    transformer: WanS2VTransformer3DModel = load_part(
        part,
        WanS2VTransformer3DModel,
        device=device,
        dtype=compute_dtype(device),
        on_load=on_load,
        on_part=arrival,
    )
    apply_loras(transformer, arrival.loras, done=arrival.changed)
    set_precision(transformer, request.precision, device)
    transformer.use_attention(request.attention)
    arrival.settle(transformer, device)
    return transformer


def motion_before(plan: Plan, start: int, carry: Carry | None, scene: Scene) -> Tensor | None:
    """Motion frames for the clip with index `start`, pixels [3, 73, H, W]; None: nothing comes before it."""
    if start > 0:
        assert carry is not None, "clips after the first need the carry of the one before"
        return torch.from_numpy(carry.tensors[MOTION])
    if plan.request.start_from_ref:
        assert scene.reference is not None
        return first_motion(scene.reference)
    return None


def _next_input(plan: Plan, upcoming: Iterator[tuple[Clip, Tensor | None]], motion: Tensor | None) -> ClipInput | None:
    """What the next clip is rendered from; None: there is none."""
    clip, pose = next(upcoming, (None, None))
    if clip is None:
        return None
    return ClipInput(clip=clip, first_sampled=plan.first_sampled(clip), motion=motion, pose=pose)


def poses(plan: Plan, start: int) -> Iterator[Tensor | None]:
    """The pose video's window for each clip from index `start` on; None without a pose video."""
    request = plan.request
    if request.pose_video is None:
        yield from (None for _ in plan.clips[start:])
        return
    yield from pose_windows(
        request.pose_video,
        [clip.size for clip in plan.clips],
        width=request.width,
        height=request.height,
        match=_pose_match(request),
        lead_in=plan.clips[0].lead_in,
        first=start,
    )


def _pose_match(request: Request) -> PoseMatch:
    return PoseMatch.REFERENCE if request.av_align is AvAlign.REFERENCE else PoseMatch.TIME


def _loading(report: Report) -> OnLoad:
    told: dict[str, float] = {}

    def on_load(progress: LoadProgress) -> None:
        share = progress.done_bytes / progress.total_bytes
        if share < 1 and share - told.get(progress.component, -1) < REPORTED_SHARE:
            return
        told[progress.component] = share
        report(
            Progress(stage=Stage.LOAD, what=progress.component, done=progress.done_bytes, total=progress.total_bytes)
        )

    return on_load


class StepClock:
    """What is left of a render, by the forecast and how long steps really take."""

    def __init__(self, forecast: Forecast) -> None:
        self._forecast = forecast
        self._last: float | None = None
        self._spent = self._foreseen = 0.0

    def __call__(self, clip: int, step: int) -> float:
        """Seconds left after step `step`, from 1, of the clip with index `clip`."""
        now = time.monotonic()
        if self._last is not None and step > 1:  # before the first step of a clip there is more than a step
            self._spent += now - self._last
            self._foreseen += self._forecast.clips[clip].steps[step - 1]
        self._last = now
        pace = self._spent / self._foreseen if self._foreseen > 0 else 1.0
        return self._forecast.remaining(clip, step, pace)


def _show(previewer: Previewer, renderer: ClipRenderer) -> Path:
    assert renderer.picture is not None, "a step has been taken"
    return previewer.show(renderer.picture)


def _stepping(
    plan: Plan, clip: Clip, steps: int, report: Report, clock: StepClock, show: Callable[[], Path] | None
) -> Callable[[int, Tensor], None]:
    shown: list[Path] = []

    def on_step(step: int, _: Tensor) -> None:
        if show is not None and (step % STEPS_BETWEEN == 0 or step == steps):
            shown[:] = [show()]
        report(
            Progress(
                stage=Stage.RENDER,
                clip=clip.index + 1,
                clips=len(plan.clips),
                step=step,
                steps=steps,
                done=clip.index * steps + step,
                total=len(plan.clips) * steps,
                eta_seconds=clock(clip.index, step),
                preview=shown[0] if shown else None,
            )
        )

    return on_step
