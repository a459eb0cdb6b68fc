"""What happens to the transformer's blocks between the file and their place: LoRAs, rounding, host memory.

A block is changed on the device as soon as it is whole there, and leaves it if it is to wait in host memory: neither
memory ever holds more than the form that is used, and the blocks on their way.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import nn

from soundreel.engines.host_memory import available_memory
from soundreel.engines.native.device import compute_dtype, release_memory
from soundreel.engines.native.memory_plan import MemoryPlan
from soundreel.engines.native.prepared import Placement
from soundreel.models.block import WanS2VTransformerBlock
from soundreel.models.layers import FusedFeedForward
from soundreel.models.transformer import WanS2VTransformer3DModel
from soundreel.weights.catalog import Component
from soundreel.weights.components import load_part
from soundreel.weights.load import OnLoad
from soundreel.weights.lora import Lora, apply_loras, fuse_loras
from soundreel.weights.precision import clip_layers, round_block, set_precision
from soundreel.weights.streaming import BlockStream, OffloadedLayers, matrices, places, plain, spread, to_host

HOST_MARGIN_BYTES = 10**9
"""That stay available on the host when blocks leave the device for it: what is decoded meanwhile comes there, too."""


class BlockPlacement:
    """Receives the blocks of one transformer, then settles it.

    Args:
        memory: what stays on the device.
        loras: added to weights before they are rounded.
    """

    def __init__(self, memory: MemoryPlan, loras: Sequence[Lora]) -> None:
        self.loras = loras
        self.changed: set[str] = set()
        """Layers that the LoRAs have been added to."""
        self._memory = memory
        self._waiting = set(spread(memory.blocks, memory.streamed))

    def __call__(self, name: str, block: nn.Module) -> None:
        """Change a block that has arrived, and move what is to wait in host memory."""
        if not isinstance(block, WanS2VTransformerBlock):
            return
        self.changed |= fuse_loras(block, name, self.loras)
        if self._memory.rounds:
            round_block(block)
        apart = list(clip_layers(block))
        if self._memory.offloads:
            to_host(place for layer in apart for place in places(layer))
        if int(name.rpartition(".")[2]) in self._waiting:
            to_host(matrices(block, apart))

    def settle(self, transformer: WanS2VTransformer3DModel, device: torch.device) -> None:
        """Let everything that waits come when it is needed."""
        blocks = list(transformer.blocks)
        apart = [layer for block in blocks for layer in clip_layers(block)]
        if self._memory.offloads:
            OffloadedLayers(apart, device)
        waiting = [block for number, block in enumerate(blocks) if number in self._waiting]
        if waiting:
            BlockStream(waiting, device, apart=apart, uses=2 if self._memory.together else 1)


class ResidentBlocks:
    """The blocks that stay on the device while the transformer samples; they can make room for something else."""

    def __init__(self, transformer: WanS2VTransformer3DModel, memory: MemoryPlan, device: torch.device) -> None:
        waiting = set(spread(memory.blocks, memory.streamed))
        blocks = [block for number, block in enumerate(transformer.blocks) if number not in waiting]
        self._places = [place for block in blocks for place in matrices(block, list(clip_layers(block)))]
        self._device, self._are_here = device, True

    def leave(self) -> bool:
        """Go to host memory, if that has the room; returns whether that gave any."""
        size = sum(place.tensor.nbytes for place in self._places)
        available = available_memory()
        fits = available is None or size + HOST_MARGIN_BYTES <= available
        moved = self._are_here and self._device.type != "cpu" and size > 0 and fits
        if moved:
            to_host(self._places)
            release_memory(self._device)
            self._are_here = False
        return moved

    def come_back(self) -> None:
        """Be on the device again."""
        if not self._are_here:
            for place in self._places:
                place.put(plain(place.tensor).to(self._device))
            self._are_here = True


@dataclass(frozen=True)
class LoadedTransformer:
    """A transformer whose weights are where a placement has them, and its blocks that can make room."""

    network: WanS2VTransformer3DModel
    resident: ResidentBlocks

    def follow(self, placement: Placement) -> None:
        """Set what needs no loading: the kernel of attention, and the pieces of the feed-forward layers."""
        self.network.use_attention(placement.arithmetic.attention)
        for module in self.network.modules():
            if isinstance(module, FusedFeedForward):
                module.tokens_at_once = placement.memory.tokens_at_once


def load_transformer(placement: Placement, on_load: OnLoad | None = None) -> LoadedTransformer:
    """The transformer with LoRAs added, computing as the placement's arithmetic says, its weights where it has them."""
    device, memory = placement.device, placement.memory
    blocks = BlockPlacement(memory, placement.loras)
    transformer: WanS2VTransformer3DModel = load_part(
        placement.files[Component.TRANSFORMER],
        WanS2VTransformer3DModel,
        device=device,
        dtype=compute_dtype(device),
        on_load=on_load,
        on_part=blocks,
    )
    apply_loras(transformer, blocks.loras, done=blocks.changed)
    set_precision(transformer, placement.arithmetic.products, device)
    blocks.settle(transformer, device)
    loaded = LoadedTransformer(transformer, ResidentBlocks(transformer, memory, device))
    loaded.follow(placement)
    return loaded
