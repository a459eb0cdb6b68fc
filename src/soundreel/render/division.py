"""Among which processes the shots of a render are divided: nothing passes a cut, so each is one process's own."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from soundreel.engines.base import Engine, Estimate
from soundreel.engines.host_memory import available_memory
from soundreel.request import Parallel, Request
from soundreel.types import Chain, Plan
from soundreel.wording import readable_size

CPU: Final = "cpu"

BUSY_SHARE: Final = 0.9
"""Of the GPUs' time that shots have to fill: otherwise GPUs that divide each shot are as quick, or quicker."""

ONE_SHOT: Final = "--parallel shots: there is one shot, which one process renders; --cut makes more of them"
TOO_LITTLE_MEMORY: Final = (
    "each process takes {each} of the host's memory, and {free} are free: there is room for {count} of them; a larger "
    "--memory takes less of it"
)
SEVERAL_KINDS: Final = (
    "--gpus are of several kinds ({kinds}), and each rounds in its own way: they divide shots alone, and the recipe "
    "says which clip is whose"
)
NO_EFFECT: Final = "--gpus has no effect on {engine}"


@dataclass(frozen=True, kw_only=True)
class Division:
    """The processes of a render beside this one, each with devices of its own."""

    processes: tuple[tuple[str, ...], ...] = ()  # the devices of each; (): this process renders
    kinds: tuple[str, ...] = ()  # of the devices of each, where they are not all of one kind
    notes: tuple[str, ...] = ()

    @property
    def is_divided(self) -> bool:
        """Whether other processes render."""
        return len(self.processes) > 1

    def request_of(self, request: Request, process: int) -> Request:
        """What the process with a number, from 0, is asked: the same, on its own devices.

        They are named, and more than one of them the engine divides further.
        """
        if not self.is_divided:
            by_shots = request.compute.gpus is not None and request.compute.parallel is Parallel.SHOTS
            return request.replace(gpus=None, parallel=Parallel.AUTO) if by_shots else request
        devices = self.processes[process]
        return request.replace(device=devices[0], gpus=_gpus(devices), parallel=Parallel.AUTO)

    def plan_of(self, plan: Plan) -> Plan:
        """As the first process renders it."""
        return replace(plan, request=self.request_of(plan.request, 0))

    def says(self) -> str:
        """In a few words; "" where nothing is divided."""
        if not self.is_divided:
            return ""
        names = ", ".join(" + ".join(devices) for devices in self.processes)
        where = "the CPU" if self.shares_cores else names
        return f"{len(self.processes)} processes on {where}, a shot at a time each"

    @property
    def shares_cores(self) -> bool:
        """Whether all compute on the same processor."""
        return all(device == CPU for devices in self.processes for device in devices)


def _gpus(devices: Sequence[str]) -> str | None:
    """What `--gpus` is for them; None: one device."""
    if len(devices) == 1:
        return None
    numbers = [device.partition(":")[2] for device in devices]
    return ",".join(numbers) if all(numbers) else str(len(devices))


def divide(plan: Plan, engine: Engine) -> Division:
    """What `--gpus` and `--parallel` say: shots, where that keeps the GPUs busy, in processes of one GPU or of several.

    Raises:
        InputError: devices that are not here.
    """
    compute = plan.request.compute
    if compute.gpus is None:
        return Division()
    found = engine.devices(plan.request)
    devices, kinds = [device.name for device in found], [device.kind for device in found]
    if not devices:
        return Division(notes=(NO_EFFECT.format(engine=f"the engine {engine.name}"),))
    if compute.parallel not in {Parallel.AUTO, Parallel.SHOTS} or len(devices) == 1:
        return Division()
    by_shots = compute.parallel is Parallel.SHOTS
    if len(plan.chains) == 1:
        return Division(notes=(ONE_SHOT,) if by_shots else ())
    if engine.divides_clips and not by_shots and len(set(kinds)) == 1:
        return _busy_division(plan, devices)
    return _division_by_shots(plan, devices, kinds)


def _division_by_shots(plan: Plan, devices: Sequence[str], kinds: Sequence[str]) -> Division:
    """One device for each process."""
    count = min(len(devices), len(plan.chains))
    idle, are_mixed = len(devices) - count, len(set(kinds)) > 1
    several = SEVERAL_KINDS.format(kinds=", ".join(sorted(set(kinds))))
    return Division(
        processes=_groups(devices, count, each=1),
        kinds=tuple(kinds[:count]) if are_mixed else (),
        notes=(*_says_idle(idle, devices[0], len(plan.chains)), *((several,) if are_mixed else ())),
    )


def _busy_division(plan: Plan, devices: Sequence[str]) -> Division:
    """As many processes as leave the devices hardly idle; none where they had better divide each shot."""
    frames = [clip.frames for clip in plan.clips]
    for count in range(min(len(devices), len(plan.chains)), 1, -1):
        each = len(devices) // count
        busy, _ = _loads(plan, frames, count)
        if sum(busy) * each >= BUSY_SHARE * max(busy) * len(devices):
            idle = _says_idle(len(devices) - count * each, devices[0], len(plan.chains))
            return Division(processes=_groups(devices, count, each), notes=idle)
    return Division()


def _groups(devices: Sequence[str], count: int, each: int) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(devices[k * each : (k + 1) * each]) for k in range(count))


def _says_idle(count: int, device: str, shots: int) -> tuple[str, ...]:
    if not count:
        return ()
    one, several = ("process", "processes") if device == CPU else ("GPU", "GPUs")
    has = f"{one} has" if count == 1 else f"{several} have"
    return (f"{count} {has} nothing to do: there are {shots} shots",)


def fitting(division: Division, host_bytes: int | None, there: int = 0) -> Division:
    """With no more processes than the host's memory holds, where each takes so much of it; None: that is not known.

    Args:
        there: processes that have theirs.
    """
    free = available_memory()
    if not division.is_divided or not host_bytes or free is None:
        return division
    most = max(1, there + free // host_bytes)
    if most >= len(division.processes):
        return division
    note = TOO_LITTLE_MEMORY.format(each=readable_size(host_bytes), free=readable_size(free), count=most)
    return replace(division, processes=division.processes[:most], kinds=division.kinds[:most], notes=(note,))


def longest_first(chains: Iterable[Chain]) -> list[Chain]:
    """The order in which chains are begun: what is left to the end is short, so that nobody waits long for others."""
    return sorted(chains, key=lambda chain: (-chain.frames, chain.index))


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How the shots of a render are expected to come to its processes."""

    shots: tuple[int, ...] = ()  # how many each has
    speedup: float | None = None  # how many times as quick as one process; None: not at all, or not known
    saved_seconds: float = 0.0


def schedule_of(plan: Plan, division: Division, estimate: Estimate) -> Schedule:
    """Each process takes the longest shot that is left as soon as it has nothing to do.

    Where the seconds of clips are not known, their frames are taken for them. On the same cores nothing is gained.
    """
    if not division.is_divided:
        return Schedule()
    known = estimate.clip_seconds
    costs = known or tuple(float(clip.frames) for clip in plan.clips)
    busy, counts = _loads(plan, costs, len(division.processes))
    if division.shares_cores:
        return Schedule(shots=tuple(counts))
    saved = sum(busy) - max(busy) if known else 0.0
    return Schedule(shots=tuple(counts), speedup=sum(busy) / max(busy), saved_seconds=saved)


def _loads(plan: Plan, costs: Sequence[float], processes: int) -> tuple[list[float], list[int]]:
    """What each of so many processes has to do, and how many shots, by the costs of clips."""
    busy, counts = [0.0] * processes, [0] * processes
    for chain in longest_first(plan.chains):
        first = busy.index(min(busy))
        busy[first] += sum(costs[clip.index] for clip in chain.clips)
        counts[first] += 1
    return busy, counts
