"""What computes the velocities of a clip's steps: the transformer, in this process or in several.

Legend: F latent frames, h × w latent size, n rows of text, S audio states, C their width.
"""

from dataclasses import dataclass, fields
from typing import Any, Protocol, Self

import torch
from torch import Tensor

from soundreel.models.conditioning import Conditioning
from soundreel.models.parallel.ranks import Mesh
from soundreel.models.parallel.tokens import TokenParallel, undivided
from soundreel.models.transformer import WanS2VTransformer3DModel


@dataclass(frozen=True, kw_only=True, eq=False)
class ClipConditions:
    """What the steps of a clip see, hear and are told. The first branch is the conditional one."""

    clip: int  # its number, for messages
    size: tuple[int, int, int]  # F, h, w
    texts: tuple[Tensor, ...]  # of each guidance branch, [n, width]
    sounds: tuple[Tensor, ...]  # of each, [S, C, 4·F]
    reference: Tensor | None  # latents [16, 1, h, w]
    motion: Tensor | None  # latents [16, 19, h, w]
    pose: Tensor | None  # latents [16, F, h, w]

    def to(self, device: torch.device | str) -> Self:
        """The same with all tensors on a device."""

        def moved(value: Any) -> Any:
            if isinstance(value, tuple):
                return tuple(moved(entry) for entry in value)
            return value.to(device) if isinstance(value, Tensor) else value

        return type(self)(**{field.name: moved(getattr(self, field.name)) for field in fields(self)})


class Denoiser(Protocol):
    """Computes velocities of one clip after the other."""

    def condition(self, conditions: ClipConditions) -> None:
        """Begin a clip: compute what its steps share."""
        ...

    def __call__(self, latents: Tensor, timestep: Tensor, count: int) -> list[Tensor]:
        """The velocities of the first `count` branches at latents [16, F, h, w]: of the same shape each."""
        ...

    def forget(self) -> None:
        """End the clip: give the room back that its conditioning takes."""
        ...


class LocalDenoiser:
    """The transformer in this process, alone or as one rank of a mesh, all of which have to make the same calls.

    Args:
        transformer: on its device.
        together: branches go through each block together: for blocks that are streamed.
        mesh: None: this process computes alone.
    """

    def __init__(
        self, transformer: WanS2VTransformer3DModel, *, together: bool = False, mesh: Mesh | None = None
    ) -> None:
        self._together, self._mesh = together, mesh
        shares_tokens = mesh is not None and mesh.tokens.size > 1
        self._model: Any = TokenParallel(transformer, mesh.tokens) if mesh and shares_tokens else undivided(transformer)
        self._rank, self._ranks = (mesh.guidance.rank, mesh.guidance.size) if mesh else (0, 1)
        self._branches: dict[int, Any] = {}

    def condition(self, conditions: ClipConditions) -> None:
        """Begin a clip: compute what its steps share, for the branches that are computed here."""
        frames, height, width = conditions.size
        pairs = list(zip(conditions.texts, conditions.sounds, strict=True))
        self._branches = {
            number: self._model.condition(
                text=pairs[number][0],
                audio=pairs[number][1],
                frames=frames,
                height=height,
                width=width,
                reference=conditions.reference,
                motion=conditions.motion,
                pose=conditions.pose,
            )
            for number in self._own(len(pairs))
        }

    def __call__(self, latents: Tensor, timestep: Tensor, count: int) -> list[Tensor]:
        """The velocities of the first `count` branches at latents [16, F, h, w]: of the same shape each.

        A rank that is not needed for them returns none.
        """
        velocities = self._own_velocities(latents.unsqueeze(0), timestep, [self._branches[k] for k in self._own(count)])
        if self._mesh is None or count < self._ranks:
            return velocities
        self._mesh.tokens.place.enter("the velocities of both branches")
        everyone = self._mesh.guidance.all_gather(torch.stack(velocities))
        return [everyone[number % self._ranks][number // self._ranks] for number in range(count)]

    def forget(self) -> None:
        """Give the room back that the clip's conditioning takes."""
        self._branches = {}

    def _own(self, count: int) -> range:
        """Which of `count` branches are computed here."""
        return range(self._rank, count, self._ranks)

    def _own_velocities(self, batch: Tensor, timestep: Tensor, branches: list[Conditioning]) -> list[Tensor]:
        if self._together and len(branches) > 1:
            return [velocity[0] for velocity in self._model.forward_branches(batch, timestep, branches)]
        return [self._model(batch, timestep, branch)[0] for branch in branches]
