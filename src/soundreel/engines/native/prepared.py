"""What a native render is computed with, decided once: what decides its pixels, and where on this machine they come."""

import dataclasses
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Self, TypeVar

import torch

from soundreel.engines.base import Identity, Prepared
from soundreel.engines.native.calibration import Basis, attention_speeds, find_speeds
from soundreel.engines.native.cost import ALL, Forecast, clip_seconds
from soundreel.engines.native.demand import demand, weigh
from soundreel.engines.native.device import compute_dtype, has_own_convolutions, transformer_sizes, vae_dtype
from soundreel.engines.native.links import HOST, NO_PEERS, links_between
from soundreel.engines.native.memory import choose_memory
from soundreel.engines.native.memory_plan import Bits, MemoryPlan
from soundreel.engines.native.passes import PassOptions
from soundreel.engines.native.preview import preview_note
from soundreel.engines.native.shared_cost import share_of
from soundreel.engines.native.team import Team, choose_team
from soundreel.engines.shot_poses import missing_poses, pose_videos
from soundreel.errors import EngineError, InputError
from soundreel.media.pose import PoseMatch
from soundreel.media.video import probe_video
from soundreel.models.attention import Kernel, choose_kernel
from soundreel.models.devices import pick_device
from soundreel.models.transformer import WanS2VTransformer3DModel
from soundreel.request import AvAlign, Precision, Request, VaePrecision
from soundreel.request.presets import TURBO_SIGMAS, default_shift
from soundreel.sampling import Schedule, explicit_schedule, shifted_schedule
from soundreel.types import Plan
from soundreel.weights.catalog import Component
from soundreel.weights.components import Outline, outline_model
from soundreel.weights.find import ModelFiles, find_model
from soundreel.weights.identify import Storage
from soundreel.weights.lora import Lora, open_lora
from soundreel.weights.lora_files import LoraSource, lora_file
from soundreel.weights.precision import check_precision
from soundreel.weights.quantized import has_float8_products

T = TypeVar("T")

TURBO_NEEDS_WEIGHTS: Final = (
    "turbo takes few-step weights: without their LoRA (--lora FILE, as "
    "wan2.2_t2v_lightx2v_4steps_lora_v1.1_high_noise.safetensors) four steps give unfinished pictures"
)


@dataclass(frozen=True, kw_only=True)
class Arithmetic:
    """What decides the pixels beside request, inputs and weights; kept as the render's identity."""

    device: str  # kind: cuda, cpu, mps
    attention: Kernel
    products: Precision  # of the large products: bf16, or float8 for all (fp8) or where the weights are in it (auto)
    vae: VaePrecision  # fp32 or bf16
    bits: Bits

    def as_identity(self) -> Identity:
        """Ready for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_identity(cls, kept: Identity) -> Self:
        """What `as_identity` gave; `InputError` for anything else."""
        try:
            return cls(
                device=str(kept["device"]),
                attention=Kernel(kept["attention"]),
                products=Precision(kept["products"]),
                vae=VaePrecision(kept["vae"]),
                bits=Bits(**kept["bits"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(
                f"what the render was begun with cannot be read ({error}): begin anew, --no-resume"
            ) from error


@dataclass(frozen=True, kw_only=True)
class PrintPlacement:
    """Where latents become pictures, and in what pieces."""

    files: ModelFiles
    device: torch.device
    memory: MemoryPlan
    vae_dtype: torch.dtype
    stands_in: str = ""  # how pictures are made, where the device is not of the kind that the render was begun on


@dataclass(frozen=True, kw_only=True)
class Placement(PrintPlacement):
    """Where a render is computed, and what lies where."""

    loras: tuple[Lora, ...]  # opened; their tensors are read when the transformer is loaded
    sizes: Mapping[str, Any]  # configuration of the transformer
    arithmetic: Arithmetic
    team: Team  # what computes the passes; the rest is `device`'s alone


def prepare(plan: Plan, kept: Identity | None = None, held: Callable[[torch.device], int] | None = None) -> Prepared:
    """Check all that can fail before weights are read, and decide what is computed and where.

    Args:
        kept: what was decided when the render was begun; it is followed.
        held: bytes of a device that networks of renders before hold; None: none stay.

    Raises:
        InputError: options that do not go together or not here, or unreadable files.
        WeightsError: model files that are missing, damaged or do not fit together.
        EngineError: too little memory, or `kept` cannot be followed on this machine.
    """
    request = plan.request
    plan_schedule(request)
    sources = [LoraSource.parse(text) for text in request.compute.loras]
    for source in sources:
        lora_file(source.path)
    for path in pose_videos(plan):
        probe_video(path)
    files, device = find_files(request), pick_device(request.compute.device)
    outlines = outline_model(files)
    loras = _open_loras(sources, outlines[Component.TRANSFORMER])
    sizes = transformer_sizes(files[Component.TRANSFORMER])
    team = choose_team(request, device, sizes["num_attention_heads"])
    device = team.devices[0]
    bound = None if kept is None else Arithmetic.from_identity(kept)
    kernel = _kernel(request, device, sizes, bound)
    vae = _vae_precision(request, device) if bound is None else bound.vae
    if bound is not None:
        follow_convolutions(bound, device)
    check_precision(request.compute.precision, device)
    weights = weigh(outlines, device, vae)
    asked = demand(plan, sizes, device, kernel=kernel, vae=vae, workers=team.size - 1)
    bits = None if bound is None else bound.bits
    memory = choose_memory(weights, asked, request, device, bits, None if held is None else held(device))
    products = _products(request, files, device, memory) if bound is None else bound.products
    if bound is not None and products is not Precision.BF16:
        _follow(partial(check_precision, Precision.FP8, device))
    arithmetic = Arithmetic(device=device.type, attention=kernel, products=products, vae=vae, bits=memory.bits)
    return Prepared(
        plan=plan,
        identity=arithmetic.as_identity(),
        placement=Placement(
            files=files,
            loras=loras,
            device=device,
            memory=memory,
            vae_dtype=vae_dtype(vae, device),
            sizes=sizes,
            arithmetic=arithmetic,
            team=team,
        ),
        notes=(*_notes(plan, memory), *_link_notes(team), *(note for lora in loras for note in lora.notes)),
        memory_bytes=memory.peak_bytes,
        memory_mode=memory.says(),
        devices=team.says(),
        host_bytes=memory.host_bytes,
        host_locked_bytes=memory.locked_bytes,
    )


def _link_notes(team: Team) -> tuple[str, ...]:
    """Where tokens are divided by GPUs that reach each other's memory only through the host's."""
    return (NO_PEERS,) if team.gains and team.tokens > 1 and links_between(team.devices) is HOST else ()


def _open_loras(sources: Sequence[LoraSource], transformer: Outline) -> tuple[Lora, ...]:
    assert isinstance(transformer.network, WanS2VTransformer3DModel)
    return tuple(open_lora(source, transformer.network) for source in sources)


def _kernel(request: Request, device: torch.device, sizes: Mapping[str, Any], bound: Arithmetic | None) -> Kernel:
    choose = partial(choose_kernel, device=device, dtype=compute_dtype(device), head_width=sizes["attention_head_dim"])
    if bound is None:
        return choose(request.compute.attention, speeds=attention_speeds(device))
    if bound.device != device.type:
        raise EngineError(
            f"the render was begun on {bound.device}, here it would go on on {device.type}, which rounds otherwise: go "
            "on with --device, or begin anew with --no-resume"
        )
    return _follow(partial(choose, bound.attention))


def _follow(choose: Callable[[], T]) -> T:
    """A choice that was made when the render was begun; `EngineError` where this machine cannot follow it."""
    try:
        return choose()
    except InputError as error:
        raise EngineError(f"the render cannot go on here as it was begun: {error}; --no-resume begins anew") from error


def follow_convolutions(bound: Arithmetic, device: torch.device) -> None:
    """Raise `EngineError` where the VAE's convolutions are not those that a render was begun with."""
    own = has_own_convolutions(device, vae_dtype(bound.vae, device))
    if own == (bound.bits.vae_ways is None):
        return
    then, here = ("PyTorch's convolutions", "soundreel's own") if own else ("soundreel's own convolutions", "PyTorch's")
    raise EngineError(
        f"the render cannot go on here as it was begun: its VAE ran with {then}, here {here} run, which round "
        "otherwise; --no-resume begins anew"
    )


def _vae_precision(request: Request, device: torch.device) -> VaePrecision:
    is_whole = vae_dtype(request.compute.vae_precision, device) is torch.float32
    return VaePrecision.FP32 if is_whole else VaePrecision.BF16


def _products(request: Request, files: ModelFiles, device: torch.device, memory: MemoryPlan) -> Precision:
    """What the transformer's large products are computed in."""
    wanted = request.compute.precision
    if wanted is Precision.BF16 or not has_float8_products(device):
        return Precision.BF16
    is_stored = files[Component.TRANSFORMER].storage is Storage.FP8
    return wanted if wanted is Precision.FP8 or memory.rounds or is_stored else Precision.BF16


def _notes(plan: Plan, memory: MemoryPlan) -> Iterator[str]:
    """Say what memory is saved by, what turbo lacks, whether previews are rough, and where poses end too early."""
    request = plan.request
    yield from memory.notes()
    if request.sampling.turbo and not request.compute.loras:
        yield TURBO_NEEDS_WEIGHTS
    rough = preview_note(request.compute.models) if request.output.preview else None
    if rough is not None:
        yield rough
    match = pose_match(request)
    then = "there is no pose" if match is PoseMatch.REFERENCE else "its last pose is held"
    for video, what, missing in missing_poses(plan, match):
        yield f"{video} is {missing:.2f} s shorter than the {what}: for that long {then}"


def find_files(request: Request, components: Collection[Component] = tuple(Component)) -> ModelFiles:
    """The model's files, in the places that the request names or else in the default one."""
    places = [] if request.compute.models is None else [request.compute.models]
    return find_model(*places, components=components)


def pose_match(request: Request) -> PoseMatch:
    """Which pose goes with which frame."""
    return PoseMatch.REFERENCE if request.guide.av_align is AvAlign.REFERENCE else PoseMatch.TIME


def plan_schedule(request: Request) -> Schedule:
    """The noise levels of every clip."""
    sigmas = request.sampling.sigmas or (TURBO_SIGMAS if request.sampling.turbo else None)
    if sigmas is not None:
        return explicit_schedule(sigmas)
    shift = default_shift(request.width, request.height) if request.sampling.shift is None else request.sampling.shift
    return shifted_schedule(request.sampling.solver, steps=request.sampling.steps, shift=shift)


def pass_options(request: Request) -> PassOptions:
    """Which forward passes the request lets a clip do without."""
    return PassOptions(cache_threshold=request.sampling.cache, guidance_interval=request.sampling.cfg_interval)


def speeds_of(placement: Placement) -> Basis:
    """What the placement's device attains with its arithmetic."""
    arithmetic = placement.arithmetic
    precision = Precision.BF16 if arithmetic.products is Precision.BF16 else Precision.FP8
    return find_speeds(placement.device, precision=precision, kernel=arithmetic.attention, vae=arithmetic.vae)


def forecast(
    plan: Plan, placement: Placement, basis: Basis | None = None, *, alone: bool = False
) -> tuple[Forecast, str]:
    """What a render takes, and what that is known from.

    Args:
        basis: of `speeds_of`, where it is known already.
        alone: on one device of the team.
    """
    files, memory, arithmetic, team = placement.files, placement.memory, placement.arithmetic, placement.team
    basis = basis or speeds_of(placement)
    speeds = basis.speeds
    read = sum(path.stat().st_size for part in files.parts.values() for path in part.files)
    links = None if alone or not team.gains else links_between(team.devices)
    share = ALL
    if links is not None:
        is_float8 = arithmetic.attention is Kernel.FP8
        size = {"guidance": team.guidance, "tokens": team.tokens}
        share = share_of(placement.sizes, **size, links=links, float8_attention=is_float8)
    seconds = partial(
        clip_seconds,
        plan,
        sizes=placement.sizes,
        speeds=speeds,
        steps=plan_schedule(plan.request).steps,
        float8=arithmetic.products is not Precision.BF16,
        streamed_bytes=memory.streamed_bytes,
        together=memory.together,
        share=share,
    )
    clips = tuple(seconds(clip) for clip in plan.clips)
    says = basis.says if links is None else f"{basis.says}, GPUs over {links.says}"
    return Forecast(load=speeds.start + read / speeds.read, clips=clips), says
