"""What a server offers: from what it was told, and what can run here, to models by name and workers with devices."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from soundreel.engines.base import why_not_native
from soundreel.engines.driver import count_cuda_gpus
from soundreel.errors import InputError
from soundreel.request import ALL_GPUS, Compute, EngineName, Request
from soundreel.server.settings import Catalogue, Model, WorkerSpec

NATIVE_NAME: Final = "wan2.2-s2v-14b"
"""Of the native model, where it is given no other."""

ENGINES: Final = (EngineName.NATIVE, EngineName.COMFYUI, EngineName.DRAFT)
"""In the order in which they are the default."""


@dataclass(frozen=True, kw_only=True)
class Offer:
    """What a server was told to offer."""

    engines: Sequence[EngineName] = ()  # (): all that can run
    gpus: str | None = None  # all, or numbers with commas; None: one worker on `device`
    gpus_each: int = 1
    device: str = "auto"
    memory: str = "auto"
    models: Sequence[str] = ()  # NAME=FOLDER
    loras: Sequence[str] = ()  # NAME=FILE
    workflows: Sequence[str] = ()
    urls: Sequence[str] = ()
    drafts: int = 1

    def catalogue(self) -> Catalogue:
        """All that requests may name.

        Raises:
            InputError: a file is not there, or nothing can render.
        """
        engines = self._engines()
        models = [model for engine in ENGINES if engine in engines for model in self._models_of(engine)]
        return Catalogue(
            models=tuple(models), loras=_named("--lora", self.loras), workflows=_named("--workflow", self.workflows)
        )

    def workers(self) -> tuple[WorkerSpec, ...]:
        """The workers of all engines."""
        engines = self._engines()
        return tuple(spec for engine in ENGINES if engine in engines for spec in self._workers_of(engine))

    def _engines(self) -> set[EngineName]:
        asked = set(self.engines) - {EngineName.AUTO}
        if EngineName.COMFYUI in asked and not self.urls:
            raise InputError("--engine comfyui needs its servers: name them with --url", field="server.urls")
        if asked:
            return asked
        found = {EngineName.DRAFT} | ({EngineName.COMFYUI} if self.urls else set())
        if self.models or why_not_native(self._probe()) is None:
            found.add(EngineName.NATIVE)
        return found

    def _probe(self) -> Request:
        return Request(audio="-", compute=Compute(device=self.device))

    def _models_of(self, engine: EngineName) -> Iterator[Model]:
        if engine is not EngineName.NATIVE:
            yield Model(name=str(engine), engine=str(engine))
        elif self.models:
            for name, folder in _named("--models", self.models).items():
                yield Model(name=name, engine=str(engine), folder=folder)
        else:
            yield Model(name=NATIVE_NAME, engine=str(engine))

    def _workers_of(self, engine: EngineName) -> Iterator[WorkerSpec]:
        if engine is EngineName.NATIVE:
            for number, devices in enumerate(self._device_sets(), start=1):
                yield WorkerSpec(name=f"native-{number}", engine=str(engine), devices=devices, memory=self.memory)
        elif engine is EngineName.COMFYUI:
            for number, url in enumerate(self.urls, start=1):
                yield WorkerSpec(name=f"comfyui-{number}", engine=str(engine), url=url)
        else:
            for number in range(1, max(1, self.drafts) + 1):
                yield WorkerSpec(name=f"draft-{number}", engine=str(engine))

    def _device_sets(self) -> list[tuple[str, ...]]:
        if self.gpus is None:
            return [(self.device,)]
        numbers = self._gpu_numbers()
        if self.gpus_each < 1 or len(numbers) % self.gpus_each:
            raise InputError(f"--gpus-each is {self.gpus_each}, and there are {len(numbers)} GPUs: expected a divisor")
        devices = [f"cuda:{number}" for number in numbers]
        return [tuple(devices[k : k + self.gpus_each]) for k in range(0, len(devices), self.gpus_each)]

    def _gpu_numbers(self) -> list[int]:
        there = count_cuda_gpus()
        if self.gpus == ALL_GPUS:
            if not there:
                raise InputError("--gpus all: there is no GPU here; leave it out", field="compute.gpus")
            return list(range(there))
        parts = [part.strip() for part in (self.gpus or "").split(",")]
        if not all(part.isdecimal() and int(part) < there for part in parts) or len(set(parts)) < len(parts):
            raise InputError(
                f"--gpus is {self.gpus!r}: expected all, or different numbers below {there}, the GPUs here, as 0,2",
                field="compute.gpus",
            )
        return list(map(int, parts))


def _named(option: str, given: Sequence[str]) -> dict[str, Path]:
    """`NAME=PATH` of each; without a name the file's own."""
    found: dict[str, Path] = {}
    for text in given:
        name, equals, path = text.partition("=")
        place = Path(path if equals else text).absolute()
        name = name if equals else place.stem
        if not place.exists():
            raise InputError(f"{option} {text}: there is no {str(place)!r}")
        if not name or ":" in name or name in found:
            raise InputError(f"{option} {text}: expected NAME=PATH, with names that differ and have no colon")
        found[name] = place
    return found
