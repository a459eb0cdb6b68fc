"""Cases of the library networks and of what lies around them: sound, words, VAE.

The official `AudioEncoder`, `T5EncoderModel` and `Wan2_1_VAE` read the tiny checkpoint from disk.
"""

from functools import partial
from typing import Any
from unittest.mock import patch

import librosa
import numpy as np
import torch
from torch import Tensor, nn

from references.folder import Folder
from references.layouts import AUDIO_FOLDER, BLOCKS, FP8_TEXT, TEXT_FILE, TOKENIZER, VAE_FILE
from references.media import COMPRESSED, LONG, SPEECH, STEREO
from references.networks import TEXT_ENCODER, VAE, VOCABULARY, Networks, through_fp8
from references.official import official, official_config, quiet

RATE, FEATURE_RATE = 16_000, 30
CPU = torch.device("cpu")

UNLEARNED = "  Summer &amp;amp; beach\u00a0vacation\n\n\tstyle &quot;cat&quot; “quotes” café ﬁsh ① 😀 "
"""With characters that the tokenizer has no piece for."""

PROMPTS = (
    "a person is singing",
    UNLEARNED,
    "",
    "a person singing on the beach, 一个人在海边唱歌 " * 60,
    "Summer beach vacation style, a white cat wearing sunglasses sits on a surfboard.",
)
"""Entities, ligatures, blanks of all kinds, nothing, and more than 512 tokens."""

LOUDNESSES = (SPEECH, STEREO, LONG, COMPRESSED)
STORED_LAYERS = [0, 1, 12, 23, 24]
FEATURES = (1, 14, 29, 30, 31, 59, 60, 103, 149, 150, 151, 299, 300, 449, 564)
"""Around the lengths at which a clip more is needed."""

ENCODED = {"T1": (1, 32, 32), "T5": (5, 32, 32), "T8_partial": (8, 32, 32), "T17": (17, 32, 32), "T33": (33, 32, 32)}
DECODED = {"T1": (1, 4, 4), "T2": (2, 4, 4), "T5": (5, 4, 4), "T9": (9, 4, 4), "T2_8x12": (2, 8, 12)}
"""Frames and size of pixels, and of latents."""


def negative_prompt() -> str:
    """The official one."""
    prompt: str = official_config().sample_neg_prompt
    return prompt


def write_encoder_cases(folder: Folder, networks: Networks) -> None:
    """Write all."""
    with quiet():
        hearing = audio_encoder(folder)
        write_sounds(folder, hearing)
        write_features(folder, hearing)
        write_buckets(folder, hearing)
        write_prompts(folder, networks)
        write_pictures(folder, vae(folder))


def audio_encoder(folder: Folder) -> Any:
    """The official one on the tiny checkpoint."""
    encoder = official("modules.s2v.audio_encoder").AudioEncoder(model_id=str(folder.official / AUDIO_FOLDER))
    encoder.model.eval().requires_grad_(False)
    encoder.model.wav2vec2.register_forward_hook(_normalize_last)
    return encoder


def _normalize_last(_network: nn.Module, _inputs: object, output: Any) -> None:
    """As transformers before 5 did it, for which the official code is written: newer ones leave the last state raw."""
    output.hidden_states = (*output.hidden_states[:-1], output.last_hidden_state)


def text_encoder(folder: Folder) -> Any:
    """The official one, with its tokenizer, on the tiny checkpoint."""
    module = official("modules.t5")
    sizes = {name: value for name, value in TEXT_ENCODER.items() if name != "num_layers"}
    layers = {"encoder_layers": TEXT_ENCODER["num_layers"], "vocab_size": VOCABULARY}
    with patch.object(module, "umt5_xxl", partial(module.umt5_xxl, **sizes, **layers)):
        return module.T5EncoderModel(
            text_len=512,
            dtype=torch.float32,
            device=CPU,
            checkpoint_path=str(folder.official / TEXT_FILE),
            tokenizer_path=str(folder.official / TOKENIZER),
        )


def vae(folder: Folder) -> Any:
    """The official one on the tiny checkpoint."""
    module = official("modules.vae2_1")
    with patch.object(module, "_video_vae", partial(module._video_vae, dim=VAE["dim"])):
        return module.Wan2_1_VAE(vae_pth=str(folder.official / VAE_FILE), device="cpu")


def write_sounds(folder: Folder, hearing: Any) -> None:
    """Files to 16 kHz mono: levels of all, and the samples of one."""
    rows = [_levels(folder, hearing, name) for name in LOUDNESSES]
    folder.table("audio_load_stats", "audio_load", {"rows": rows})
    samples = torch.from_numpy(librosa.load(folder.inputs / LONG, sr=RATE)[0])
    params = {"file": f"inputs/{LONG}", "samples": len(samples)}
    expected = {"audio_head": samples[:RATE], "audio_tail": samples[-RATE // 2 :]}
    folder.case("audio_load_long", "audio_load", params, {}, expected)


def _levels(folder: Folder, hearing: Any, name: str) -> dict[str, Any]:
    samples = librosa.load(folder.inputs / name, sr=RATE)[0]
    states = int(hearing.model._get_feat_extract_output_lengths(len(samples)))
    features = feature_count(states)
    return {
        "file": f"inputs/{name}",
        "samples_16k": len(samples),
        "rms": float(np.sqrt(np.mean(samples.astype(np.float64) ** 2))),
        "peak": float(np.abs(samples).max()),
        "wav2vec_frames": states,
        "feat30": features,
        "num_repeat_80": buckets(hearing, features, 80)[1],
        "num_repeat_48": buckets(hearing, features, 48)[1],
    }


def feature_count(states: int) -> int:
    """At 30 per second, of states at 50."""
    interpolate = official("modules.s2v.audio_encoder").linear_interpolation
    count: int = interpolate(torch.zeros(1, states, 1), input_fps=50, output_fps=FEATURE_RATE).shape[1]
    return count


def buckets(hearing: Any, features: int, batch_frames: int, m: int = 0) -> tuple[list[list[int]], int]:
    """Per output frame the features that it hears, −1 for silence; and the number of clips."""
    numbered = torch.arange(1.0, features + 1)[None, :, None].repeat(2, 1, 1)  # two layers: one would be squeezed
    chosen, clips = hearing.get_audio_embed_bucket_fps(numbered, fps=16, batch_frames=batch_frames, m=m)
    return (chosen[:, 0].int() - 1).tolist(), clips


def write_features(folder: Folder, hearing: Any) -> None:
    """Samples to states to features, and how many features there are."""
    counts = [
        feature_count(states) for states in range(2, 1801)
    ]  # of one state the official code makes none, and fails
    folder.table("feature_length", "feature_length", {"first_T": 2, "n30": counts})
    whole = librosa.load(folder.inputs / STEREO, sr=RATE)[0]
    noise = 0.14 * folder.normal("wav2vec")(RATE).numpy()
    _write_states(folder, hearing, "wav2vec_short_0p3s", noise[:4800])
    _write_states(folder, hearing, "wav2vec_noise_1s", noise)
    _write_states(folder, hearing, "wav2vec_voice_2p3s", whole, STORED_LAYERS)


def _write_states(
    folder: Folder, hearing: Any, name: str, samples: np.ndarray, stored: list[int] | None = None
) -> None:
    heard = hearing.processor(samples, sampling_rate=RATE, return_tensors="pt").input_values
    states = torch.cat(hearing.model(heard, output_hidden_states=True).hidden_states)
    with patch.object(librosa, "load", return_value=(samples, RATE)):
        features = hearing.extract_audio_feat("", return_all_layers=True)
    chosen = list(range(len(states))) if stored is None else stored
    convolved = hearing.model.wav2vec2.feature_extractor(heard)[0].transpose(0, 1)
    expected = {"conv_features": convolved, "hidden_states": states[chosen], "feat_30fps": features[chosen]}
    params = {} if stored is None else {"stored_layers": stored}
    given = {"audio": torch.from_numpy(samples)}
    folder.case(name, "wav2vec", params, given, expected | {"input_values": heard[0]})


def write_buckets(folder: Folder, hearing: Any) -> None:
    """Which feature drives which frame: of one feature, and of five around it."""
    for name, features, batches, m in (
        ("audio_bucket", FEATURES, (16, 20, 48, 80), 0),
        ("audio_bucket_m2", (30, 103), (16, 80), 2),
    ):
        rows = []
        for count in features:
            for batch_frames in batches:
                index, clips = buckets(hearing, count, batch_frames, m)
                row = {"T": count, "batch_frames": batch_frames, "m": m, "fps": 16, "num_repeat": clips, "index": index}
                rows.append(row)
        folder.table(name, "audio_bucket", {"rows": rows})


def write_prompts(folder: Folder, networks: Networks) -> None:
    """Words to rows, and one prompt by the weights of the fp8 files."""
    reading = text_encoder(folder)
    rows, expected = [], {}
    for number, prompt in enumerate((*PROMPTS, negative_prompt())):
        rows.append({"prompt": prompt, "cleaned": reading.tokenizer._clean(prompt)})
        expected |= _encoded(reading, prompt, number)
    folder.case("t5", "t5", {"prompts": rows}, {}, expected)
    reading.model = through_fp8(networks.text_encoder, BLOCKS)
    params = {"prompts": [{"prompt": PROMPTS[0]}], "weights": f"tiny_comfy/{FP8_TEXT}*.safetensors"}
    folder.case("t5_fp8_scaled", "t5", params, {}, _encoded(reading, PROMPTS[0], 0))


def _encoded(reading: Any, prompt: str, number: int) -> dict[str, Tensor]:
    rows = reading([prompt], CPU)[0]
    ids = reading.tokenizer([prompt], add_special_tokens=True)[0, : len(rows)]
    return {f"ids_{number}": ids.int(), f"emb_{number}": rows}


def write_pictures(folder: Folder, coding: nn.Module) -> None:
    """Pixels to latents and back, in groups of frames whole and broken."""
    for name, size in (ENCODED | {"T5_64x96": (5, 64, 96)}).items():
        numbers = folder.normal(f"vae_encode_{name}")
        pixels = (128 + 74 * numbers(1, 3, *size)).clamp(0, 255).to(torch.uint8)
        latent = torch.stack(coding.encode([pixels[0].float() / 255 * 2 - 1]))
        folder.case(f"vae_encode_{name}", "vae_encode", {}, {"pixels": pixels}, {"latent": latent})
    for name, size in DECODED.items():
        latent = folder.normal(f"vae_decode_{name}")(1, 16, *size)
        video = torch.stack(coding.decode([latent[0]]))
        folder.case(f"vae_decode_{name}", "vae_decode", {}, {"latent": latent}, {"video": video})
