"""Cases of the library networks and of what lies around them: sound, words, VAE."""

from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch

from parity.case import Case, Comparison, equal, largest, relative
from soundreel.engines.native.sound import (
    SoundEncoder,
    feature_length,
    frame_features,
    normalize,
    to_feature_rate,
)
from soundreel.engines.native.text import TextEncoder, clean_prompt
from soundreel.engines.native.vae import Vae
from soundreel.media.audio import read_model_sound
from soundreel.units import MODEL_FPS
from soundreel.weights.catalog import Component
from soundreel.weights.find import ModelFiles, find_model

LIMIT_LEVEL = 1e-4
"""Of rms and peak of decoded mp3s, whose decoders may differ in the last bit."""


def audio_load(case: Case) -> list[Comparison]:
    """File → 16 kHz mono samples."""
    if case.path.suffix == ".json":
        return [comparison for row in case.table["rows"] for comparison in _audio_levels(case, row)]
    samples = torch.from_numpy(read_model_sound(_media(case, case.params["file"])))
    head, tail = case["out.audio_head"], case["out.audio_tail"]
    return [
        equal("samples", len(samples), case.params["samples"]),
        relative("head", samples[: len(head)], head),
        relative("tail", samples[len(samples) - len(tail) :], tail),
    ]


def _audio_levels(case: Case, row: dict[str, int | float | str]) -> Iterator[Comparison]:
    samples = read_model_sound(_media(case, str(row["file"]))).astype(np.float64)
    yield equal(f"{row['file']} samples", len(samples), row["samples_16k"])
    yield _level(f"{row['file']} rms", float(np.sqrt(np.mean(samples**2))), row["rms"])
    yield _level(f"{row['file']} peak", float(np.abs(samples).max()), row["peak"])
    yield equal(f"{row['file']} features", feature_length(int(row["wav2vec_frames"])), row["feat30"])


def _level(name: str, ours: float, expected: int | float | str) -> Comparison:
    return largest(name, torch.tensor(ours), torch.tensor(float(expected)), LIMIT_LEVEL)


def wav2vec(case: Case) -> list[Comparison]:
    """Samples → states → features at 30 per second."""
    encoder = _sound_encoder(case.checkpoint)
    samples = case["in.audio"].numpy()
    states = encoder.states(samples)
    stored = case.params.get("stored_layers", list(range(len(states))))
    heard = torch.from_numpy(normalize(samples))
    with torch.no_grad():
        convolved = encoder.network.feature_extractor(heard[None])[0].transpose(0, 1)
    comparisons = [
        relative("conv_features", convolved, case["out.conv_features"]),
        relative("hidden_states", states[stored], case["out.hidden_states"]),
        relative("feat_30fps", to_feature_rate(states)[stored], case["out.feat_30fps"]),
    ]
    if "out.input_values" in case.tensors:
        comparisons.append(relative("input_values", heard, case["out.input_values"]))
    return comparisons


def feature_lengths(case: Case) -> list[Comparison]:
    """T50 → number of features."""
    first, expected = case.table["first_T"], case.table["n30"]
    return [equal("n30", [feature_length(first + k) for k in range(len(expected))], expected)]


def audio_bucket(case: Case) -> list[Comparison]:
    """Which feature drives which frame; −1 where the sound has ended.

    With m > 0 the reference takes m features before and after it too, which no published model does.
    """
    return [
        _bucket_row(f"row {number}", row["T"], row["m"], row["fps"], row["index"])
        for number, row in enumerate(case.table["rows"])
    ]


def _bucket_row(name: str, features: int, m: int, fps: int, index: list[list[int]]) -> Comparison:
    assert fps == MODEL_FPS, "soundreel renders at 16 frames per second only"
    numbered = torch.arange(1, features + 1, dtype=torch.float32)[None, :, None]
    columns = frame_features(numbered, len(index))[0, 0] - 1
    return equal(f"{name} columns", columns.int().tolist(), [taps[m] for taps in index])


def t5(case: Case) -> list[Comparison]:
    """Prompts → cleaned → token ids → rows of the encoder."""
    weights = case.params.get("weights")
    if weights is None:
        return list(_prompts(case, _text_encoder(case.checkpoint), ""))
    pattern = weights.split()[0]  # a file of the ComfyUI layout, and what was done with it
    checkpoint = case.golden / pattern.split("/")[0]
    return [
        comparison
        for path in sorted(case.golden.glob(pattern))
        for comparison in _prompts(case, _text_encoder(checkpoint, path), path.stem)
    ]


def _prompts(case: Case, encoder: TextEncoder, label: str) -> Iterator[Comparison]:
    for number, row in enumerate(case.params["prompts"]):
        name = f"{label} {number}".strip()
        if "cleaned" in row:
            yield equal(f"cleaned {name}", clean_prompt(row["prompt"]), row["cleaned"])
        yield equal(f"ids {name}", encoder.tokenize(row["prompt"]), case[f"out.ids_{number}"].tolist())
        yield relative(f"emb {name}", encoder.encode(row["prompt"]), case[f"out.emb_{number}"])


def vae_encode(case: Case) -> list[Comparison]:
    """uint8 pixels → latents."""
    pixels = case["in.pixels"][0].float() / 255 * 2 - 1
    return [relative("latent", _vae(case.checkpoint).encode(pixels), case["out.latent"][0])]


def vae_decode(case: Case) -> list[Comparison]:
    """Latents → pixels."""
    return [relative("video", _vae(case.checkpoint).decode(case["in.latent"][0]), case["out.video"][0])]


RUNNERS: dict[str, Callable[[Case], list[Comparison]]] = {
    "audio_load": audio_load,
    "wav2vec": wav2vec,
    "feature_length": feature_lengths,
    "audio_bucket": audio_bucket,
    "t5": t5,
    "vae_encode": vae_encode,
    "vae_decode": vae_decode,
}


def _media(case: Case, name: str) -> Path:
    """Media files are given relative to the folder that holds the golden one."""
    name = name if "/" in name else f"media/{name}"
    return next(path for path in (case.golden / name, case.golden.parent / name) if path.exists())


@lru_cache(maxsize=4)
def _model(checkpoint: Path) -> ModelFiles:
    return find_model(checkpoint)


@lru_cache(maxsize=4)
def _vae(checkpoint: Path) -> Vae:
    return Vae.load(_model(checkpoint))


@lru_cache(maxsize=4)
def _sound_encoder(checkpoint: Path) -> SoundEncoder:
    return SoundEncoder.load(_model(checkpoint))


@lru_cache(maxsize=4)
def _text_encoder(checkpoint: Path, file: Path | None = None) -> TextEncoder:
    if file is None:
        return TextEncoder.load(_model(checkpoint))
    return TextEncoder.load(find_model(checkpoint, files={Component.TEXT_ENCODER: file}))
