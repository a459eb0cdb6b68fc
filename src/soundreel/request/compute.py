"""The groups of a request that say what computes: devices, files, servers."""

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from soundreel.request.checks import check_header, check_url
from soundreel.request.choices import Attention, Memory, Parallel, Precision, VaePrecision
from soundreel.request.fields import Role, option, settle, wrong
from soundreel.request.panels import MODEL, SERVER, SPEED
from soundreel.units import StrPath

ALL_GPUS: Final = "all"


MOST_GPUS: Final = 64
"""Of one host."""


def _names_gpus(gpus: str) -> bool:
    """Whether it is `all`, a number of GPUs, or different numbers that they have, with commas between."""
    if gpus == ALL_GPUS:
        return True
    if not re.fullmatch(r"\d{1,3}(,\d{1,3})*", gpus):
        return False
    numbers = [int(number) for number in gpus.split(",")]
    if len(numbers) == 1:
        return 1 <= numbers[0] <= MOST_GPUS
    return len(set(numbers)) == len(numbers) <= MOST_GPUS


def memory_bytes(memory: str) -> int | None:
    """The bytes that a size stands for; None for auto and high. `ValueError` for anything else."""
    if memory in (Memory.AUTO, Memory.HIGH):
        return None
    size = re.fullmatch(r"(\d+(?:\.\d+)?)gb", memory)
    if size is None or float(size[1]) == 0:
        raise ValueError(memory)
    return round(float(size[1]) * 1e9)


def split_lora(lora: str) -> tuple[str, str]:
    """Path and the rest of `FILE` or `FILE:strength`; no path where nothing here has that name: it is a server's."""
    path, colon, strength = lora.rpartition(":")
    found = [(name, rest) for name, rest in ((lora, ""), (path, colon + strength)) if name and Path(name).exists()]
    return found[0] if found else ("", lora)


def _absolute_lora(lora: str) -> str:
    path, rest = split_lora(lora)
    return str(Path(path).absolute()) + rest if path else rest


def _lora_name(lora: str) -> str:
    path, rest = split_lora(lora)
    if path:
        return Path(path).name + rest
    return re.split(r"[/\\]", rest)[-1] if rest.startswith(("/", "~")) else rest


@dataclass(frozen=True, kw_only=True)
class Compute:
    """What computes, and from which files."""

    models: StrPath | None = option(
        None, "Folder of the model, in any layout",
        role=Role.IDENTITY, panel=MODEL, flags=("models", "ckpt-dir"), is_path=True,
    )  # fmt: skip
    loras: tuple[str, ...] = option(
        (), "FILE or FILE:STRENGTH; several times if need be",
        role=Role.IDENTITY, panel=MODEL, flags=("lora",), make_absolute=_absolute_lora, make_name=_lora_name,
    )  # fmt: skip
    device: str = option("auto", "auto, cpu, cuda, cuda:1, mps", role=Role.IDENTITY, panel=MODEL)
    gpus: str | None = option(  # on a CPU: processes
        None, "Several GPUs: 2, all, or which ones: 0,2",
        role=Role.NEITHER, panel=SPEED, default_says="1", is_of_machine=True,
    )  # fmt: skip
    parallel: Parallel = option(
        Parallel.AUTO, "What several GPUs divide: shots, the branches of guidance, or tokens",
        role=Role.NEITHER, panel=SPEED, is_of_machine=True,
    )  # fmt: skip
    attention: Attention = option(
        Attention.AUTO, "auto is the fastest exact kernel; sage and fp8 round", role=Role.PIXELS, panel=SPEED
    )
    precision: Precision = option(
        Precision.AUTO, "Of the large products; auto is fp8 for fp8 files", role=Role.PIXELS, panel=SPEED
    )
    vae_precision: VaePrecision = option(
        VaePrecision.AUTO, "Of the VAE; auto is bf16 on GPUs, preset high fp32", role=Role.PIXELS, panel=SPEED
    )
    memory: str = option(
        Memory.AUTO, "Of the GPU: auto, high, or at most so much: 24gb, 16gb, 12gb, 20.5gb; less takes fp8",
        role=Role.IDENTITY, panel=SPEED,
    )  # fmt: skip

    def __post_init__(self) -> None:
        settle(self, "compute.")
        size = self.memory.strip().lower()
        try:
            memory_bytes(size)
        except ValueError:
            raise wrong("compute.memory", self.memory, "auto, high, or a size as 24gb, 16gb, 20.5gb") from None
        object.__setattr__(self, "memory", size)
        if self.gpus is not None:
            gpus = self.gpus.replace(" ", "").lower()
            if not _names_gpus(gpus):
                raise wrong("compute.gpus", self.gpus, "a number as 2, all, or different numbers as 0,2")
            object.__setattr__(self, "gpus", gpus)


DEFAULT_SERVER_URL: Final = "http://localhost:8188"
"""Where a ComfyUI listens that was started without options."""


@dataclass(frozen=True, kw_only=True)
class Server:
    """One ComfyUI server or several, and what the comfyui engine asks of them. Model files are named as there."""

    urls: tuple[str, ...] = option(  # http or https, with a path if need be
        (DEFAULT_SERVER_URL,), "A server; of several the least busy",
        role=Role.NEITHER, panel=SERVER, flags=("url",), is_address=True,
    )  # fmt: skip
    headers: tuple[str, ...] = option(
        (), "'Name: value' for a proxy that asks who you are",
        role=Role.NEITHER, panel=SERVER, flags=("header",), is_secret=True,
    )  # fmt: skip
    ca_file: StrPath | None = option(
        None, "Certificates of https servers to trust, in PEM format, beside the well-known ones",
        role=Role.NEITHER, panel=SERVER, is_path=True,
    )  # fmt: skip
    timeout: float | None = option(
        None, "Longest time without progress, in seconds",
        role=Role.NEITHER, panel=SERVER, default_says="by the size of the render", above=0,
    )  # fmt: skip
    workflow: StrPath | None = option(
        None, "Your own graph, as the editor saves it or in API format",
        role=Role.PIXELS, panel=SERVER, is_path=True, is_file=True,
    )  # fmt: skip
    diffusion_model: str | None = option(  # None: the first official name that the server has; so for all four
        None, "File on the server", role=Role.PIXELS, panel=SERVER, flags=("diffusion-model", "unet")
    )
    text_encoder: str | None = option(
        None, "File on the server", role=Role.PIXELS, panel=SERVER, flags=("text-encoder", "clip")
    )
    vae: str | None = option(None, "File on the server", role=Role.PIXELS, panel=SERVER)
    audio_encoder: str | None = option(None, "File on the server", role=Role.PIXELS, panel=SERVER)
    first_frame_fix: bool = option(  # or the first picture comes out too contrasty
        True, "Decode the first latent frame twice", role=Role.PIXELS, panel=SERVER,
        flags=("first-frame-fix", "no-first-frame-fix"),
    )  # fmt: skip

    def __post_init__(self) -> None:
        settle(self, "server.")
        if not self.urls:
            raise wrong("server.urls", self.urls, f"at least one, for example {DEFAULT_SERVER_URL}")
        for url in self.urls:
            check_url(url)
        for header in self.headers:
            check_header(header)
