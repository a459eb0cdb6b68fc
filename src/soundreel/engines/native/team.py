"""Which devices compute a render together, and how they divide its work."""

from dataclasses import dataclass
from typing import Final

import torch
from torch import distributed

from soundreel.errors import EngineError, InputError
from soundreel.models.devices import pick_device, says_gpus, says_hidden
from soundreel.request import ALL_GPUS, Parallel, Request
from soundreel.request.fields import wrong

BRANCHES: Final = 2
"""Of classifier-free guidance."""


@dataclass(frozen=True, kw_only=True)
class Team:
    """Devices, one process for each, on a mesh of guidance × tokens ranks. The first is this process's."""

    devices: tuple[torch.device, ...]
    guidance: int = 1
    tokens: int = 1

    @property
    def size(self) -> int:
        """How many there are."""
        return len(self.devices)

    @property
    def gains(self) -> bool:
        """Whether the devices are several: processes on one processor share its cores."""
        return self.size > 1 and self.devices[0].type == "cuda"

    def says(self) -> str:
        """In a few words; "" for one device."""
        if self.size == 1:
            return ""
        branches, tokens = "the two branches of guidance", "the tokens of each pass"
        how = {(2, 1): branches, (1, self.tokens): tokens}.get(
            (self.guidance, self.tokens), f"{branches}, then {tokens}"
        )
        names = ", ".join(map(str, self.devices)) if self.devices[0].type == "cuda" else "the CPU"
        return f"{self.size} processes on {names}: they divide {how}"


def asked_devices(request: Request) -> tuple[torch.device, ...]:
    """The devices that `request` names with `--device` and `--gpus`.

    Raises:
        InputError: they are not here.
    """
    compute = request.compute
    device = pick_device(compute.device)
    return (device,) if compute.gpus is None else _devices(compute.gpus, device, compute.device)


def choose_team(request: Request, device: torch.device, heads: int) -> Team:
    """The devices that `request` asks for, `device` among them or the first of them, and how they divide the work.

    Args:
        heads: of the transformer's attention; tokens are divided among as many ranks at most.

    Raises:
        InputError: devices that are not here, or a division that this model or these options do not allow.
        EngineError: devices of different kinds.
    """
    parallel = request.compute.parallel
    if request.compute.gpus is None:
        if parallel is not Parallel.AUTO:
            raise wrong("compute.parallel", parallel, "several GPUs with it: --gpus 2, all, or which ones")
        return Team(devices=(device,))
    devices = _devices(request.compute.gpus, device, request.compute.device)
    if len(devices) == 1:
        return Team(devices=devices)
    _check_equal(devices)
    is_guided = request.sampling.guide_scale > 1
    guidance = _guidance(parallel, len(devices), is_guided=is_guided)
    tokens = len(devices) // guidance
    if tokens > heads:
        raise InputError(
            f"--gpus are {len(devices)}: the tokens of this model, which has {heads} attention heads, can be divided "
            f"among {heads} at most",
            field="compute.gpus",
        )
    return Team(devices=devices, guidance=guidance, tokens=tokens)


def _guidance(parallel: Parallel, count: int, *, is_guided: bool) -> int:
    """Ranks along guidance."""
    if parallel is Parallel.GUIDANCE:
        if not is_guided:
            raise wrong("compute.parallel", parallel, "tokens or auto where guidance is off (--guide-scale 1)")
        if count != BRANCHES:
            raise wrong("compute.parallel", parallel, f"auto for {count} GPUs: guidance has two branches")
        return BRANCHES
    if parallel is Parallel.AUTO and is_guided and count % BRANCHES == 0:
        return BRANCHES
    return 1


def _devices(gpus: str, device: torch.device, asked: str) -> tuple[torch.device, ...]:
    """The devices of `--gpus`, in order; with `--device cpu` as many processes."""
    named = [int(number) for number in gpus.split(",")] if "," in gpus else None
    if device.type != "cuda":
        if gpus == "1":
            return (device,)
        if device.type != "cpu" or asked != device.type:
            raise wrong("compute.gpus", gpus, f"NVIDIA GPUs that are here: PyTorch finds none{says_hidden()}")
        if named is not None or gpus == ALL_GPUS:
            raise wrong("compute.gpus", gpus, f"a number of processes, where --device is {device.type}")
        return (device,) * int(gpus)
    there = torch.cuda.device_count()
    if named is None:
        first = device.index or 0
        count = there if gpus == ALL_GPUS else int(gpus)
        named = [first, *(number for number in range(there) if number != first), *range(there, count)][:count]
    missing = [number for number in named if number >= there]
    if missing:
        raise wrong("compute.gpus", gpus, f"GPUs that are here: there {says_gpus(there)}{says_hidden()}")
    return tuple(torch.device("cuda", number) for number in named)


def _check_equal(devices: tuple[torch.device, ...]) -> None:
    """Guidance and tokens go by the slowest GPU, and different ones round differently."""
    if devices[0].type != "cuda":
        return
    names = {torch.cuda.get_device_name(device) for device in devices}
    if len(names) > 1:
        raise EngineError(
            f"--gpus are of different kinds ({', '.join(sorted(names))}): guidance and tokens would go by the slower, "
            "and round in two ways; take those of one kind, or --cut and --parallel shots"
        )
    if not (distributed.is_available() and distributed.is_nccl_available()):
        raise EngineError(
            "GPUs speak over NCCL, which this PyTorch does not have (it is there on Linux): one GPU, or --cut and "
            "--parallel shots, needs none"
        )
