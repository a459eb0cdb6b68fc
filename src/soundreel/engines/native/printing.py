"""What a render is printed with whose latents are all kept: the VAE alone, and any device that is here."""

from collections.abc import Callable

import torch

from soundreel.engines.base import ON_THE_CPU, ON_THE_GPU, Identity, Prepared
from soundreel.engines.native.demand import float_bytes, pixel_demand
from soundreel.engines.native.device import free_memory, vae_dtype
from soundreel.engines.native.memory_modes import fit_print
from soundreel.engines.native.prepared import Arithmetic, PrintPlacement, find_files, follow_convolutions
from soundreel.errors import InputError
from soundreel.models.devices import AUTO, pick_device
from soundreel.request import Request
from soundreel.types import Plan
from soundreel.weights.catalog import Component
from soundreel.weights.components import outline_part
from soundreel.weights.find import ModelFiles

PARTS = frozenset({Component.VAE})
"""Of the model, that latents are decoded with."""


def find_print_files(request: Request) -> ModelFiles:
    """The files of `PARTS`; other parts of the model need not be there any more."""
    return find_files(request, PARTS)


def prepare_print(plan: Plan, kept: Identity | None, held: Callable[[torch.device], int] | None = None) -> Prepared:
    """Check the VAE's file, and decide where and in what pieces latents are decoded; no weight is read.

    Args:
        kept: what was decided when the render was begun; None: nothing is known of it, and it will be refused.
        held: bytes of a device that networks of renders before hold.

    Raises:
        InputError: `kept` cannot be read.
        WeightsError: the VAE's file is missing or damaged.
        EngineError: the device is of the kind that the render was begun on, and yet rounds otherwise.
    """
    if kept is None:
        return Prepared(plan=plan, identity={})
    begun, files, device = Arithmetic.from_identity(kept), find_print_files(plan.request), _device(plan.request)
    vae = outline_part(files[Component.VAE])
    here = ON_THE_CPU if device.type == "cpu" else ON_THE_GPU
    stands_in = "" if device.type == begun.device else here
    dtype = torch.float32 if stands_in and device.type == "cpu" else vae_dtype(begun.vae, device)
    if not stands_in:
        follow_convolutions(begun, device)
    asked, bits = pixel_demand(plan, device, dtype), None if stands_in else begun.bits
    free = free_memory(device, 0 if held is None else held(device))
    memory = fit_print(float_bytes(vae, dtype), asked, plan.request.compute.memory, free, bits)
    return Prepared(
        plan=plan,
        identity=kept,
        placement=PrintPlacement(files=files, device=device, memory=memory, vae_dtype=dtype, stands_in=stands_in),
        notes=(_other_device(begun.device, device),) if stands_in else (),
        memory_bytes=memory.peak_bytes,
        memory_mode="the VAE alone",
        host_bytes=memory.host_bytes,
    )


def _device(request: Request) -> torch.device:
    """The one that was asked for, else the best that is here: decoding takes no other."""
    try:
        return pick_device(request.compute.device)
    except InputError:
        return pick_device(AUTO)


def _other_device(begun: str, device: torch.device) -> str:
    return (
        f"the render was begun on {begun} and is printed on {device.type}, which rounds otherwise: frames may differ "
        "in the last bits"
    )
