"""The graph that renders a plan, in ComfyUI's API format, composed node by node.

ComfyUI calls a clip a chunk. Chunk k samples `clip.size` frames as size / 4 latent frames. The chunks' latents are
joined and decoded once: T latent frames give 4T − 3 pictures, picture j at j / 16 s. Source: ComfyUI's `nodes_wan.py`.

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
from soundreel.request import Request, Solver
from soundreel.request.presets import DEFAULT_NEGATIVE_PROMPT, DEFAULT_PROMPT, default_shift
from soundreel.types import Clip, Plan
from soundreel.units import FRAMES_PER_LATENT, MODEL_FPS

FIRST_CHUNK: Final = "WanSoundImageToVideo"
NEXT_CHUNK: Final = "WanSoundImageToVideoExtend"
"""Node classes that condition the first and each further chunk."""

FIRST_FRAME_FIX_DROPS: Final = FRAMES_PER_LATENT
"""Pictures to drop when the first latent frame is decoded twice.

Latent frame i decodes to the pictures 4i − 3 … 4i, is conditioned on the sound of these four, and picture j belongs to
j / 16 s. Another latent frame in front delays all of them by 4 pictures, which are therefore dropped. (ComfyUI's own
template drops 3, so that every picture is 1/16 s late.)
"""

LARGEST_BATCH: Final = 4096
"""Largest number of pictures that ImageFromBatch returns."""

SMALLEST_CHAINED_SIDE_PIXELS: Final = 64
"""Smallest side of chained chunks: the frame packer reduces 8 × 8 latent pixels of the motion frames to one."""

TURBO_SHIFT: Final = 8.0
"""Flow shift of ComfyUI's official template with its 4-step LoRA."""

SAMPLERS: Final = {Solver.UNIPC: "uni_pc", Solver.DPMPP: "dpmpp_2m", Solver.EULER: "euler"}
SCHEDULER: Final = "simple"
"""ComfyUI's name for noise levels that are evenly spaced before the shift, as in the official code."""

Link = list[Any]
"""An output of a node: [node id, slot]."""


@dataclass(frozen=True, kw_only=True)
class InputNames:
    """Names of a plan's input files on the server."""

    sound: str
    references: Sequence[str | None] = ()  # a picture per shot
    poses: Sequence[str | None] = ()  # a video per clip


@dataclass(frozen=True, kw_only=True)
class OutputFormat:
    """How the server saves the pictures."""

    prefix: str  # of the file names, in the server's output folder
    video: Mapping[str, Any] | None  # format inputs of SaveVideo; None: lossless pictures, a file each
    sound: str | None = None  # file that the video plays; None: what the model hears


class GraphBuilder:
    """Collects the nodes of a graph."""

    def __init__(self) -> None:
        self.graph: Graph = {}

    def add(self, node_id: str, class_type: str, **inputs: Any) -> Link:
        """Add a node without those inputs that are None; returns its first output."""
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
    """The input `length` of the S2V nodes: the number of pictures that the chunk alone would decode to."""
    return clip.size - FRAMES_PER_LATENT + 1


@dataclass(frozen=True, kw_only=True)
class Sources:
    """What the chunks of a plan are made from, as outputs of nodes."""

    model: Link
    vae: Link
    sound: Link  # as the audio encoder hears it
    words: Sequence[Mapping[str, Link]]  # `positive` and `negative` per shot
    references: Sequence[Link | None]  # a picture per shot
    poses: Sequence[Link | None]  # pictures per clip


def compose(plan: Plan, names: ModelNames, files: InputNames, output: OutputFormat) -> Graph:
    """The graph for `plan`.

    Raises:
        InputError: the size is too small for chained chunks.
    """
    builder = GraphBuilder()
    clip = builder.add("text_encoder", "CLIPLoader", clip_name=names.text_encoder, type="wan")
    sources = Sources(
        model=add_shift(builder, plan.request, _load_model(builder, names)),
        vae=builder.add("vae", "VAELoader", vae_name=names.vae),
        words=add_words(builder, plan, clip),
        references=_load_references(builder, files),
        sound=_encode_sound(builder, names, files),
        poses=[_load_pose(builder, clip, files) for clip in plan.clips],
    )
    _save(builder, add_chain(builder, plan, sources), output)
    return builder.graph


def add_chain(builder: GraphBuilder, plan: Plan, sources: Sources) -> Link:
    """Add the chunks of a plan of one chain, and what decodes and cuts them; returns the pictures.

    Raises:
        InputError: the size is too small for chained chunks.
    """
    _check_size(plan)
    joined: Link | None = None
    for clip in plan.clips:
        shared = {"vae": sources.vae, "audio_encoder_output": sources.sound}
        own = {"ref_image": sources.references[clip.shot], "control_video": sources.poses[clip.index]}
        chunk = _chunk(builder, plan, clip, joined, {**sources.words[clip.shot], **shared, **own})
        latent = _sample(builder, plan, clip, sources.model, chunk)
        joined = latent if joined is None else _join(builder, f"join_{clip.index + 1}", joined, latent)
    assert joined is not None, "a plan has clips"
    return _decode(builder, plan, sources.vae, joined)


def dropped_by_client(plan: Plan) -> int:
    """Number of pictures before the video's first that the graph of `plan` saves, and the client has to drop."""
    fixed = plan.request.server.first_frame_fix
    return FIRST_FRAME_FIX_DROPS if fixed and plan.frames > LARGEST_BATCH else 0


def _check_size(plan: Plan) -> None:
    request = plan.request
    if len(plan.clips) > 1 and min(request.width, request.height) < SMALLEST_CHAINED_SIDE_PIXELS:
        raise InputError(
            f"{request.width}×{request.height} in {len(plan.clips)} clips: ComfyUI chains clips from "
            f"{SMALLEST_CHAINED_SIDE_PIXELS} pixels a side on; use a larger size, or fewer --frames"
        )


def _load_model(builder: GraphBuilder, names: ModelNames) -> Link:
    model = builder.add("model", "UNETLoader", unet_name=names.diffusion_model, weight_dtype="default")
    for number, (lora, strength) in enumerate(names.loras, start=1):
        model = builder.add(
            f"lora_{number}", "LoraLoaderModelOnly", model=model, lora_name=lora, strength_model=strength
        )
    return model


def add_shift(builder: GraphBuilder, request: Request, model: Link) -> Link:
    """Add the flow shift that is asked for, or fits the size."""
    default = TURBO_SHIFT if request.sampling.turbo else default_shift(request.width, request.height)
    shift = default if request.sampling.shift is None else request.sampling.shift
    return builder.add("shift", "ModelSamplingSD3", model=model, shift=shift)


def add_words(builder: GraphBuilder, plan: Plan, clip: Link) -> list[dict[str, Link]]:
    """Add the prompts of each shot, encoded by `clip`, each text once."""
    asked = [plan.request_of(shot) for shot in plan.shots]
    texts = {
        "positive": [request.prompt or DEFAULT_PROMPT for request in asked],
        "negative": [request.negative_prompt or DEFAULT_NEGATIVE_PROMPT for request in asked],
    }
    encoded = {
        (kind, text): builder.add(_numbered(kind, number), "CLIPTextEncode", text=text, clip=clip)
        for kind, of_shots in texts.items()
        for number, text in enumerate(dict.fromkeys(of_shots), start=1)
    }
    return [{kind: encoded[kind, texts[kind][shot.index]] for kind in texts} for shot in plan.shots]


def _load_references(builder: GraphBuilder, files: InputNames) -> list[Link | None]:
    """The reference image of each shot; each picture is loaded once."""
    loaded = {
        name: builder.add(_numbered("reference", number), "LoadImage", image=name)
        for number, name in enumerate(dict.fromkeys(filter(None, files.references)), start=1)
    }
    return [None if name is None else loaded[name] for name in files.references]


def _numbered(node_id: str, number: int) -> str:
    """Of several nodes of a kind: the first has the plain name."""
    return node_id if number == 1 else f"{node_id}_{number}"


def _encode_sound(builder: GraphBuilder, names: ModelNames, files: InputNames) -> Link:
    encoder = builder.add("audio_encoder", "AudioEncoderLoader", audio_encoder_name=names.audio_encoder)
    sound = builder.add("sound", "LoadAudio", audio=files.sound)
    return builder.add("hear", "AudioEncoderEncode", audio_encoder=encoder, audio=sound)


def _load_pose(builder: GraphBuilder, clip: Clip, files: InputNames) -> Link | None:
    file = files.poses[clip.index] if files.poses else None
    if file is None:
        return None
    video = builder.add(f"pose_file_{clip.index + 1}", "LoadVideo", file=file)
    return builder.add(f"pose_{clip.index + 1}", "GetVideoComponents", video=video)


def _chunk(builder: GraphBuilder, plan: Plan, clip: Clip, joined: Link | None, inputs: dict[str, Any]) -> str:
    """The conditioning of a clip; a later clip takes all latents before it, from which its sound offset is counted."""
    node_id, length = f"chunk_{clip.index + 1}", sampled_length(clip)
    if joined is None:
        size = {"width": plan.request.width, "height": plan.request.height, "batch_size": 1}
        builder.add(node_id, FIRST_CHUNK, length=length, **size, **inputs)
    else:
        builder.add(node_id, NEXT_CHUNK, length=length, video_latent=joined, **inputs)
    return node_id


def _sample(builder: GraphBuilder, plan: Plan, clip: Clip, model: Link, chunk: str) -> Link:
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


def _join(builder: GraphBuilder, node_id: str, first: Link, then: Link) -> Link:
    return builder.add(node_id, "LatentConcat", samples1=first, samples2=then, dim="t")


def _decode(builder: GraphBuilder, plan: Plan, vae: Link, latents: Link) -> Link:
    """The pictures of the whole video, cut to the plan's length unless that exceeds `LARGEST_BATCH`."""
    first = 0
    if plan.request.server.first_frame_fix:
        cut = builder.add("first_latent", "LatentCut", samples=latents, dim="t", index=0, amount=1)
        latents, first = _join(builder, "first_latent_twice", cut, latents), FIRST_FRAME_FIX_DROPS
    pictures = builder.add("decode", "VAEDecode", samples=latents, vae=vae)
    if plan.frames > LARGEST_BATCH:
        return pictures
    return builder.add("cut", "ImageFromBatch", image=pictures, batch_index=first, length=plan.frames)


def _save(builder: GraphBuilder, pictures: Link, output: OutputFormat) -> None:
    if output.video is None:
        builder.add("save", "SaveImage", images=pictures, filename_prefix=output.prefix)
        return
    sound = ["sound", 0] if output.sound is None else builder.add("original_sound", "LoadAudio", audio=output.sound)
    video = builder.add("video", "CreateVideo", images=pictures, fps=float(MODEL_FPS), audio=sound)
    builder.add("save", "SaveVideo", video=video, filename_prefix=output.prefix, **output.video)
