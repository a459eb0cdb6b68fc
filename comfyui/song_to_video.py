"""Soundreel: Song to Video. One node that becomes as many chunks as the sound needs, when the graph is run."""

import json
from collections.abc import Mapping
from typing import Any, Final

import numpy as np

from soundreel.driving_sound import AFTERSOUND_SECONDS
from soundreel.engines.comfyui.client import Graph
from soundreel.engines.comfyui.graph import LARGEST_BATCH, GraphBuilder, Link, Sources, add_chain, add_shift, add_words
from soundreel.engines.comfyui.input_files import heard_seconds
from soundreel.errors import InputError
from soundreel.planning import chain_plan, plan
from soundreel.request import EngineName, Request, Sampling, Server, ShotRequest, Solver, Window
from soundreel.request.presets import DEFAULT_NEGATIVE_PROMPT
from soundreel.types import Chain, Plan
from soundreel.units import MODEL_FPS

from .sound import CATEGORY, Audio, seconds_of, to_audio, to_samples

SHOT_KEYS: Final = ("start", "cut", "prompt", "negative_prompt", "seed", "name")


class FitSound:
    """Cuts a sound to a length, or fills it up with silence."""

    CATEGORY = CATEGORY
    FUNCTION = "fit"
    RETURN_TYPES = ("AUDIO",)
    RETURN_NAMES = ("sound",)
    DESCRIPTION = "The sound from a time on, exactly so long: cut, or with silence at its end."

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 - ComfyUI's name
        """The sound and the window."""
        seconds = {"default": 0.0, "min": 0.0, "max": 86400.0, "step": 0.0001}
        return {"required": {"sound": ("AUDIO",), "start": ("FLOAT", seconds), "seconds": ("FLOAT", seconds)}}

    def fit(self, sound: Audio, start: float, seconds: float) -> tuple[Audio]:
        """The sound of that length."""
        samples, rate = to_samples(sound), int(sound["sample_rate"])
        wanted = samples[round(start * rate) :][: round(seconds * rate)]
        fitted = np.zeros((round(seconds * rate), samples.shape[1]), np.float32)
        fitted[: len(wanted)] = wanted
        return (to_audio(fitted, rate),)


class SongToVideo:
    """Expands into chained chunks of equal length, each hearing what it shows; as many pictures as the sound needs."""

    CATEGORY = CATEGORY
    FUNCTION = "expand"
    RETURN_TYPES = ("IMAGE", "AUDIO", "INT")
    RETURN_NAMES = ("images", "sound", "frames")
    DESCRIPTION = (
        "Wan 2.2 S2V for a sound of any length: as many chunks as it needs, chained, the first frame mended, 16 "
        "pictures a second, cut to the length of the sound. Picture j is that of the sound at j / 16 s."
    )

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 - ComfyUI's name
        """What is linked comes as links: the nodes that this one becomes are linked there themselves."""
        link = {"rawLink": True}
        side = {"default": 832, "min": 64, "max": 4096, "step": 16}
        text = {"multiline": True, "dynamicPrompts": True}
        solvers = [solver.value for solver in Solver]
        return {
            "required": {
                "model": ("MODEL", link),
                "clip": ("CLIP", link),
                "vae": ("VAE", link),
                "audio_encoder": ("AUDIO_ENCODER", link),
                "sound": ("AUDIO",),
                "prompt": ("STRING", {**text, "default": ""}),
                "negative_prompt": ("STRING", {**text, "default": DEFAULT_NEGATIVE_PROMPT}),
                "width": ("INT", side),
                "height": ("INT", {**side, "default": 480}),
                "seconds": (
                    "FLOAT",
                    {"default": 0.0, "min": 0.0, "max": 86400.0, "step": 0.01, "tooltip": "0: all of the sound"},
                ),
                "seed": ("INT", {"default": 0, "min": 0, "max": 2**53 - 1, "control_after_generate": True}),
                "steps": ("INT", {"default": 30, "min": 1, "max": 1000}),
                "guidance": ("FLOAT", {"default": 4.5, "min": 0.0, "max": 100.0, "step": 0.1}),
                "shift": (
                    "FLOAT",
                    {"default": 0.0, "min": 0.0, "max": 100.0, "step": 0.1, "tooltip": "0: 3, from 720p on 5"},
                ),
                "solver": (solvers, {"default": Solver.UNIPC.value}),
                "chunk_frames": ("INT", {"default": 80, "min": 4, "max": 400, "step": 4}),
                "first_frame_fix": ("BOOLEAN", {"default": True}),
            },
            "optional": {
                "ref_image": ("IMAGE", link),
                "storyboard": (
                    "STRING",
                    {
                        "multiline": True,
                        "default": "",
                        "tooltip": 'Shots as JSON: [{"start": 0, "prompt": "…"}, {"start": 4.5, "cut": '
                        '"continue", "prompt": "…"}]; cut is hard or continue',
                    },
                ),
            },
            "hidden": {"unique_id": "UNIQUE_ID", "dynprompt": "DYNPROMPT"},
        }

    def expand(
        self,
        sound: Audio,
        unique_id: str,
        dynprompt: Any,
        ref_image: Link | None = None,
        storyboard: str = "",
        **given: Any,
    ) -> dict[str, Any]:
        """The nodes that this one becomes, and which of their outputs are its own; `given` are all other inputs."""
        whole = plan_for(given, seconds_of(sound), storyboard)
        heard_from: Link = dynprompt.get_node(unique_id)["inputs"]["sound"]
        builder = GraphBuilder()
        shifted = add_shift(builder, whole.request, given["model"])
        words = add_words(builder, whole, given["clip"])
        pictures: Link | None = None
        for chain in whole.chains:
            alone = chain_plan(whole, chain)
            part = GraphBuilder()
            fitted = part.add(
                "sound",
                "SoundreelFitSound",
                sound=heard_from,
                start=chain.start / MODEL_FPS,
                seconds=heard_seconds(alone) + AFTERSOUND_SECONDS,
            )
            sources = Sources(
                model=shifted,
                vae=given["vae"],
                sound=part.add("hear", "AudioEncoderEncode", audio_encoder=given["audio_encoder"], audio=fitted),
                words=[words[shot.index] for shot in chain.shots],
                references=[ref_image] * len(chain.shots),
                poses=[None] * len(alone.clips),
            )
            shown = add_chain(part, alone, sources)
            builder.graph |= renamed(part.graph, f"chain_{chain.index + 1}.")
            shown = [f"chain_{chain.index + 1}.{shown[0]}", shown[1]]
            pictures = shown if pictures is None else _behind(builder, chain, pictures, shown)
        exact = builder.add("sound", "SoundreelFitSound", sound=heard_from, start=0.0, seconds=whole.frames / MODEL_FPS)
        assert pictures is not None, "a plan has chains"
        prefix = f"{unique_id}."
        own = ([prefix + pictures[0], 0], [prefix + exact[0], 0], whole.frames)
        return {"result": own, "expand": renamed(builder.graph, prefix)}


def plan_for(given: Mapping[str, Any], sound_seconds: float, storyboard: str) -> Plan:
    """The chunks for a sound.

    Raises:
        InputError: values that cannot be, a storyboard that is none, or more pictures than one prompt can have.
    """
    request = Request(
        audio="sound",
        prompt=given["prompt"] or None,
        negative_prompt=given["negative_prompt"] or None,
        width=given["width"],
        height=given["height"],
        seed=given["seed"],
        engine=EngineName.COMFYUI,
        window=Window(duration=given["seconds"] or None, full=not given["seconds"]),
        sampling=Sampling(
            infer_frames=given["chunk_frames"],
            steps=given["steps"],
            guide_scale=given["guidance"],
            solver=Solver(given["solver"]),
            shift=given["shift"] or None,
        ),
        server=Server(first_frame_fix=given["first_frame_fix"]),
        shots=read_storyboard(storyboard),
    )
    planned = plan(request, sound_seconds, equal_clips=True)
    if planned.frames > LARGEST_BATCH:
        raise InputError(
            f"{planned.frames} pictures: one prompt can have {LARGEST_BATCH} ({LARGEST_BATCH / MODEL_FPS:g} s); "
            "ask for fewer seconds, or render with the soundreel command"
        )
    return planned


def read_storyboard(text: str) -> tuple[ShotRequest, ...]:
    """The shots of a storyboard; () where there is none."""
    if not text.strip():
        return ()
    try:
        rows = json.loads(text)
    except ValueError as error:
        raise InputError(f"the storyboard is not JSON: {error}") from error
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise InputError('the storyboard is no list of shots: expected [{"start": 0, "prompt": "…"}, …]')
    unknown = sorted({key for row in rows for key in row if key not in SHOT_KEYS})
    if unknown:
        raise InputError(f"a shot has {', '.join(unknown)}: it may have {', '.join(SHOT_KEYS)}")
    return tuple(ShotRequest(**row) for row in rows)


def renamed(graph: Graph, prefix: str) -> Graph:
    """The same nodes under ids with a prefix; links to other nodes stay."""

    def moved(value: Any) -> Any:
        return [prefix + value[0], value[1]] if isinstance(value, list) and value[0] in graph else value

    return {
        prefix + node_id: {**node, "inputs": {name: moved(value) for name, value in node["inputs"].items()}}
        for node_id, node in graph.items()
    }


def _behind(builder: GraphBuilder, chain: Chain, first: Link, then: Link) -> Link:
    return builder.add(f"cut_{chain.index + 1}", "ImageBatch", image1=first, image2=then)
