"""Find the files of the model's networks in a folder of any of these layouts:

official   config.json, diffusion_pytorch_model-*.safetensors, models_t5_*.pth, Wan2.1_VAE.pth,
           google/umt5-xxl/, wav2vec2-large-xlsr-53-english/
ComfyUI    diffusion_models|unet/, text_encoders|clip/, vae/, audio_encoders/ with single files
diffusers  transformer/, text_encoder/, vae/, audio_encoder/, tokenizer/
files      a .safetensors or .gguf transformer, the other parts beside it
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from soundreel.errors import InputError, WeightsError
from soundreel.units import StrPath
from soundreel.weights.catalog import (
    BUNDLES,
    DEFAULT_BUNDLE,
    DIFFUSERS_BUNDLE,
    FASTVIDEO_BUNDLE,
    FASTVIDEO_REPO,
    TOKENIZER_BUNDLE,
    Component,
    default_folder,
    download_command,
    known_file,
)
from soundreel.weights.headers import SAFETENSORS, TORCH, read_header
from soundreel.weights.identify import Storage
from soundreel.weights.keys import NAMED_IN_MESSAGE
from soundreel.weights.scan import PART_FOLDERS, Part, layouts_in, scan
from soundreel.weights.text_keys import SENTENCEPIECE_TENSOR
from soundreel.wording import readable_size

STORAGE_ORDER = (Storage.HALF, Storage.FULL, Storage.FP8, Storage.GGUF)
"""Which storage is taken where several are there and none is asked for: most exact first."""

TOKENIZER_FOLDERS = ("google/umt5-xxl", "umt5-xxl", "tokenizer")
TOKENIZER_FILES = ("tokenizer.json", "spiece.model")

DIFFUSERS_FOLDERS = ("transformer", "text_encoder", "audio_encoder")
"""Folders that no other layout has."""


@dataclass(frozen=True, kw_only=True)
class ModelFiles:
    """Files of the parts of the model that were asked for."""

    parts: Mapping[Component, Part]
    tokenizer: Path | None
    """tokenizer.json, spiece.model, or a safetensors file that carries the latter as a tensor; None where the text
    encoder is not among the parts."""

    def __getitem__(self, component: Component) -> Part:
        return self.parts[component]


def find_model(
    *places: StrPath,
    files: Mapping[Component, StrPath] | None = None,
    storage: Storage | None = None,
    components: Collection[Component] = tuple(Component),
) -> ModelFiles:
    """Find the parts of the model, and check that the files are whole and belong together.

    Args:
        places: folders or transformer files, most wanted first; none: the default folder.
        files: a part's file (or one of its shards), taken instead of what the places hold.
        storage: preferred where a place has several; None: the most exact one.
        components: the parts that are needed; others are not looked for.

    Raises:
        InputError: a place does not exist.
        WeightsError: parts are missing, damaged, of another model, or do not fit together.
    """
    roots = tuple(_existing(place) for place in places) or (default_folder(),)
    search = _Search(roots, storage)
    parts = {component: _named_part(path, component) for component, path in (files or {}).items()}
    for component in filter(components.__contains__, Component):  # the transformer first: the others must fit it
        part = parts.get(component) or search.best(component, parts.get(Component.TRANSFORMER))
        if part is not None:
            parts[component] = part
    search.require(parts, components)
    text_encoder = parts.get(Component.TEXT_ENCODER)
    return ModelFiles(parts=parts, tokenizer=None if text_encoder is None else search.tokenizer(text_encoder))


class _Search:
    """The parts found in the searched places, and the choice among them."""

    def __init__(self, roots: Sequence[Path], storage: Storage | None) -> None:
        self._roots = roots
        self._storage = storage
        self._places = [place for place in (*roots, *_neighbours(roots)) if place.exists()]
        self._scans = [scan(place) for place in self._places]

    def best(self, component: Component, transformer: Part | None) -> Part | None:
        """The best part from the first place that has a suitable one; None if there is none."""
        for found in self._scans:
            fitting = [
                part
                for part in found.parts
                if part.component is component and part.identity.suits and not _mismatch(part, transformer)
            ]
            if fitting:
                return min(fitting, key=self._rank)
        return None

    def _rank(self, part: Part) -> tuple[bool, int, bool]:
        return (
            self._storage is not None and part.storage is not self._storage,
            STORAGE_ORDER.index(part.storage),
            known_file(part.files[0]) is None,
        )

    def require(self, parts: Mapping[Component, Part], components: Collection[Component]) -> None:
        """Raise `WeightsError` unless all components are among the parts and have matching sizes."""
        transformer = parts.get(Component.TRANSFORMER)
        for part in parts.values():
            difference = _mismatch(part, transformer)
            if difference:
                raise WeightsError(f"{part}, but {difference}: take the one that belongs to the transformer")
        lacking = [component for component in Component if component in components and component not in parts]
        for component in lacking:
            for found in self._scans:
                for fault in found.faults:
                    if fault.concerns(component):
                        raise fault.error
        if lacking:
            raise WeightsError(self._lack(lacking, parts))

    def _lack(self, lacking: Sequence[Component], parts: Mapping[Component, Part]) -> str:
        """The message for missing parts: what is missing, what is there instead, how to get it."""
        bundle = _bundle_like(parts)
        transformer = parts.get(Component.TRANSFORMER)
        instead = [
            _why_not(part, transformer) for found in self._scans for part in found.parts if part.component in lacking
        ]
        command = download_command(bundle, self._folder)
        if len(lacking) == len(Component) and not instead:
            return (
                f"there are no weights of Wan 2.2 S2V in {self._searched}; name the folder that has them with "
                f"--models, or get them ({readable_size(BUNDLES[bundle].size_bytes)}) with: {command}"
            )
        names = [f"no {component} ({_expected_file(bundle, component)})" for component in lacking]
        clauses = [
            f"{', '.join(names)} in {self._searched}",
            *dict.fromkeys(instead[:NAMED_IN_MESSAGE]),
            f"get {'it' if len(lacking) == 1 else 'them'} with: {command}",
        ]
        return "; ".join(clauses)

    @property
    def _searched(self) -> str:
        return f"{', '.join(repr(str(place)) for place in self._roots)} and the model folders there"

    @property
    def _folder(self) -> Path:
        """Folder for a download: the first place, or for a file the folder where its other parts would be."""
        return [self._roots[0], *_neighbours(self._roots[:1])][-1]

    def tokenizer(self, text_encoder: Part) -> Path:
        """The tokenizer's file; `WeightsError` if there is none."""
        beside = text_encoder.files[0].parent
        bases = [beside, beside.parent, *(base for place in self._places for base in _layouts(place))]
        for base in bases:
            for folder in TOKENIZER_FOLDERS:
                for name in TOKENIZER_FILES:
                    if (base / folder / name).is_file():
                        return base / folder / name
        carriers = [text_encoder, *(part for found in self._scans for part in found.parts)]
        for part in carriers:
            if part.component is Component.TEXT_ENCODER and _carries_tokenizer(part.files[0]):
                return part.files[0]
        raise WeightsError(
            f"no UMT5 tokenizer ({' or '.join(TOKENIZER_FILES)} in {TOKENIZER_FOLDERS[0]}, or a text encoder file "
            f"that carries one) in {self._searched}; get it with: {download_command(TOKENIZER_BUNDLE, self._folder)}"
        )


def _existing(place: StrPath) -> Path:
    path = Path(place).expanduser()
    if not path.exists():
        raise InputError(f"there is no file or folder {str(path)!r} with model weights")
    return path


def _neighbours(roots: Sequence[Path]) -> Iterator[Path]:
    """Where the other parts may be if a place is a file: its folder, and the parent if that is a folder of one part."""
    for root in roots:
        if root.is_file():
            yield root.parent
            if root.parent.name in PART_FOLDERS:
                yield root.parent.parent


def _layouts(place: Path) -> Iterator[Path]:
    return iter(()) if place.is_file() else layouts_in(place)


def _named_part(place: StrPath, component: Component) -> Part:
    path = _existing(place)
    found = scan(path)
    if found.faults:
        raise found.faults[0].error
    part = next(iter(found.parts), None)
    if part is None or part.component is not component or not part.identity.suits:
        what = "a file of another kind" if part is None else part.identity.what
        raise WeightsError(f"{str(path)!r} is {what}: expected the {component} of Wan 2.2 S2V")
    return part


def _mismatch(part: Part, transformer: Part | None) -> str:
    """The sizes in which a part differs from the transformer's, as text; empty if it fits."""
    expected = {} if transformer is None else transformer.identity.sizes
    return ", ".join(
        f"its {name} is {size} and the transformer's {expected[name]}"
        for name, size in part.identity.sizes.items()
        if name in expected and expected[name] != size
    )


def _why_not(part: Part, transformer: Part | None) -> str:
    """Why a part that is there was not taken."""
    return f"{part}, but {_mismatch(part, transformer)}" if part.identity.suits else str(part)


def _bundle_like(parts: Mapping[Component, Part]) -> str:
    """The bundle to recommend, in the layout and storage of the parts that are there."""
    if any(part.files[0].parent.name in DIFFUSERS_FOLDERS for part in parts.values()):
        known = [known_file(part.files[0]) for part in parts.values()]
        is_fastvideo = any(file is not None and file.repo == FASTVIDEO_REPO for file in known)
        return FASTVIDEO_BUNDLE if is_fastvideo else DIFFUSERS_BUNDLE
    if any(len(part.files) > 1 or part.files[0].suffix == TORCH for part in parts.values()):
        return "s2v"
    transformer = parts.get(Component.TRANSFORMER)
    half = transformer is not None and transformer.storage is Storage.HALF
    return "s2v-bf16" if half else DEFAULT_BUNDLE


def _expected_file(bundle: str, component: Component) -> str:
    return next(file.path for file in BUNDLES[bundle].files if file.component is component)


def _carries_tokenizer(path: Path) -> bool:
    return path.suffix.lower() == SAFETENSORS and SENTENCEPIECE_TENSOR in read_header(path).tensors
