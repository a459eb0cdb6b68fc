"""Where the native engine computes, and in which float type."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch

from soundreel.engines.native.memory_plan import MemoryPlan
from soundreel.errors import EngineError
from soundreel.models.devices import is_out_of_gpu_memory
from soundreel.models.kernels.dispatch import first_line, is_convolved
from soundreel.request import VaePrecision
from soundreel.weights.catalog import Component
from soundreel.weights.find import ModelFiles
from soundreel.weights.read import open_tensors
from soundreel.weights.scan import Part
from soundreel.weights.stored import collect
from soundreel.weights.transformer_layouts import layout_of


def compute_dtype(device: torch.device) -> torch.dtype:
    """bfloat16 as the reference on GPUs, float32 on the CPU."""
    return torch.float32 if device.type == "cpu" else torch.bfloat16


def vae_dtype(wanted: VaePrecision, device: torch.device) -> torch.dtype:
    """The VAE's float type: with "auto" half the reference's on GPUs, where that takes two thirds of the time."""
    half = wanted is VaePrecision.BF16 or (wanted is VaePrecision.AUTO and device.type != "cpu")
    return torch.bfloat16 if half else torch.float32


def has_own_convolutions(device: torch.device, dtype: torch.dtype) -> bool:
    """Whether our own kernels compute the VAE's convolutions there: their results do not depend on its pieces."""
    return device.type == "cuda" and is_convolved(device, dtype)


def component_dtypes(device: torch.device, vae: VaePrecision = VaePrecision.AUTO) -> Mapping[Component, torch.dtype]:
    """The float type of each network; the audio encoder stays float32, as in the reference."""
    return {
        Component.TRANSFORMER: compute_dtype(device),
        Component.TEXT_ENCODER: compute_dtype(device),
        Component.VAE: vae_dtype(vae, device),
        Component.AUDIO_ENCODER: torch.float32,
    }


def transformer_sizes(part: Part) -> Mapping[str, Any]:
    """The transformer's own configuration, from its config.json or its tensors' shapes."""
    stored = collect([open_tensors(path) for path in part.files])
    return layout_of({name: tensor.header.shape for name, tensor in stored.items()}, part.config).sizes


def head_width(files: ModelFiles) -> int:
    """Of the transformer's attention."""
    return int(transformer_sizes(files[Component.TRANSFORMER])["attention_head_dim"])


def wait(device: torch.device) -> None:
    """Until everything that was asked of a device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def device_name(device: torch.device) -> str:
    """What a device is called."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def release_memory(device: torch.device) -> None:
    """Give memory that no tensor uses back to the device: blocks of one network seldom fit the next one's."""
    if device.type == "cuda":
        torch.cuda.empty_cache()


def free_memory(device: torch.device, held: int = 0) -> int | None:
    """Bytes that a render may take of a GPU; None for the CPU and where the system does not say.

    Args:
        held: by networks that the render uses again, or lets go of.
    """
    if device.type != "cuda":
        return None
    cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + cached + held


class DeviceLostError(EngineError):
    """A GPU that answers no more: whatever lay on it is gone."""


@contextmanager
def says_what_is_lost() -> Iterator[None]:
    """Make an error of the device itself a `DeviceLostError`; running out of its memory is none."""
    try:
        yield
    except RuntimeError as error:
        if not is_device_error(error) or is_out_of_gpu_memory(error):
            raise
        raise DeviceLostError(
            f"the GPU was lost ({first_line(error)}); finished clips are kept: leave this session and open another, "
            "and if that fails too, start the program anew"
        ) from error


def is_device_error(error: RuntimeError) -> bool:
    """Whether the device or its driver failed, after which it does nothing more for this process."""
    kind = getattr(torch, "AcceleratorError", None)  # since PyTorch 2.8
    return (kind is not None and isinstance(error, kind)) or str(error).startswith("CUDA error")


@contextmanager
def capped(device: torch.device, memory: MemoryPlan) -> Iterator[None]:
    """Let PyTorch allocate no more than the plan's cap, and make running out of memory an `EngineError`.

    Within, `device` is the current GPU, the one that Triton's kernels run on.
    """
    has_cap = memory.cap_bytes is not None and device.type == "cuda"
    index = (torch.cuda.current_device() if device.index is None else device.index) if has_cap else None
    if has_cap:
        total = torch.cuda.mem_get_info(index)[1]
        torch.cuda.set_per_process_memory_fraction(min(1.0, (memory.cap_bytes or total) / total), index)
    try:
        with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
            yield
    except RuntimeError as error:
        if not is_out_of_gpu_memory(error):
            raise
        raise EngineError(
            f"{device} ran out of memory ({memory.says()}): take a smaller --memory, a smaller --width and --height "
            "or shorter --infer-frames; finished clips are kept"
        ) from error
    finally:
        if has_cap:
            torch.cuda.set_per_process_memory_fraction(1.0, index)
