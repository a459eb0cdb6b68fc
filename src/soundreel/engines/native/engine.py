"""The native engine: Wan 2.2 S2V in this process, from the model's files to clips."""

import gc
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor

from soundreel.disk.digests import sampled_digest
from soundreel.engines.base import (
    DECODED,
    ENCODED,
    Device,
    Elsewhere,
    Estimate,
    Identity,
    KeptBytes,
    Prepared,
    Start,
)
from soundreel.engines.native import prepared as decisions
from soundreel.engines.native.chain import Chain, kept_bytes
from soundreel.engines.native.clips import ClipDecoder, ClipInput, ClipSampler, Negative
from soundreel.engines.native.device import DeviceLostError, capped, device_name, release_memory, says_what_is_lost
from soundreel.engines.native.loading import TransformerLoading
from soundreel.engines.native.memory_plan import Encoders
from soundreel.engines.native.networks import Networks
from soundreel.engines.native.prepared import (
    Placement,
    PrintPlacement,
    find_files,
    forecast,
    pass_options,
    plan_schedule,
    speeds_of,
)
from soundreel.engines.native.preview import open_previewer
from soundreel.engines.native.printing import find_print_files, prepare_print
from soundreel.engines.native.progress import (
    CpuProgress,
    RemainingTime,
    report_loading,
    report_printing,
    report_steps,
    show_picture,
)
from soundreel.engines.native.rank_process import Load
from soundreel.engines.native.scene import ShotReferences, poses, prepare_scene, read_reference
from soundreel.engines.native.shared_work import SharedVae, open_denoiser
from soundreel.engines.native.team import asked_devices
from soundreel.engines.native.warm_up import Pictures, WarmUp
from soundreel.engines.native.workers import Workers
from soundreel.errors import Cancelled, EngineError
from soundreel.models.frame_packing import MOTION_FRAMES
from soundreel.request import Request
from soundreel.types import Arrival, Check, Clip, Plan, RenderedClip, Report, go_on
from soundreel.weights.find import ModelFiles
from soundreel.weights.lora_files import LoraSource, lora_file


class NativeEngine:
    """Renders with the 14B model in this process, on one device.

    Its networks stay until it is left.
    """

    name = "native"
    equal_clips = False
    reach = MOTION_FRAMES
    chains_clips = True
    divides_clips = True

    def __init__(self) -> None:
        self.keeps = False
        self.elsewhere = Elsewhere()
        self._networks = Networks()
        self._workers = Workers()
        self._lost = ""
        self._warm_up: WarmUp | None = None
        self._arriving: TransformerLoading | None = None

    def model_files(self, request: Request) -> Mapping[str, str]:
        """The parts that `find_files` finds, and the LoRAs with their strengths."""
        sources = enumerate(map(LoraSource.parse, request.compute.loras), start=1)
        loras = {f"LoRA {k} × {source.strength:g} {source.path.name}": lora_file(source.path) for k, source in sources}
        return {**_digests(find_files(request)), **{name: sampled_digest(path) for name, path in loras.items()}}

    def devices(self, request: Request) -> Sequence[Device]:
        """Of `--device` and `--gpus`."""
        return [Device(str(device), device_name(device)) for device in asked_devices(request)]

    def prepare(self, plan: Plan, kept: Identity | None = None) -> Prepared:
        """Check options, files and memory, and decide all of `Placement`.

        No weight is read, but where a new render is to follow at once: then the transformer begins to come.
        """
        with self._hears_of_loss():
            self._stop_loading()
            if self._warm_up is not None:
                self._warm_up.begin(plan.request)
            prepared = decisions.prepare(plan, kept, self._bytes_on if self.keeps else None)
            if self._warm_up is None or self.elsewhere.render:
                return prepared
            self._warm_up.go_on(prepared.placement, Pictures.of(plan))
            if kept is None:  # else its clips may all be sampled
                self._arriving = TransformerLoading(self._networks, prepared.placement)
                self._arriving.begin()
            return prepared

    def print_files(self, request: Request) -> Mapping[str, str]:
        """The VAE's."""
        return _digests(find_print_files(request))

    def prepare_print(self, plan: Plan, kept: Identity | None) -> Prepared:
        """Check the VAE's file alone; any device will do."""
        with self._hears_of_loss():
            return prepare_print(plan, kept, self._bytes_on)

    def estimate(self, prepared: Prepared) -> Estimate:
        """From the plan's arithmetic and what this machine was measured to attain."""
        placement: Placement = prepared.placement
        speeds = speeds_of(placement)
        seconds, basis = forecast(prepared.plan, placement, speeds)
        one = forecast(prepared.plan, placement, speeds, alone=True)[0] if placement.team.gains else None
        return Estimate(
            seconds=seconds.total,
            speedup=None if one is None else one.rendering / seconds.rendering,
            memory_bytes=prepared.memory_bytes,
            seconds_basis=basis,
            clip_seconds=tuple(clip.total for clip in seconds.clips),
        )

    def held(self) -> Mapping[str, int]:
        """Of its networks."""
        return self._networks.held()

    def file_tags(self, scratch: Path) -> Mapping[str, str]:
        """None."""
        del scratch
        return {}

    def kept_bytes(self, plan: Plan) -> KeptBytes:
        """The latents of each clip, those of the motion frames before it, and the motion frames for one."""
        return kept_bytes(plan)

    @torch.inference_mode()
    def render(
        self, prepared: Prepared, starts: Iterable[Start], report: Report, check: Check = go_on
    ) -> Iterator[RenderedClip]:
        """Yield the clip of each start; the carry holds the motion frames."""
        device = prepared.placement.device
        try:
            with (
                self._hears_of_loss(),
                capped(device, prepared.placement.memory),
                self._loading(prepared.placement).report_to(report_loading(report)) as arriving,
            ):
                yield from _render(prepared, self._networks, arriving, self._workers, starts, report, check)
        except Exception as error:
            if not isinstance(error, Cancelled):
                self._workers.close()
                self._networks.close()  # nobody knows what state they are in
            raise
        finally:
            gc.collect()
            if not self._lost:
                release_memory(device)

    def _bytes_on(self, device: torch.device) -> int:
        """What a render may take though it is not free."""
        return self._networks.bytes_on(device) + self.elsewhere.held.get(str(device), 0)

    def _loading(self, placement: PrintPlacement) -> TransformerLoading:
        """What loads the transformer: as it was begun when this placement was decided, or anew."""
        arriving, self._arriving = self._arriving, None
        if arriving is not None and arriving.is_for(placement):
            return arriving
        with arriving or nullcontext():
            return TransformerLoading(self._networks, placement)

    def _stop_loading(self) -> None:
        """End what was begun for a render that did not follow."""
        with self._arriving or nullcontext():
            self._arriving = None

    def __enter__(self) -> Self:
        self._warm_up = WarmUp()  # what is prepared from now on is rendered
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Give all memory back, and end the workers."""
        self._stop_loading()
        if self._warm_up is not None:
            self._warm_up.end()
        self._workers.close()
        self._networks.close()

    @contextmanager
    def _hears_of_loss(self) -> Iterator[None]:
        """Make the loss of the device an `EngineError`, now and from now on."""
        if self._lost:
            raise EngineError(self._lost)
        try:
            with says_what_is_lost():
                yield
        except DeviceLostError as error:
            self._lost = str(error)
            self._workers.close()
            self._networks.abandon()
            raise


def _digests(files: ModelFiles) -> dict[str, str]:
    """Of every file, by its part's name and its own."""
    paths = {f"{name} {path.name}": path for name, part in files.parts.items() for path in part.files}
    return {name: sampled_digest(path) for name, path in paths.items()}


@torch.inference_mode()
def _render(
    prepared: Prepared,
    networks: Networks,
    arriving: TransformerLoading,
    workers: Workers,
    starts: Iterable[Start],
    report: Report,
    check: Check,
) -> Iterator[RenderedClip]:
    """Each clip is sampled, its latents are stored, and only then it is decoded; a stored one is decoded at once.

    The last one of a chain is given away before that: nothing goes on from it, and its frames are taken as they come.
    """
    starts = iter(starts)
    first = next(starts, None)
    if first is None:
        return
    plan, placement = prepared.plan, prepared.placement
    assert isinstance(placement, PrintPlacement)
    check = partial(workers.check, check)
    request, device = plan.request, placement.device
    if first.negatives.find(first.index) is None:
        arriving.begin()
        workers.begin(placement)
    vae = networks.vae(placement, arriving.on_load)
    vae.check = check
    vae.make_room = networks.make_room
    vae.on_cpu = on_cpu = CpuProgress(plan, report)
    reference = None if request.ref_image is None else read_reference(request)
    decoder = ClipDecoder(vae, reference, device)
    references = ShotReferences(plan, decoder)
    chain = Chain(plan, first, decoder, reference)
    sampling: _Sampling | None = None  # its networks are loaded for the first clip that needs them
    for start in itertools.chain([first], starts):
        chain.start, clip = start, plan.clips[start.index]
        on_cpu.clip = clip
        seen = references.see(clip)
        negative, facts = chain.find(clip), start.negatives.facts(clip.index)
        if negative is None:
            sampling = sampling or _Sampling(prepared, networks, arriving, workers, start, decoder, report, check)
            negative, facts = sampling(clip, chain.motion_before(clip))
            facts |= _noted(ENCODED, vae.take_fallback() or seen)
            chain.keep(clip, negative, facts)
        else:
            report_printing(plan, clip, report)
        facts, pictures = dict(facts), chain.pictures_for(clip)
        behind = placement.stands_in or (seen if negative.motion is None else "")
        if plan.is_last_of_chain(clip):
            with Arrival() as arrival:
                yield RenderedClip(clip=clip, frames=pictures[: clip.frames], facts=facts, arrival=arrival)
                chain.print_last(clip, negative, pictures, arrival.come)
                facts |= _noted(DECODED, vae.take_fallback() or behind)
                arrival.finish()
        else:
            carry = chain.print(clip, negative, pictures)
            facts |= _noted(DECODED, vae.take_fallback() or behind)
            del negative
            yield RenderedClip(clip=clip, frames=pictures[: clip.frames], carry=carry, facts=facts)
            del carry
        del pictures


def _noted(fact: str, how: str) -> dict[str, str]:
    """What a clip is to tell of how something was done; "": as planned."""
    return {fact: how} if how else {}


class _Sampling:
    """The networks that sample, loaded; called for one clip after the other."""

    def __init__(
        self,
        prepared: Prepared,
        networks: Networks,
        arriving: TransformerLoading,
        workers: Workers,
        start: Start,
        decoder: ClipDecoder,
        report: Report,
        check: Check,
    ) -> None:
        plan, placement = prepared.plan, prepared.placement
        request = plan.request
        self._plan, self._report, self._check = plan, report, check
        self._schedule = plan_schedule(request)
        if placement.memory.encoders is Encoders.ALONE and not placement.memory.loads_beside:
            decoder.vae.to("cpu")  # each encoder has the device to itself
        crew = workers.crew(placement, check)
        if crew is not None:
            with crew.step("loading"):
                crew.tell(Load(placement, Pictures.of(plan)))  # while this process encodes words and sound
        scene = prepare_scene(prepared, networks, arriving.on_load, check)
        transformer = arriving.result()
        self._resident = transformer.resident
        if crew is not None:
            crew.wait_until_loaded(check)
        denoiser = open_denoiser(crew, transformer.network, placement)
        decoder.vae.to(placement.device)
        decoder.vae.helpers = None if crew is None else SharedVae(crew, decoder.vae)
        self._sampler = ClipSampler(
            denoiser=denoiser,
            decoder=decoder,
            scene=scene,
            schedule=self._schedule,
            guide_scale=request.sampling.guide_scale,
            passes=pass_options(request),
        )
        self._poses: Iterator[Tensor | None] = iter(())
        self._next_pose = -1  # index of the clip whose window is the next one
        self._left = RemainingTime(forecast(plan, placement)[0])
        preview = request.output.preview
        previewer = open_previewer(request.compute.models, start.scratch, placement.device) if preview else None
        self._show = None if previewer is None else partial(show_picture, previewer, self._sampler)

    def __call__(self, clip: Clip, motion: Tensor | None) -> tuple[Negative, dict[str, Any]]:
        """The clip's latents, and what the recipe is to tell of it."""
        self._resident.come_back()
        request = self._plan.request
        given = ClipInput(
            clip=clip, first_sampled=self._plan.first_sampled(clip), motion=motion, pose=self._pose(clip.index)
        )
        on_step = report_steps(self._plan, clip, self._schedule.steps, self._report, self._left, self._show)
        negative = self._sampler.sample(given, request.height, request.width, on_step)
        saved = self._sampler.passes_saved
        return negative, {"passes_spared": saved} if saved else {}

    def _pose(self, index: int) -> Tensor | None:
        """The pose window of the clip with this index."""
        if index != self._next_pose:
            self._poses = poses(self._plan, index, self._check)
        self._next_pose = index + 1
        return next(self._poses)
