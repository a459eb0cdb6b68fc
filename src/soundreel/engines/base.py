"""The one interface that all engines share, and how one is chosen."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Protocol, Self, cast

from numpy.typing import NDArray

from soundreel.engines.driver import find_gpu
from soundreel.errors import INSTALL_NATIVE, EngineError, SoundreelError
from soundreel.request import EngineName, Request
from soundreel.types import Carry, Check, Clip, Plan, RenderedClip, Report, go_on

Identity = Mapping[str, Any]
"""What an engine decided that changes pixels, by name and ready for JSON: precision, kernels, rounding, model names.

Decided once, kept with the render, and binding for whoever goes on with it.
"""


ENCODED: Final = "encoded"
DECODED: Final = "decoded"
"""Facts of a clip: how latents were made of what it continues, and pixels of its own latents, where that was not as the
render's identity says and the last bits may differ: one of `OTHERWISE`."""

ON_THE_CPU, ON_THE_GPU, IN_SMALLER_PIECES = OTHERWISE = "on the CPU", "on the GPU", "in smaller pieces"


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """A plan that has passed an engine's checks, and every decision that the engine made for it."""

    plan: Plan
    identity: Identity
    placement: Any = None  # the engine's own: devices, memory mode, server; decided anew on each machine
    notes: tuple[str, ...] = ()  # what the user should know
    memory_bytes: int | None = None  # the most that is taken of the device; None: nothing is known
    memory_mode: str = ""  # what is kept where, in a few words
    devices: str = ""  # what computes, and how it divides the work, in a few words; "": one device
    host_bytes: int | None = None  # the most that is taken of the host's memory beside it; None: nothing is known
    host_locked_bytes: int = 0  # of them that the system cannot move: they wait for the device


class Negatives(Protocol):
    """Keeps what an engine makes pictures from (latents), so that what was sampled is never sampled again."""

    def find(self, index: int) -> Mapping[str, NDArray[Any]] | None:
        """The negative of the clip with an index; None: there is none that counts."""
        ...

    def facts(self, index: int) -> Mapping[str, Any]:
        """What was noted of it."""
        ...

    def keep(self, clip: Clip, tensors: Mapping[str, NDArray[Any]], facts: Mapping[str, Any]) -> None:
        """Store the negative of a clip; it is on the disk when this returns."""
        ...


class NoNegatives:
    """Keeps none: every clip is sampled."""

    def find(self, index: int) -> None:
        """There is none."""
        del index

    def facts(self, index: int) -> Mapping[str, Any]:
        """Nothing was noted."""
        del index
        return {}

    def keep(self, clip: Clip, tensors: Mapping[str, NDArray[Any]], facts: Mapping[str, Any]) -> None:
        """Let it go."""


@dataclass(frozen=True, kw_only=True)
class Start:
    """A clip to render, and what it starts from."""

    index: int
    carry: Carry | None = field(default_factory=Carry)
    """Of the clip before. None: that was rendered just now, or the carry is to be made from negatives."""
    scratch: Path  # a folder of the engine's own: what it leaves there outlives a crash, until the video is whole
    negatives: Negatives = field(default_factory=NoNegatives)  # for engines that keep them


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a plan takes on this machine."""

    seconds: float | None  # None: nothing is known
    memory_bytes: int | None
    seconds_basis: str = ""  # what the seconds are known from
    clip_seconds: tuple[float, ...] = ()  # of them those of each clip; (): nothing is known of it
    speedup: float | None = None  # by devices that share each clip, loading left out; None: one device


@dataclass(frozen=True, kw_only=True)
class KeptBytes:
    """What an engine's negatives and carries take on the disk."""

    negatives: tuple[int, ...]  # of each clip
    carry: int = 0  # of one clip: what the next one continues


class Device(NamedTuple):
    """A device that computes."""

    name: str  # "cuda:1", as `--device` takes it
    kind: str  # "NVIDIA H200": those of one kind round alike


@dataclass(frozen=True, kw_only=True)
class Elsewhere:
    """Other processes that render in this one's place, and what those of a session hold already."""

    render: bool = False  # this process only prepares
    there: int = 0  # processes of renders before
    held: Mapping[str, int] = field(default_factory=dict)  # their bytes, by device


class Engine(Protocol):
    """Turns a plan into pictures, clip by clip. A context manager: on leaving it lets go of what it has loaded."""

    name: str
    equal_clips: bool  # several clips of a shot must have one size
    reach: int | None  # frames before a clip that are made from negatives where they are not kept; None: it has none
    chains_clips: bool  # a clip is rendered from the one before it in its shot
    divides_clips: bool  # several devices can compute one clip together
    keeps: bool  # set where more renders are to follow: it may hold more than one needs
    elsewhere: Elsewhere  # set before each `prepare`

    def model_files(self, request: Request) -> Mapping[str, str]:
        """Digest of every local model file that takes part in a render of `request`, by a name people know it by."""
        ...

    def devices(self, request: Request) -> Sequence[Device]:
        """The devices that `request` asks for with `--gpus`; none where that means nothing to this engine.

        Raises:
            InputError: they are not here.
        """
        ...

    def prepare(self, plan: Plan, kept: Identity | None = None) -> Prepared:
        """Check all that can fail before time is spent, and decide all that there is to decide. Nothing is written.

        Args:
            kept: what was decided when the render was begun; it is followed.

        Raises:
            SoundreelError: `plan` cannot be rendered here, or not as `kept` says.
        """
        ...

    def print_files(self, request: Request) -> Mapping[str, str]:
        """Those of `model_files` that pictures are printed from negatives with."""
        ...

    def prepare_print(self, plan: Plan, kept: Identity | None) -> Prepared:
        """As `prepare`, where nothing is to be sampled: what printing does not need is not asked for.

        Args:
            kept: what was decided when the render was begun; None: nothing is known of it, and it will be refused.

        Raises:
            SoundreelError: `plan` cannot be printed here.
        """
        ...

    def estimate(self, prepared: Prepared) -> Estimate:
        """Measure or compute what a render takes here; a second at most, and nothing is written."""
        ...

    def held(self) -> Mapping[str, int]:
        """Bytes that what it has loaded takes of GPUs, by device."""
        ...

    def file_tags(self, scratch: Path) -> Mapping[str, str]:
        """What a finished video tells beside the recipe, by metadata key; `scratch` is that of the render."""
        ...

    def kept_bytes(self, plan: Plan) -> KeptBytes:
        """What the negatives and carries of a plan take on the disk."""
        ...

    def render(
        self, prepared: Prepared, starts: Iterable[Start], report: Report, check: Check = go_on
    ) -> Iterator[RenderedClip]:
        """Yield the clip of each start, in any order of chains, and within a chain in the plan's.

        A start is asked for when the clip before it has been taken: until then nobody may know which one it is. An
        engine that keeps negatives may yield a clip whose frames are still to come (`RenderedClip.arrival`): they come
        while the next one is asked for.

        `report` hears every step. `check` is called in every loop over frames or sound in between; both may raise to
        stop.

        A clip that is rendered anew with another carry than before makes the next one of its shot be rendered anew: an
        engine whose clips do not depend on each other gives empty ones.
        """
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None: ...


class HoldsNothing:
    """Context manager of engines that keep nothing between renders, and tell nothing in files."""

    keeps = False
    elsewhere = Elsewhere()

    def held(self) -> Mapping[str, int]:
        """None."""
        return {}

    def file_tags(self, scratch: Path) -> Mapping[str, str]:
        """None."""
        del scratch
        return {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Nothing to let go of."""


class PrintsNothing(HoldsNothing):
    """Of engines that keep no negatives: what is printed again is joined from clips that are encoded already."""

    def print_files(self, request: Request) -> Mapping[str, str]:
        """None."""
        del request
        return {}

    def prepare_print(self, plan: Plan, kept: Identity | None) -> Prepared:
        """There is nothing to decide."""
        return Prepared(plan=plan, identity={} if kept is None else kept)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """An engine and, in a few words, why it was taken."""

    engine: Engine
    why: str


ENGINES: Final[Mapping[EngineName, str]] = {
    EngineName.NATIVE: "soundreel.engines.native:NativeEngine",
    EngineName.COMFYUI: "soundreel.engines.comfyui:ComfyUIEngine",
    EngineName.DRAFT: "soundreel.engines.draft:DraftEngine",
}
"""A module is imported only when its engine is opened."""


def load_engine(name: EngineName) -> Engine:
    """A new engine.

    Raises:
        EngineError: it needs packages that are not installed.
    """
    module, _, attribute = ENGINES[name].partition(":")
    try:
        return cast(Engine, getattr(import_module(module), attribute)())
    except ModuleNotFoundError as error:
        raise EngineError(f"engine {name} needs the package {error.name}: {INSTALL_NATIVE}") from error


def open_engine(request: Request, load: Callable[[EngineName], Engine] = load_engine) -> Choice:
    """Open the engine that `request` names, or with "auto" the best that can run here.

    Args:
        load: gives an engine that is open already, too.

    Raises:
        EngineError: the engine needs packages that are not installed.
    """
    if request.engine is not EngineName.AUTO:
        return Choice(engine=load(request.engine), why="as asked")
    no_native = why_not_native(request)
    if no_native is None:
        return Choice(engine=load(EngineName.NATIVE), why=why_native(request))
    no_server = why_not_comfyui(request)
    if no_server is None:
        return Choice(engine=load(EngineName.COMFYUI), why=f"a ComfyUI server answers; native: {no_native}")
    return Choice(engine=load(EngineName.DRAFT), why=f"no model render: native: {no_native}; comfyui: {no_server}")


def imports_torch(request: Request) -> bool:
    """Whether PyTorch is imported to open the engine of a request, or to learn whether it can be."""
    if not _has_native_packages():
        return False
    return request.engine is EngineName.NATIVE or (request.engine is EngineName.AUTO and find_gpu() is not None)


def check_weights(request: Request) -> None:
    """Raise `WeightsError` where the native engine is asked for and its model is not here.

    To open the engine takes seconds, for the packages that it imports: this is known before.
    """
    if request.engine is EngineName.NATIVE and _has_native_packages():
        _find_model(request)


def why_native(request: Request) -> str:
    """What lets the native engine run, where `why_not_native` finds nothing against it."""
    device = request.compute.device
    if device != "auto":
        return f"--device {device} is asked for, and the weights are here"
    return f"{find_gpu()} is here, and so are the weights"


def why_not_native(request: Request) -> str | None:
    """What keeps the native engine from running here; None if nothing does. Without a GPU torch is not imported."""
    if not _has_native_packages():
        return f"the packages are missing ({INSTALL_NATIVE})"
    no_device = _why_not_device(request.compute.device)
    if no_device is not None:
        return no_device
    try:
        _find_model(request)
    except SoundreelError as error:
        return str(error)
    return None


def _has_native_packages() -> bool:
    return find_spec("torch") is not None and find_spec("diffusers") is not None


def _find_model(request: Request) -> None:
    """Raise `SoundreelError` where the native engine's model is not here."""
    from soundreel.weights.find import find_model

    find_model(*([] if request.compute.models is None else [request.compute.models]))


def _why_not_device(device: str) -> str | None:
    """What keeps `--device` from being the GPU that it asks for; None where it can be one, or asks for none."""
    kind = device.partition(":")[0]
    if kind not in {"auto", "cuda", "mps"}:
        return None
    gpu = find_gpu()
    if gpu is None:
        return "there is no GPU (--engine native --device cpu uses none)"
    import torch

    usable: Mapping[str, Callable[[], bool]] = {
        "cuda": torch.cuda.is_available,
        "mps": torch.backends.mps.is_available,
    }
    if any(is_usable() for name, is_usable in usable.items() if kind in {"auto", name}):
        return None
    return f"there is {gpu}, but PyTorch {torch.__version__} cannot use it{'' if kind == 'auto' else f' as {device}'}"


def why_not_comfyui(request: Request) -> str | None:
    """What keeps the servers of `request` from rendering it; None if nothing does."""
    try:
        import_module("soundreel.engines.comfyui.engine").check_request(request)
    except SoundreelError as error:
        return str(error)
    return None
