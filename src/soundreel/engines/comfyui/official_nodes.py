"""The node classes that graphs of ours are made of, for where no server tells of them; from ComfyUI's /object_info.

One line per class: inputs with their types, `?` before those that are optional, and the outputs.
"""

from typing import Any, Final

from soundreel.engines.comfyui.answers import NodeClasses

_CHUNK: Final = (
    "?audio_encoder_output AUDIO_ENCODER_OUTPUT, ?ref_image IMAGE, ?control_video IMAGE",
    "CONDITIONING positive, CONDITIONING negative, LATENT latent",
)

_NODES: Final = {
    "LoadAudio": ("audio COMBO", "AUDIO"),
    "AudioEncoderLoader": ("audio_encoder_name COMBO", "AUDIO_ENCODER"),
    "AudioEncoderEncode": ("audio_encoder AUDIO_ENCODER, audio AUDIO", "AUDIO_ENCODER_OUTPUT"),
    "UNETLoader": ("unet_name COMBO, weight_dtype COMBO", "MODEL"),
    "LoraLoaderModelOnly": ("model MODEL, lora_name COMBO, strength_model FLOAT", "MODEL"),
    "CLIPLoader": ("clip_name COMBO, type COMBO, ?device COMBO=default", "CLIP"),
    "VAELoader": ("vae_name COMBO", "VAE"),
    "CLIPTextEncode": ("text STRING, clip CLIP", "CONDITIONING"),
    "LoadImage": ("image COMBO", "IMAGE, MASK"),
    "LoadVideo": ("file COMBO", "VIDEO"),
    "GetVideoComponents": ("video VIDEO", "IMAGE images, AUDIO audio, FLOAT fps"),
    "WanSoundImageToVideo": (
        "positive CONDITIONING, negative CONDITIONING, vae VAE, width INT, height INT, length INT, batch_size INT, "
        f"{_CHUNK[0]}, ?ref_motion IMAGE",
        _CHUNK[1],
    ),
    "WanSoundImageToVideoExtend": (
        f"positive CONDITIONING, negative CONDITIONING, vae VAE, length INT, video_latent LATENT, {_CHUNK[0]}",
        _CHUNK[1],
    ),
    "ModelSamplingSD3": ("model MODEL, shift FLOAT", "MODEL"),
    "KSampler": (
        "model MODEL, seed INT, steps INT, cfg FLOAT, sampler_name COMBO, scheduler COMBO, positive CONDITIONING, "
        "negative CONDITIONING, latent_image LATENT, denoise FLOAT",
        "LATENT",
    ),
    "VAEDecode": ("samples LATENT, vae VAE", "IMAGE"),
    "LatentConcat": ("samples1 LATENT, samples2 LATENT, dim COMBO", "LATENT"),
    "LatentCut": ("samples LATENT, dim COMBO, index INT, amount INT", "LATENT"),
    "ImageFromBatch": ("image IMAGE, batch_index INT, length INT", "IMAGE"),
    "CreateVideo": ("images IMAGE, fps FLOAT, ?audio AUDIO", "VIDEO"),
    "SaveVideo": ("video VIDEO, filename_prefix STRING, format COMBO, codec COMBO", ""),
    "SaveImage": ("images IMAGE, filename_prefix STRING", ""),
}


def official_nodes() -> NodeClasses:
    """The node classes in the form of /object_info, as far as graphs of ours use them."""
    return {name: _node(name, *described) for name, described in _NODES.items()}


def _node(name: str, inputs: str, outputs: str) -> dict[str, Any]:
    groups: dict[str, dict[str, list[Any]]] = {"required": {}, "optional": {}}
    for text in inputs.split(", "):
        key, kind = text.removeprefix("?").split()
        kind, _, default = kind.partition("=")
        options = {"default": default} if default else {}
        groups["optional" if text.startswith("?") else "required"][key] = [kind, options]
    kinds = [(*output.split(), "")[:2] for output in outputs.split(", ") if output]
    return {
        "input": groups,
        "output": [kind for kind, _ in kinds],
        "output_name": [label or kind for kind, label in kinds],
        "output_node": name.startswith("Save"),
    }
