"""Which device a network computes on."""

import torch

from soundreel.errors import InputError

AUTO = "auto"


def pick_device(name: str) -> torch.device:
    """The device for a `--device` option; with "auto" a CUDA GPU, else Apple's, else the CPU.

    Raises:
        InputError: the name is no device, or there is none of that kind.
    """
    if name == AUTO:
        return torch.device(_best_kind())
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise InputError(f"--device is {name!r}: expected auto, cpu, cuda, cuda:N or mps ({reason})") from error
    return device


def _best_kind() -> str:
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"
