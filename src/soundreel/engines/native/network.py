"""Base class of the networks beside the transformer: loading, device and float type."""

from typing import Any, ClassVar, Generic, Self, TypeVar, cast

import torch
from torch import nn

from soundreel.weights.catalog import Component
from soundreel.weights.components import load_part
from soundreel.weights.find import ModelFiles
from soundreel.weights.load import OnLoad

NetworkT = TypeVar("NetworkT", bound=nn.Module)


class LoadedNetwork(Generic[NetworkT]):
    """An encoder or the VAE, loaded; subclasses add what the engine uses it for.

    It computes in the float type of its weights.
    """

    component: ClassVar[Component]
    kind: ClassVar[type[nn.Module]]
    """Class of the network, the subclass's `NetworkT`."""

    def __init__(self, network: NetworkT) -> None:
        self.network = network
        parameter = next(parameter for parameter in network.parameters() if parameter.is_floating_point())
        self.dtype: torch.dtype = parameter.dtype

    @classmethod
    def load(
        cls,
        model: ModelFiles,
        *,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.float32,
        on_load: OnLoad | None = None,
    ) -> Self:
        """Load the network from the model's files, to compute in `dtype` on `device`; raises `WeightsError`."""
        others = cls.other_arguments(model)  # before the weights, which take minutes
        network = load_part(model[cls.component], cls.kind, device=device, dtype=dtype, on_load=on_load)
        return cls(cast(NetworkT, network), *others)

    @classmethod
    def other_arguments(cls, _model: ModelFiles) -> tuple[Any, ...]:
        """Arguments of the constructor after the network; raises `WeightsError`."""
        return ()

    @property
    def device(self) -> torch.device:
        """Where the network is now."""
        return next(self.network.parameters()).device

    def to(self, device: torch.device | str) -> Self:
        """Move the network; returns itself."""
        self.network.to(device)
        return self
