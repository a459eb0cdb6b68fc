"""The graph that renders a plan, in ComfyUI's API format, composed node by node.

Chunk k samples `clip.size` frames as size / 4 latent frames. The chunks' latents are joined and decoded once: T latent
frames in all give 4T − 3 pictures, picture j at j / 16 s. Source of the arithmetic: ComfyUI's `nodes_wan.py`.

    sound ─ encode ─┐
    words ──────────┤
    first chunk ─ sample ─┬─ extend ─ sample ─┐
                          └───────────────── join ─ … ─ first latent twice ─ decode ─ drop 4 ─ save
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from soundreel.engines.comfyui.client import Graph
from soundreel.engines.comfyui.inventory import ModelNames
from soundreel.errors import InputError
from soundreel.presets import DEFAULT_NEGATIVE_PROMPT, DEFAULT_PROMPT, default_shift
from soundreel.request import Request, Solver
from soundreel.types import Clip, Plan
from soundreel.units import FRAMES_PER_LATENT, MODEL_FPS

FIRST_FRAME_FIX_DROPS: Final = 4
"""Pictures dropped when the first latent frame is decoded twice.

A latent frame hears the sound of its last four pictures. Plainly decoded, latent i is the pictures 4i − 3 … 4i and
picture j belongs to j / 16 s. One more latent frame in front moves all of them 4 back; dropping 4 moves them home.
(ComfyUI's own template drops 3, which shows every picture 1/16 s late.)
"""

LARGEST_BATCH: Final = 4096
"""Pictures that ImageFromBatch hands on at most."""

SMALLEST_CHAINED_SIDE_PIXELS: Final = 64
"""The motion frames of an Extend node are packed 8 × 8 latent pixels to one."""

TURBO_SHIFT: Final = 8.0
"""Of the official template, with its 4-step LoRA."""

SAMPLERS: Final = {Solver.UNIPC: "uni_pc", Solver.DPMPP: "dpmpp_2m", Solver.EULER: "euler"}
SCHEDULER: Final = "simple"
"""ComfyUI's name for noise levels evenly spaced before the shift, as the official code has them."""

Link = list[Any]
"""An output of a node: [node id, slot]."""


@dataclass(frozen=True, kw_only=True)
class Material:
    """What was uploaded for a plan, by the names that the server gave."""

    sound: str
    reference: str | None = None
    poses: Sequence[str] = ()  # a video for each clip


@dataclass(frozen=True, kw_only=True)
class Saving:
    """How the pictures are handed over."""

    prefix: str  # of the file names, under the server's output folder
    video: Mapping[str, Any] | None  # format inputs of SaveVideo; None: lossless pictures, one file each


class Builder:
    """Collects nodes; each call adds one and returns its first output."""

    def __init__(self) -> None:
        self.graph: Graph = {}

    def add(self, node_id: str, class_type: str, **inputs: Any) -> Link:
        """Add a node; inputs that are None are left out."""
        self.graph[node_id] = {
            "class_type": class_type,
            "inputs": {name: value for name, value in inputs.items() if value is not None},
            "_meta": {"title": node_id.replace("_", " ")},
        }
        return [node_id, 0]


def sampler_id(clip: Clip) -> str:
    """Node id of the sampler of a clip."""
    return f"sample_{clip.index + 1}"


def sampled_length(clip: Clip) -> int:
    """What the S2V nodes call length: the pictures that a chunk of its own would decode to."""
    return clip.size - FRAMES_PER_LATENT + 1


def compose(plan: Plan, names: ModelNames, material: Material, saving: Saving) -> Graph:
    """The graph for `plan`.

    Raises:
        InputError: a size that chained chunks cannot have.
    """
    _check_size(plan)
    builder = Builder()
    model = _load_model(builder, plan.request, names)
    vae = builder.add("vae", "VAELoader", vae_name=names.vae)
    shared = {
        **_encode_words(builder, plan.request, names),
        "vae": vae,
        "audio_encoder_output": _encode_sound(builder, names, material),
        "ref_image": material.reference and builder.add("reference", "LoadImage", image=material.reference),
    }
    joined: Link | None = None
    for clip in plan.clips:
        pose = _load_pose(builder, clip, material)
        latent = _sample(
            builder, plan, clip, model, _chunk(builder, plan, clip, joined, {**shared, "control_video": pose})
        )
        joined = latent if joined is None else _join(builder, f"join_{clip.index + 1}", joined, latent)
    assert joined is not None, "a plan has clips"
    pictures = _decode(builder, plan, vae, joined)
    _save(builder, pictures, saving)
    return builder.graph


def dropped_by_client(plan: Plan) -> int:
    """Pictures that come before the first of the video in what the graph of `plan` saves."""
    fixed = plan.request.server.first_frame_fix
    return FIRST_FRAME_FIX_DROPS if fixed and plan.frames > LARGEST_BATCH else 0


def _check_size(plan: Plan) -> None:
    request = plan.request
    if len(plan.clips) > 1 and min(request.width, request.height) < SMALLEST_CHAINED_SIDE_PIXELS:
        raise InputError(
            f"{request.width}×{request.height} in {len(plan.clips)} clips: ComfyUI chains clips from "
            f"{SMALLEST_CHAINED_SIDE_PIXELS} pixels a side on; use a larger size, or fewer --frames"
        )


def _load_model(builder: Builder, request: Request, names: ModelNames) -> Link:
    model = builder.add("model", "UNETLoader", unet_name=names.diffusion_model, weight_dtype="default")
    for number, (lora, strength) in enumerate(names.loras, start=1):
        model = builder.add(
            f"lora_{number}", "LoraLoaderModelOnly", model=model, lora_name=lora, strength_model=strength
        )
    default = TURBO_SHIFT if request.sampling.turbo else default_shift(request.width, request.height)
    shift = default if request.sampling.shift is None else request.sampling.shift
    return builder.add("shift", "ModelSamplingSD3", model=model, shift=shift)


def _encode_words(builder: Builder, request: Request, names: ModelNames) -> dict[str, Link]:
    clip = builder.add("text_encoder", "CLIPLoader", clip_name=names.text_encoder, type="wan")
    negative = request.negative_prompt or DEFAULT_NEGATIVE_PROMPT
    return {
        "positive": builder.add("positive", "CLIPTextEncode", text=request.prompt or DEFAULT_PROMPT, clip=clip),
        "negative": builder.add("negative", "CLIPTextEncode", text=negative, clip=clip),
    }


def _encode_sound(builder: Builder, names: ModelNames, material: Material) -> Link:
    encoder = builder.add("audio_encoder", "AudioEncoderLoader", audio_encoder_name=names.audio_encoder)
    sound = builder.add("sound", "LoadAudio", audio=material.sound)
    return builder.add("hear", "AudioEncoderEncode", audio_encoder=encoder, audio=sound)


def _load_pose(builder: Builder, clip: Clip, material: Material) -> Link | None:
    if not material.poses:
        return None
    video = builder.add(f"pose_file_{clip.index + 1}", "LoadVideo", file=material.poses[clip.index])
    return builder.add(f"pose_{clip.index + 1}", "GetVideoComponents", video=video)


def _chunk(builder: Builder, plan: Plan, clip: Clip, joined: Link | None, inputs: dict[str, Any]) -> str:
    """The conditioning of a clip; later ones see all latents so far: their sound is counted from those."""
    node_id, length = f"chunk_{clip.index + 1}", sampled_length(clip)
    if joined is None:
        size = {"width": plan.request.width, "height": plan.request.height, "batch_size": 1}
        builder.add(node_id, "WanSoundImageToVideo", length=length, **size, **inputs)
    else:
        builder.add(node_id, "WanSoundImageToVideoExtend", length=length, video_latent=joined, **inputs)
    return node_id


def _sample(builder: Builder, plan: Plan, clip: Clip, model: Link, chunk: str) -> Link:
    request = plan.request
    return builder.add(
        sampler_id(clip),
        "KSampler",
        model=model,
        seed=clip.seed,
        steps=request.sampling.steps,
        cfg=request.sampling.guide_scale,
        sampler_name=SAMPLERS[request.sampling.solver],
        scheduler=SCHEDULER,
        positive=[chunk, 0],
        negative=[chunk, 1],
        latent_image=[chunk, 2],
        denoise=1.0,
    )


def _join(builder: Builder, node_id: str, first: Link, then: Link) -> Link:
    return builder.add(node_id, "LatentConcat", samples1=first, samples2=then, dim="t")


def _decode(builder: Builder, plan: Plan, vae: Link, latents: Link) -> Link:
    """Pictures of the whole video; the surplus of the last clip is cut where the server can."""
    first = 0
    if plan.request.server.first_frame_fix:
        cut = builder.add("first_latent", "LatentCut", samples=latents, dim="t", index=0, amount=1)
        latents, first = _join(builder, "first_latent_twice", cut, latents), FIRST_FRAME_FIX_DROPS
    pictures = builder.add("decode", "VAEDecode", samples=latents, vae=vae)
    if plan.frames > LARGEST_BATCH:
        return pictures
    return builder.add("cut", "ImageFromBatch", image=pictures, batch_index=first, length=plan.frames)


def _save(builder: Builder, pictures: Link, saving: Saving) -> None:
    if saving.video is None:
        builder.add("save", "SaveImage", images=pictures, filename_prefix=saving.prefix)
        return
    video = builder.add("video", "CreateVideo", images=pictures, fps=float(MODEL_FPS), audio=["sound", 0])
    builder.add("save", "SaveVideo", video=video, filename_prefix=saving.prefix, **saving.video)
