"""What the engine's networks have in common: a device that they can leave."""

from typing import Generic, Self, TypeVar

import torch
from torch import nn

NetworkT = TypeVar("NetworkT", bound=nn.Module)


class Placed(Generic[NetworkT]):
    """A network and where it is; it computes in the float type that its weights have."""

    def __init__(self, network: NetworkT) -> None:
        self.network = network
        parameter = next(parameter for parameter in network.parameters() if parameter.is_floating_point())
        self.dtype: torch.dtype = parameter.dtype

    @property
    def device(self) -> torch.device:
        """Where the network is now."""
        return next(self.network.parameters()).device

    def to(self, device: torch.device | str) -> Self:
        """Move the network, so that another one has room."""
        self.network.to(device)
        return self
