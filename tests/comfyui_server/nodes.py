"""The nodes that graphs of ours are made of, as /object_info tells of them: names, types, limits, choices.

One line per input: name, type, and limits `low..high` or choices, in `[…]` where the version calls them a COMBO and in
`{…}` where it gives a bare list; `?` before a name makes it optional.
"""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

Info = dict[str, dict[str, Any]]

_SEEDS = 2**64 - 1

_NODES: Mapping[str, tuple[str, str]] = {
    "LoadAudio": ("audio []", "AUDIO"),
    "TrimAudioDuration": (
        f"audio AUDIO, start_index FLOAT -{_SEEDS}..{_SEEDS}, duration FLOAT 0..",
        "AUDIO",
    ),
    "AudioEncoderLoader": ("audio_encoder_name []", "AUDIO_ENCODER"),
    "AudioEncoderEncode": ("audio_encoder AUDIO_ENCODER, audio AUDIO", "AUDIO_ENCODER_OUTPUT"),
    "UNETLoader": ("unet_name {}, weight_dtype {default fp8_e4m3fn fp8_e4m3fn_fast fp8_e5m2}", "MODEL"),
    "LoraLoaderModelOnly": ("model MODEL, lora_name {}, strength_model FLOAT -100..100", "MODEL"),
    "CLIPLoader": ("clip_name {}, type {stable_diffusion sd3 wan}, ?device {default cpu}", "CLIP"),
    "VAELoader": ("vae_name {}", "VAE"),
    "CLIPTextEncode": ("text STRING, clip CLIP", "CONDITIONING"),
    "LoadImage": ("image {}", "IMAGE MASK"),
    "WanSoundImageToVideo": (
        "positive CONDITIONING, negative CONDITIONING, vae VAE, width INT 16..16384, height INT 16..16384, "
        "length INT 1..16384, batch_size INT 1..4096, ?audio_encoder_output AUDIO_ENCODER_OUTPUT, ?ref_image IMAGE, "
        "?control_video IMAGE, ?ref_motion IMAGE",
        "CONDITIONING CONDITIONING LATENT",
    ),
    "WanSoundImageToVideoExtend": (
        "positive CONDITIONING, negative CONDITIONING, vae VAE, length INT 1..16384, video_latent LATENT, "
        "?audio_encoder_output AUDIO_ENCODER_OUTPUT, ?ref_image IMAGE, ?control_video IMAGE",
        "CONDITIONING CONDITIONING LATENT",
    ),
    "ModelSamplingSD3": ("model MODEL, shift FLOAT 0..100", "MODEL"),
    "KSampler": (
        f"model MODEL, seed INT 0..{_SEEDS}, steps INT 1..10000, cfg FLOAT 0..100, "
        "sampler_name {euler heun lcm uni_pc}, scheduler {simple normal beta}, "
        "positive CONDITIONING, negative CONDITIONING, latent_image LATENT, denoise FLOAT 0..1",
        "LATENT",
    ),
    "VAEDecode": ("samples LATENT, vae VAE", "IMAGE"),
    "VAEDecodeTiled": (
        "samples LATENT, vae VAE, tile_size INT 64..4096, overlap INT 0..4096, temporal_size INT 8..4096, "
        "temporal_overlap INT 4..4096",
        "IMAGE",
    ),
    "LatentConcat": ("samples1 LATENT, samples2 LATENT, dim [x -x y -y t -t]", "LATENT"),
    "LatentCut": ("samples LATENT, dim [x y t], index INT -16384..16384, amount INT 1..16384", "LATENT"),
    "LoadVideo": ("file []", "VIDEO"),
}

_ONLY_OLD: Mapping[str, tuple[str, str]] = {
    "LoadAudio": ("audio {}", "AUDIO"),
    "CreateVideo": ("images IMAGE, fps FLOAT 1..120, ?audio AUDIO", "VIDEO"),
    "SaveVideo": ("video VIDEO, filename_prefix STRING, format [auto mp4], codec [auto h264]", ""),
    "ImageFromBatch": ("image IMAGE, batch_index INT 0..4095, length INT 1..4096", "IMAGE"),
    "GetVideoComponents": ("video VIDEO", "IMAGE AUDIO FLOAT"),
}
_ONLY_NEW: Mapping[str, tuple[str, str]] = {
    "CreateVideo": ("images IMAGE, fps FLOAT 1..120, ?audio AUDIO, ?bit_depth INT 8..10", "VIDEO"),
    "SaveVideo": ("video VIDEO, filename_prefix STRING", "VIDEO"),
    "ImageFromBatch": ("image IMAGE, batch_index INT -16384..16384, length INT 1..4096", "IMAGE"),
    "GetVideoComponents": ("video VIDEO", "IMAGE AUDIO FLOAT INT COMBO"),
    "FrameInterpolationModelLoader": ("model_name [film_net_fp16.safetensors]", "INTERP_MODEL"),
    "FrameInterpolate": ("interp_model INTERP_MODEL, images IMAGE, multiplier INT 2..16", "IMAGE"),
}
VERSIONS: Mapping[str, Mapping[str, tuple[str, str]]] = {
    "0.33.0": {**_NODES, **_ONLY_NEW},
    "0.3.64": {**_NODES, **_ONLY_OLD},
}

_INPUT = re.compile(r"(\??)(\w+) (?:(\w+)(?: (\S+)\.\.(\S*))?|\[(.*)\]|\{(.*)\})")


def object_info(version: str) -> Info:
    """What a server of this version answers, as far as described here."""
    found = {name: _node(name, *described) for name, described in VERSIONS[version].items()}
    if version == "0.33.0":
        found["SaveVideo"]["input"] |= _format_of_new_versions()
    return found


def _node(name: str, inputs: str, outputs: str) -> dict[str, Any]:
    groups: dict[str, dict[str, list[Any]]] = {"required": {}, "optional": {}}
    for text in inputs.split(", "):
        match = _INPUT.fullmatch(text)
        assert match is not None, text
        optional, key, kind, low, high, combo, listed = match.groups()
        spec: list[Any] = [kind, _limits(low, high)]
        if kind is None:
            spec = ["COMBO", {"options": combo.split()}] if listed is None else [listed.split()]
        groups["optional" if optional else "required"][key] = spec
    return {"input": groups, "output": outputs.split(), "name": name, "output_node": name == "SaveVideo"}


def _limits(low: str | None, high: str | None) -> dict[str, float]:
    given = {"min": low, "max": high}
    return {key: json.loads(value) for key, value in given.items() if value}


def _format_of_new_versions() -> dict[str, Any]:
    """A choice brings inputs of its own: the container its codecs, a codec its encodings, one of those its quality."""
    quality = {"crf": ["FLOAT", {"min": 0.0, "max": 51.0}], "color_space": ["COMBO", {"options": ["auto", "sRGB"]}]}
    encoding = _dynamic([("auto", {}), ("re-encode", {"required": quality})])
    codec = _dynamic([("auto", {}), ("h264", {"optional": {"encoding": encoding}})])
    containers = [(key, {"required": {"codec": codec}}) for key in ("auto", "mp4")]
    others = {"video": ["VIDEO", {}], "filename_prefix": ["STRING", {}]}
    return {"required": others | {"format": _dynamic(containers)}, "optional": {"codec": codec}}


def _dynamic(choices: Iterable[tuple[str, dict[str, Any]]]) -> list[Any]:
    options = [{"key": key, "inputs": {"required": {}} | inputs} for key, inputs in choices]
    return ["COMFY_DYNAMICCOMBO_V3", {"options": options}]
