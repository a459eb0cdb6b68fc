"""The one interface that all engines share, and how one is chosen."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Protocol, cast

from soundreel.errors import EngineError, InputError, SoundreelError
from soundreel.request import Request
from soundreel.types import Carry, Plan, RenderedClip, Report


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a plan takes on this machine."""

    seconds: float | None  # None: nothing is known
    memory_bytes: int | None
    seconds_basis: str = ""  # what the seconds are known from
    memory_mode: str = ""  # what is kept where, in a few words


class Engine(Protocol):
    """Turns a plan into pictures, clip by clip."""

    name: str
    equal_clips: bool  # all clips must have one size

    def check(self, request: Request) -> None:
        """Raise for everything that can fail before time is spent."""

    def estimate(self, plan: Plan) -> Estimate:
        """Measure or compute what `plan` takes here; a second at most, and nothing is written."""
        ...

    def model_files(self, request: Request) -> Mapping[str, str]:
        """Identity of every model file that takes part in a render of `request`, by a name that people know it by."""
        ...

    def notes(self, plan: Plan) -> Iterable[str]:
        """What the user should know before `plan` is rendered."""
        ...

    def render(
        self, plan: Plan, start: int, carry: Carry | None, report: Report, scratch: Path
    ) -> Iterator[RenderedClip]:
        """Yield the clips from index `start` on; `carry` is that of clip `start - 1`.

        A clip that is rendered anew with another carry than before makes the next one be rendered anew: an engine
        whose clips do not depend on each other gives empty ones.

        `scratch` is a folder of the engine's own: what it leaves there outlives a crash, until the video is whole.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class Choice:
    """An engine and, in a few words, why it was taken."""

    engine: Engine
    why: str


AUTO = "auto"

ENGINES = {
    "native": "soundreel.engines.native:NativeEngine",
    "comfyui": "soundreel.engines.comfyui:ComfyUIEngine",
    "draft": "soundreel.engines.draft:DraftEngine",
}
"""Engines by name; a module is imported only when its engine is opened."""


def open_engine(request: Request) -> Choice:
    """Open the engine that `request` names, or with "auto" the best that can run here.

    Raises:
        InputError: an unknown name.
        EngineError: the engine needs packages that are not installed.
    """
    if request.engine not in (AUTO, *ENGINES):
        raise InputError(f"there is no engine {request.engine!r}: choose {AUTO}, {' or '.join(ENGINES)}")
    if request.engine != AUTO:
        return Choice(engine=_load(request.engine), why="as asked")
    no_native = why_not_native(request)
    if no_native is None:
        return Choice(engine=_load("native"), why="a GPU and the weights are here")
    no_server = why_not_comfyui(request)
    if no_server is None:
        return Choice(engine=_load("comfyui"), why=f"a ComfyUI server answers; native: {no_native}")
    return Choice(engine=_load("draft"), why=f"no model render: native: {no_native}; comfyui: {no_server}")


def why_not_native(request: Request) -> str | None:
    """What keeps the native engine from running here; None if nothing does."""
    if find_spec("torch") is None or find_spec("diffusers") is None:
        return f"the packages are missing ({INSTALL_NATIVE})"
    import torch

    if not torch.cuda.is_available() and request.device in (AUTO, "cuda"):
        return "there is no GPU (--engine native --device cpu uses none)"
    from soundreel.weights.find import find_model

    try:
        find_model(*([] if request.models is None else [request.models]))
    except SoundreelError as error:
        return str(error)
    return None


def why_not_comfyui(request: Request) -> str | None:
    """What keeps the servers of `request` from rendering it; None if nothing does."""
    try:
        _load("comfyui").check(request)
    except SoundreelError as error:
        return str(error)
    return None


INSTALL_NATIVE = "pip install '.[native]' in a clone of soundreel"


def _load(name: str) -> Engine:
    module, _, attribute = ENGINES[name].partition(":")
    try:
        return cast(Engine, getattr(import_module(module), attribute)())
    except ModuleNotFoundError as error:
        raise EngineError(f"engine {name} needs the package {error.name}: {INSTALL_NATIVE}") from error
