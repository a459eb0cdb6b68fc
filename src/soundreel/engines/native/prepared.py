"""What a native render is computed with, decided once: files, device, memory, noise levels, and what it will take."""

from dataclasses import dataclass
from functools import partial

import torch

from soundreel import planning
from soundreel.engines.native.calibration import find_speeds
from soundreel.engines.native.cost import Forecast, clip_seconds
from soundreel.engines.native.device import (
    compute_dtype,
    transformer_sizes,
    vae_dtype,
)
from soundreel.engines.native.memory import MemoryPlan
from soundreel.engines.native.passes import Saving
from soundreel.engines.native.preview import Previewer
from soundreel.models.attention import choose_kernel
from soundreel.presets import TURBO_SIGMAS, default_shift
from soundreel.request import Precision, Request, VaePrecision
from soundreel.sampling import Schedule, explicit_schedule, shifted_schedule
from soundreel.types import Plan
from soundreel.units import MODEL_FPS
from soundreel.weights.catalog import Component
from soundreel.weights.find import ModelFiles, find_model
from soundreel.weights.identify import Storage
from soundreel.weights.quantized import has_float8_products


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


def any_plan(request: Request) -> Plan:
    """A plan before the sound's length is known: two clips of it, where the request does not say how long."""
    return planning.plan(request, request.audio_start + 2 * request.infer_frames / MODEL_FPS)


def plan_schedule(request: Request) -> Schedule:
    """The noise levels of every clip."""
    sigmas = request.sigmas or (TURBO_SIGMAS if request.turbo else None)
    if sigmas is not None:
        return explicit_schedule(sigmas)
    shift = default_shift(request.width, request.height) if request.shift is None else request.shift
    return shifted_schedule(request.solver, steps=request.steps, shift=shift)


def saving_of(request: Request) -> Saving:
    """Which passes the request lets a clip do without."""
    return Saving(dial=request.cache, guided=request.cfg_interval)


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
