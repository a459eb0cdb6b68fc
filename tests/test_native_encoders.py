"""The library networks of the native engine: the reference's numbers, and which sound drives which frame."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from conftest import SHARED
from official_encoders import encode_padded, official_text_encoder, official_vae
from soundreel.engines.native.sound import (
    SoundEncoder,
    feature_index,
    feature_length,
    frame_features,
    lead_in_shift,
    normalize,
    to_feature_rate,
)
from soundreel.engines.native.text import TEXT_LENGTH, TextEncoder, clean_prompt
from soundreel.engines.native.tokenizer import load_tokenizer
from soundreel.engines.native.vae import Vae
from soundreel.errors import WeightsError
from soundreel.request import AvAlign
from soundreel.units import MODEL_FPS
from soundreel.weights.catalog import Component
from soundreel.weights.components import SPECS
from soundreel.weights.find import find_model
from soundreel.weights.identify import Storage
from soundreel.weights.load import load_component
from weight_files import COMFY, OFFICIAL, needs_golden, random_floats, relative_error

REAL_TOKENIZER = SHARED / "weights" / "umt5-xxl"
MODEL_RATE = 16_000


# sound


@pytest.fixture(scope="module")
def sound_encoder(golden: Path) -> SoundEncoder:
    return SoundEncoder.load(find_model(golden / "tiny_official"))


def noise(samples: int) -> np.ndarray:
    return random_floats(samples).numpy()


def numbered_features(count: int) -> torch.Tensor:
    """[1, count, 1]: feature k holds k + 1, so that 0 can only be silence after the end."""
    return torch.arange(1.0, count + 1)[None, :, None]


def test_frames_follow_the_sound_at_their_own_time() -> None:
    chosen = frame_features(numbered_features(60), 32)[0, 0] - 1
    assert chosen[:13].tolist() == [0, 2, 4, 6, 8, 9, 11, 13, 15, 17, 19, 21, 22]
    times = torch.arange(32) / MODEL_FPS
    assert (chosen / 30 - times).abs().max() <= 0.5 / 30 + 1e-6


def test_after_the_end_there_is_silence() -> None:
    assert frame_features(numbered_features(4), 8)[0, 0].tolist() == [1, 3, 0, 0, 0, 0, 0, 0]
    assert frame_features(torch.ones(2, 0, 3), 5).shape == (2, 3, 5)


def test_aligned_to_the_sound_the_lead_in_repeats_the_first_feature() -> None:
    plain = frame_features(numbered_features(60), 20)
    shifted = frame_features(numbered_features(60), 20, shift=lead_in_shift(3, AvAlign.SOUND))
    assert shifted[0, 0, :4].tolist() == [1, 1, 1, 1]
    assert torch.equal(shifted[..., 3:], plain[..., :-3])


def test_the_reference_pairs_frames_with_later_sound() -> None:
    assert lead_in_shift(3, AvAlign.REFERENCE) == 0
    assert lead_in_shift(0, AvAlign.SOUND) == 0  # started from the reference image: nothing is dropped


@pytest.mark.parametrize(("align", "column_of_frame_0"), [(AvAlign.SOUND, 3), (AvAlign.REFERENCE, 0)])
@pytest.mark.parametrize("frame", [1, 2, 7, 20, 30, 45])
def test_a_burst_moves_the_columns_of_its_own_time(
    sound_encoder: SoundEncoder, frame: int, align: AvAlign, column_of_frame_0: int
) -> None:
    """Output frame j is column j + 3 of a plan with lead-in: there the burst at j/16 s must be.

    The reference's sampling of features is up to 42 ms late, which is less than a frame.
    """
    samples = 0.01 * noise(3 * MODEL_RATE)
    heard = [heard_by_columns(sound_encoder, sound, align) for sound in (samples, burst(samples, frame))]
    moved = (heard[1] - heard[0]).norm(dim=0)
    columns = (moved > 0.1 * moved.max()).nonzero().flatten().tolist()
    assert columns
    assert {column - column_of_frame_0 for column in columns} <= {frame - 1, frame, frame + 1}


def burst(samples: np.ndarray, frame: int) -> np.ndarray:
    """The sound with a burst of noise around the time of a frame, as long as a frame lasts."""
    begin, length = round((frame - 0.5) * MODEL_RATE / MODEL_FPS), MODEL_RATE // MODEL_FPS
    changed = samples.copy()
    changed[begin : begin + length] += noise(length)
    return changed


def heard_by_columns(encoder: SoundEncoder, samples: np.ndarray, align: AvAlign) -> torch.Tensor:
    """[C, columns]: what the convolutions hear, which attention has not spread over the whole sound yet."""
    with torch.no_grad():
        convolved = encoder.network.feature_extractor(torch.from_numpy(samples)[None])
    features = to_feature_rate(convolved.transpose(1, 2))
    return frame_features(features, 48, shift=lead_in_shift(3, align))[0]


@pytest.mark.parametrize("samples", [0, 1, 399])
def test_sound_too_short_for_a_single_state(sound_encoder: SoundEncoder, samples: int) -> None:
    assert sound_encoder.states(noise(samples)).shape == (25, 0, 32)
    assert sound_encoder.features(noise(samples)).shape == (25, 0, 32)


@pytest.mark.parametrize("samples", [400, 719, 720, 1040, 4801, 16_000])
def test_states_per_second(sound_encoder: SoundEncoder, samples: int) -> None:
    states = (samples - 400) // 320 + 1
    assert sound_encoder.states(noise(samples)).shape == (25, states, 32)
    assert sound_encoder.features(noise(samples)).shape == (25, feature_length(states), 32)


def test_silence_gives_finite_features(sound_encoder: SoundEncoder) -> None:
    assert normalize(np.zeros(800, dtype=np.float32)).tolist() == [0.0] * 800
    assert sound_encoder.features(np.zeros(8000, dtype=np.float32)).isfinite().all()


def test_loudness_does_not_matter(sound_encoder: SoundEncoder) -> None:
    samples = noise(8000)
    assert relative_error(sound_encoder.features(0.1 * samples), sound_encoder.features(samples)) < 1e-4


def test_every_frame_of_a_window_has_a_feature_with_20_ms_to_spare(sound_encoder: SoundEncoder) -> None:
    spare = MODEL_RATE // 50
    lengths = [(frames * MODEL_RATE // MODEL_FPS + spare - 400) // 320 + 1 for frames in range(1, 4000)]
    features = [feature_length(states) for states in lengths]
    assert all(feature_index(frames) < count for frames, count in enumerate(features))


# words


@pytest.mark.parametrize(
    ("prompt", "cleaned"),
    [
        ("a person is singing", "a person is singing"),
        ("  two\n\n\tlines\u00a0and\u3000blanks  ", "two lines and blanks"),
        ("&amp;amp;lt;b&amp;gt; &quot;x&quot;", '<b> "x"'),
        ("“quotes” ‘single’ ﬁsh", "\"quotes\" 'single' fish"),
        ("画面模糊，最差质量！（全角）ＡＢＣ", "画面模糊,最差质量!(全角)ABC"),
        ("schÃ¶n", "schön"),
        ("", ""),
        (" \n ", ""),
    ],
)
def test_prompts_are_cleaned_as_in_the_reference(prompt: str, cleaned: str) -> None:
    assert clean_prompt(prompt) == cleaned


@pytest.fixture(scope="module")
def text_encoder(golden: Path) -> TextEncoder:
    return TextEncoder.load(find_model(OFFICIAL))


def test_an_empty_prompt_is_one_token(text_encoder: TextEncoder) -> None:
    assert text_encoder.tokenize("") == [1]
    assert text_encoder.encode("").shape == (1, 64)


def test_a_long_prompt_is_cut_and_still_ends(text_encoder: TextEncoder) -> None:
    long = " ".join(["singing"] * 2000)
    ids = text_encoder.tokenize(long)
    assert len(ids) == TEXT_LENGTH
    assert ids[-1] == 1
    assert 1 not in ids[:-1]
    assert text_encoder.encode(long).shape == (TEXT_LENGTH, 64)


@needs_golden
def test_all_fp8_forms_of_the_text_encoder_agree() -> None:
    files = [COMFY / "text_encoders" / f"umt5_xxl_fp8_e4m3fn_scaled{style}.safetensors" for style in ("", "_newstyle")]
    rows = [
        TextEncoder.load(find_model(COMFY, files={Component.TEXT_ENCODER: file})).encode("a cat, surfing")
        for file in files
    ]
    exact = TextEncoder.load(find_model(COMFY)).encode("a cat, surfing")
    assert torch.equal(rows[0], rows[1])
    assert 0.001 < relative_error(rows[0], exact) < 0.1


@needs_golden
def test_fp8_text_in_bfloat16_keeps_activations_in_bfloat16() -> None:
    model = find_model(COMFY, storage=Storage.FP8)
    exact = TextEncoder.load(model).encode("a cat, surfing")
    rounded = TextEncoder.load(model, dtype=torch.bfloat16).encode("a cat, surfing")
    assert rounded.dtype == torch.bfloat16
    assert relative_error(rounded, exact) < 0.03


SENTENCES = (
    "Summer beach vacation style, a white cat wearing sunglasses sits on a surfboard.",
    "画面模糊，最差质量，细节模糊不清，情绪激动剧烈，手快速抖动，字幕，丑陋的",
    "日本語 한국어 русский язык العربية हिन्दी ไทย Ελληνικά",
    "emoji 😀👍🏽, signs ①②③ ½ x² ™ ﬁ, tabs\tand\n\nlines   and blanks ",
    "</s> <pad> in the middle",
    "",
)


@needs_golden
@pytest.mark.parametrize("folder", [REAL_TOKENIZER, OFFICIAL / "google" / "umt5-xxl"], ids=["real", "tiny"])
def test_a_sentencepiece_model_gives_the_ids_of_tokenizer_json(folder: Path) -> None:
    if not folder.is_dir():
        pytest.skip(f"{folder.name} is not here")
    exact, ours = (load_tokenizer(folder / name) for name in ("tokenizer.json", "spiece.model"))
    for sentence in SENTENCES:
        for text in (sentence, clean_prompt(sentence)):
            assert ours.encode(text).tokens == exact.encode(text).tokens, text
            assert ours.encode(text).ids == exact.encode(text).ids, text


def test_the_real_tokenizer() -> None:
    if not REAL_TOKENIZER.is_dir():
        pytest.skip("../shared/weights is not here")
    encoding = load_tokenizer(REAL_TOKENIZER / "tokenizer.json").encode("a white cat")
    assert encoding.tokens == ["▁a", "▁white", "▁cat", "</s>"]
    assert encoding.ids[-1] == 1


@needs_golden
@pytest.mark.parametrize("kept", [0, 100, 5000, -1])
@pytest.mark.parametrize("name", ["tokenizer.json", "spiece.model"])
def test_a_damaged_tokenizer_is_named(tmp_path: Path, name: str, kept: int) -> None:
    path = tmp_path / name
    path.write_bytes((OFFICIAL / "google" / "umt5-xxl" / name).read_bytes()[:kept])
    with pytest.raises(WeightsError, match=rf"tokenizer in .*{name}' is damaged"):
        load_tokenizer(path)


def test_another_model_s_tokenizer_is_named(tmp_path: Path) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text('{"model": {"type": "BPE"}}')
    with pytest.raises(WeightsError, match="of type 'BPE', expected Unigram"):
        load_tokenizer(path)


# pictures


@pytest.fixture(scope="module")
def vae(golden: Path) -> Vae:
    return Vae.load(find_model(OFFICIAL))


@pytest.mark.parametrize(("frames", "latent_frames"), [(1, 1), (4, 1), (5, 2), (8, 2), (9, 3), (73, 19)])
def test_latent_frames(vae: Vae, frames: int, latent_frames: int) -> None:
    latents = vae.encode(random_floats(3, frames, 16, 32).clamp(-1, 1))
    assert latents.shape == (16, latent_frames, *vae.latent_size(16, 32)) == (16, latent_frames, 2, 4)
    assert vae.decode(latents).shape == (3, 1 + 4 * (latent_frames - 1), 16, 32)


def test_decoded_pixels_are_in_range(vae: Vae) -> None:
    pixels = vae.decode(10 * random_floats(16, 2, 4, 4))
    assert (float(pixels.min()), float(pixels.max())) == (-1.0, 1.0)


@needs_golden
def test_a_vae_in_bfloat16_takes_and_gives_float32() -> None:
    exact, rounded = (Vae.load(find_model(COMFY), dtype=dtype) for dtype in (torch.float32, torch.bfloat16))
    pixels = random_floats(3, 5, 32, 32).clamp(-1, 1)
    latents = rounded.encode(pixels)
    assert latents.dtype == torch.float32
    assert relative_error(latents, exact.encode(pixels)) < 0.05
    assert rounded.decode(latents).dtype == torch.float32


# the official code itself, at sizes that no golden file has


@pytest.mark.parametrize(
    ("dim", "dim_mult", "frames", "size"), [(8, [1, 2, 4, 4], 9, (48, 80)), (10, [1, 2, 3, 4], 6, (64, 40))]
)
def test_the_official_vae_at_other_widths(
    tmp_path: Path, dim: int, dim_mult: list[int], frames: int, size: tuple[int, int]
) -> None:
    official = official_vae(seed=dim, dim=dim, dim_mult=dim_mult)
    torch.save(official.state_dict(), tmp_path / "vae.pth")
    ours = Vae(load_component(SPECS[Component.VAE], [tmp_path / "vae.pth"]))
    config = ours.network.config
    scale = [torch.tensor(config["latents_mean"]), 1 / torch.tensor(config["latents_std"])]
    pixels = random_floats(3, frames, *size).clamp(-1, 1)
    latents = random_floats(16, 2, size[0] // 8, size[1] // 8)
    assert relative_error(ours.encode(pixels), official.encode(pixels[None], scale)[0]) < 1e-5
    assert relative_error(ours.decode(latents), official.decode(latents[None], scale)[0].clamp(-1, 1)) < 1e-5


@pytest.mark.parametrize(
    "sizes",
    [
        {"dim": 48, "dim_attn": 96, "dim_ffn": 100, "num_heads": 6, "num_layers": 2, "num_buckets": 32, "vocab": 300},
        {"dim": 40, "dim_attn": 80, "dim_ffn": 64, "num_heads": 5, "num_layers": 1, "num_buckets": 16, "vocab": 200},
    ],
)
@pytest.mark.parametrize("tokens", [1, 7, 512])
def test_the_official_text_encoder_at_other_widths(tmp_path: Path, sizes: dict[str, int], tokens: int) -> None:
    official = official_text_encoder(seed=tokens, **sizes)
    save_file(official.state_dict(), tmp_path / "umt5.safetensors")
    network = load_component(SPECS[Component.TEXT_ENCODER], [tmp_path / "umt5.safetensors"])
    ids = torch.randint(0, sizes["vocab"], (tokens,), generator=torch.Generator().manual_seed(tokens))
    with torch.no_grad():
        ours = network(ids[None])[0]
    assert relative_error(ours, encode_padded(official, ids)) < 1e-5
