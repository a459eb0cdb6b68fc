"""The networks that an engine holds from one render to the next: each is loaded anew only where it would differ."""

import gc
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

import torch
from torch import Tensor, nn

from soundreel.engines.native.block_placement import LoadedTransformer, load_transformer
from soundreel.engines.native.device import compute_dtype, release_memory
from soundreel.engines.native.network import LoadedNetwork
from soundreel.engines.native.prepared import Placement, PrintPlacement
from soundreel.engines.native.sound import SoundEncoder
from soundreel.engines.native.text import TextEncoder
from soundreel.engines.native.vae import Vae
from soundreel.errors import WeightsError
from soundreel.weights.catalog import Component
from soundreel.weights.load import OnLoad
from soundreel.weights.lora_files import lora_file

KEPT_PROMPTS: Final = 64
"""Encoded prompts that are kept, the newest: at most 4 MB each."""

T = TypeVar("T")
NetworkT = TypeVar("NetworkT", bound=LoadedNetwork[Any])

Stamp: TypeAlias = tuple[tuple[str, int, int, int], ...]
"""Path, bytes, time of change and number of each file: the same as long as nobody writes to them or replaces them."""


def stamp(paths: Sequence[Path]) -> Stamp:
    """Of files as they are now."""
    found = ((path, path.stat()) for path in paths)
    return tuple((str(path), status.st_size, status.st_mtime_ns, status.st_ino) for path, status in found)


@dataclass(frozen=True)
class _Held:
    network: Any
    made_for: Hashable  # all that it would be loaded otherwise for


class Networks:
    """The networks of one engine, each loaded when it is first asked for.

    A network that is asked for otherwise than it was loaded (files, devices, rounding, LoRAs) leaves before its
    successor comes: memory seldom holds both.
    """

    def __init__(self) -> None:
        self._held: dict[Component, _Held] = {}
        self._prompts: dict[Hashable, Tensor] = {}

    def vae(self, placement: PrintPlacement, on_load: OnLoad | None = None) -> Vae:
        """The VAE, set to the placement's pieces."""
        paths, dtype = placement.files[Component.VAE].files, placement.vae_dtype
        load = _loader(Vae, placement, placement.device, dtype, on_load)
        vae = self._get(Component.VAE, paths, (dtype, placement.device), load)
        vae.most_at_once, vae.bands = placement.memory.vae_step, placement.memory.vae_bands
        vae.pieces_bind = placement.memory.vae_binds
        vae.helpers = None
        return vae

    def transformer(self, placement: Placement, on_load: OnLoad | None = None) -> LoadedTransformer:
        """The transformer with its LoRAs, its weights where the placement has them."""
        paths, otherwise = _transformer_files(placement), _transformer_key(placement)
        loaded = self._get(Component.TRANSFORMER, paths, otherwise, lambda: load_transformer(placement, on_load))
        loaded.follow(placement)
        return loaded

    def text_encoder(self, placement: Placement, *, streamed: bool, on_load: OnLoad | None = None) -> TextEncoder:
        """UMT5 on the device, or with its blocks `streamed` to it from host memory."""

        def load() -> TextEncoder:
            there = torch.device("cpu") if streamed else placement.device
            encoder = _loader(TextEncoder, placement, there, compute_dtype(placement.device), on_load)()
            return encoder.stream_to(placement.device) if streamed else encoder

        paths = placement.files[Component.TEXT_ENCODER].files
        return self._get(Component.TEXT_ENCODER, paths, (placement.device, streamed), load)

    def sound_encoder(self, placement: Placement, on_load: OnLoad | None = None) -> SoundEncoder:
        """wav2vec2 on the device, in float32."""
        paths = placement.files[Component.AUDIO_ENCODER].files
        load = _loader(SoundEncoder, placement, placement.device, torch.float32, on_load)
        return self._get(Component.AUDIO_ENCODER, paths, placement.device, load)

    def prompts(
        self, placement: Placement, texts: Sequence[str], encode: Callable[[Sequence[str]], Sequence[Tensor]]
    ) -> list[Tensor]:
        """Rows [n, D] of each text, in host memory; `encode` makes those that are not kept from a render before."""
        files = stamp(placement.files[Component.TEXT_ENCODER].files)
        keys = [(files, placement.device, text) for text in texts]
        missing = [key for key in dict.fromkeys(keys) if key not in self._prompts]
        if missing:
            rows = encode([text for _, _, text in missing])
            self._prompts |= {key: row.cpu() for key, row in zip(missing, rows, strict=True)}
        found = [self._prompts[key] for key in keys]
        for key in list(self._prompts)[:-KEPT_PROMPTS]:
            del self._prompts[key]
        return found

    def has(self, component: Component) -> bool:
        """Whether a network is loaded."""
        return component in self._held

    def has_transformer_of(self, placement: Placement) -> bool:
        """Whether the transformer is loaded, and as the placement wants it."""
        held = self._held.get(Component.TRANSFORMER)
        paths = _transformer_files(placement)
        return held is not None and held.made_for == (stamp(paths), _transformer_key(placement))

    def make_room(self) -> bool:
        """Let the encoders go, then the transformer's blocks to host memory; returns whether that gave any room."""
        encoders = [part for part in (Component.TEXT_ENCODER, Component.AUDIO_ENCODER) if self.has(part)]
        if encoders:
            self.let_go(*encoders)
            return True
        held = self._held.get(Component.TRANSFORMER)
        return held is not None and held.network.resident.leave()

    def let_go(self, *components: Component) -> None:
        """Unload networks, and give their memory back."""
        there = [held for component in components if (held := self._held.pop(component, None)) is not None]
        devices = {tensor.device for held in there for tensor in _tensors(held.network)}
        del there
        if devices:
            gc.collect()  # what waited in host memory is in cycles with the blocks that it waited for
        for device in devices:
            release_memory(device)

    def close(self) -> None:
        """Unload all of them."""
        self._prompts.clear()
        self.let_go(*Component)

    def abandon(self) -> None:
        """Forget all of them without a word to a device that answers no more."""
        self._prompts.clear()
        self._held.clear()

    def bytes_on(self, device: torch.device) -> int:
        """What they take of the memory of devices of this kind."""
        return sum(count for name, count in self._bytes().items() if torch.device(name).type == device.type)

    def held(self) -> dict[str, int]:
        """Bytes that they take of each GPU, by its name."""
        return {name: count for name, count in self._bytes().items() if torch.device(name).type == "cuda"}

    def _bytes(self) -> Counter[str]:
        """What they take of each device, by its name."""
        found = (tensor.untyped_storage() for held in self._held.values() for tensor in _tensors(held.network))
        storages = {(str(storage.device), storage.data_ptr()): storage.nbytes() for storage in found}
        taken = Counter[str]()
        for (name, _), count in storages.items():
            taken[name] += count
        return taken

    def _get(self, component: Component, paths: Sequence[Path], otherwise: Hashable, load: Callable[[], T]) -> T:
        before = stamp(paths)
        made_for = (before, otherwise)
        held = self._held.get(component)
        if held is None or held.made_for != made_for:
            del held
            self.let_go(component)
            held = _Held(load(), made_for)
            if stamp(paths) != before:
                raise WeightsError(
                    f"the {component}'s files changed while they were read: {', '.join(map(str, paths))}"
                )
            self._held[component] = held
        network: T = held.network
        return network


def _loader(
    kind: type[NetworkT], placement: PrintPlacement, device: torch.device, dtype: torch.dtype, on_load: OnLoad | None
) -> Callable[[], NetworkT]:
    return lambda: kind.load(placement.files, device=device, dtype=dtype, on_load=on_load)


def _transformer_files(placement: Placement) -> list[Path]:
    loras = (lora_file(lora.source.path) for lora in placement.loras)
    return [*placement.files[Component.TRANSFORMER].files, *loras]


def _transformer_key(placement: Placement) -> Hashable:
    """What the transformer is loaded otherwise for; what is only set on it is in `LoadedTransformer.follow`."""
    memory = placement.memory
    return (
        placement.device,
        placement.arithmetic.products,
        tuple(lora.source.strength for lora in placement.loras),
        (memory.rounds, memory.streamed, memory.offloads, memory.together and memory.streamed > 0),
    )


def _tensors(network: Any) -> Iterator[Tensor]:
    module = network.network
    assert isinstance(module, nn.Module)
    yield from module.parameters()
    yield from module.buffers()
