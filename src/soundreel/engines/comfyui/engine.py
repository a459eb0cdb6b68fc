"""The comfyui engine: each chain of shots is rendered by one prompt on a ComfyUI server and split into clips here.

All clips of a chain are in one prompt, because only within a prompt can a clip continue the latents of the one before.
The carry is the last frame of a clip; it only shows whether a clip rendered again is the same. What a resumed render
needs is in its scratch folder: the record of the prompt, and the pictures downloaded so far.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from soundreel.driving_sound import DrivingSound, drive_of
from soundreel.engines.base import Device, Estimate, Identity, KeptBytes, Prepared, PrintsNothing, Start
from soundreel.engines.comfyui.execution import PromptExecution
from soundreel.engines.comfyui.input_files import Samples, heard_seconds, make_input_files, placeholders
from soundreel.engines.comfyui.inventory import ModelNames, portable_names
from soundreel.engines.comfyui.patience import Patience
from soundreel.engines.comfyui.pictures import frames_of_clips
from soundreel.engines.comfyui.prompt import Prompt
from soundreel.engines.comfyui.record import PromptRecord
from soundreel.engines.comfyui.servers import ReadyServer, open_server
from soundreel.engines.comfyui.tags import chain_folder, read_tags, write_chains
from soundreel.engines.comfyui.user_graph import read_workflow
from soundreel.engines.shot_poses import missing_poses
from soundreel.errors import EngineError, InputError, WeightsError
from soundreel.media.audio import MODEL_SAMPLE_RATE
from soundreel.media.image import load_image
from soundreel.media.pose import PoseMatch
from soundreel.media.video import probe_video
from soundreel.planning import chain_plan
from soundreel.request import AvAlign, RefFit, Request
from soundreel.types import Carry, Chain, Check, Clip, Plan, Progress, RenderedClip, Report, go_on
from soundreel.units import MODEL_FPS, Frames

LAST_FRAME = "last_frame"
"""Name of the carry's tensor, uint8 [H, W, 3]."""


class ComfyUIEngine(PrintsNothing):
    """Renders on a ComfyUI server; no part of the model is in this process."""

    name = "comfyui"
    equal_clips = True
    reach = None
    chains_clips = True
    divides_clips = False

    def devices(self, request: Request) -> Sequence[Device]:
        """None: the server has its own."""
        del request
        return ()

    def model_files(self, request: Request) -> Mapping[str, str]:
        """None: the files are on the server, which does not tell their digests."""
        del request
        return {}

    def prepare(self, plan: Plan, kept: Identity | None = None) -> Prepared:
        """Check options and files, and that a server can render the plan. The identity is the names of its models."""
        request = plan.request if kept is None else _with_models(plan.request, kept)
        _check_files(request)
        _check_shots(plan)
        try:
            models = _find_models(dataclasses.replace(plan, request=request))
        except WeightsError as error:
            if kept is None:
                raise
            raise EngineError(
                f"the render cannot go on on this server as it was begun: {error}; --no-resume begins anew"
            ) from error
        identity = {} if models is None else _identity(portable_names(models, request))
        return Prepared(
            plan=plan,
            identity=identity,
            placement=_with_models(plan.request, identity),  # the same models on whichever server renders a chain
            notes=tuple(_notes(plan)),
        )

    def estimate(self, prepared: Prepared) -> Estimate:
        """Unknown: neither the server's speed nor its memory can be measured from here."""
        del prepared
        return Estimate(seconds=None, memory_bytes=None)

    def file_tags(self, scratch: Path) -> Mapping[str, str]:
        """The graph, so that ComfyUI opens it when the video is dropped into it; of several chains all as one."""
        return read_tags(scratch)

    def kept_bytes(self, plan: Plan) -> KeptBytes:
        """Nothing: latents stay on the server."""
        return KeptBytes(negatives=(0,) * len(plan.clips))

    def render(
        self, prepared: Prepared, starts: Iterable[Start], report: Report, check: Check = go_on
    ) -> Iterator[RenderedClip]:
        """Yield the clip of each start; those of a chain once all of it is rendered and downloaded."""
        plan = dataclasses.replace(prepared.plan, request=prepared.placement)
        coming: Iterator[Frames] = iter(())
        made = -1
        for start in starts:
            clip = plan.clips[start.index]
            if start.index != made + 1 or not plan.continues(clip):
                coming = _render_chain(plan, clip, start.scratch, report, check)
            frames, made = next(coming), start.index
            carry = Carry(tensors={LAST_FRAME: frames[-1]})  # if it changes, so does the next clip
            yield RenderedClip(clip=clip, frames=frames, carry=carry)
            del frames


def _render_chain(plan: Plan, begin: Clip, scratch: Path, report: Report, check: Check) -> Iterator[Frames]:
    """The frames of each clip from `begin` to the last of its chain."""
    chain = plan.chain_of(begin)
    report = _chain_report(report, plan, chain)
    if len(plan.chains) > 1:
        write_chains(scratch, len(plan.chains))
        scratch = chain_folder(scratch, chain.index)
    scratch.mkdir(parents=True, exist_ok=True)
    alone = chain_plan(plan, chain)
    sound = sound_of(plan, chain, heard_seconds(alone), check)
    files = make_input_files(alone, scratch, sound=sound, first_frame=chain.start, check=check)
    record = PromptRecord.read(scratch)

    def prompt_for(server: ReadyServer) -> Prompt:
        return Prompt(plan=alone, files=files, capabilities=server.capabilities)

    with open_server(
        alone.request,
        lambda server: prompt_for(server).check(server.inventory),
        patience=Patience.of_render(report, check),
        preferred=None if record is None else record.url,
    ) as server:
        prompt = prompt_for(server)
        pictures = PromptExecution(server, prompt, scratch, report, check).pictures()
    first = begin.index - chain.clips[0].index
    yield from frames_of_clips(pictures, alone, first, skip=prompt.skip, check=check)


def sound_of(plan: Plan, chain: Chain, seconds: float, check: Check) -> Samples:
    """What drives the shots of a chain, mono at 16 kHz [n]: one sound, in which each has its own stretch."""
    drives = [drive_of(plan, shot) for shot in chain.shots]
    of_drive = {
        drive: DrivingSound.of(plan, drive, check).of_chain(plan, chain).samples(seconds, check)
        for drive in dict.fromkeys(drives)
    }
    heard = of_drive[drives[0]].copy()
    for shot, drive in zip(chain.shots, drives, strict=True):
        begin = (shot.start - chain.start) * MODEL_SAMPLE_RATE // MODEL_FPS
        heard[begin:] = of_drive[drive][begin:]
    return heard


def _chain_report(report: Report, plan: Plan, chain: Chain) -> Report:
    """A report that turns the progress of one chain into progress of the plan, in frames of the video."""
    before = chain.clips[0].index

    def tell(progress: Progress) -> None:
        if progress.clips:  # the user's own graph may sample more clips than the plan has
            clip = min(progress.clip, len(chain.clips)) + before
            progress = dataclasses.replace(progress, clip=clip, clips=len(plan.clips))
        if progress.total:
            done = chain.start + chain.frames * progress.done // progress.total
            progress = dataclasses.replace(progress, done=done, total=plan.frames)
        report(progress)

    return report if len(plan.chains) == 1 else tell


def check_request(request: Request) -> None:
    """Check that a server can render `request`, as far as that is possible without a plan.

    Raises:
        InputError: options that a server cannot follow, or unreadable files.
        EngineError: no server that can render.
        WeightsError: a server without the model's files.
    """
    _check_files(request)
    with open_server(request):
        pass


def _check_files(request: Request) -> None:
    check_options(request)
    if request.ref_image is not None:
        load_image(request.ref_image)
    if request.guide.pose_video is not None:
        probe_video(request.guide.pose_video)
    if request.server.workflow is not None:
        read_workflow(request.server.workflow)


def _check_shots(plan: Plan) -> None:
    """Check the files that shots have of their own."""
    for picture in dict.fromkeys(shot.asked.ref_image for shot in plan.shots):
        if picture is not None:
            load_image(picture)
    for video in dict.fromkeys(shot.asked.pose_video for shot in plan.shots):
        if video is not None:
            probe_video(video)


def _find_models(plan: Plan) -> ModelNames | None:
    """Check that a server accepts the graphs of all chains; returns its names of the models, None for the user's graph.

    All graphs are checked first, so that an error in the last one is not found hours after the first has started.
    """

    def takes_all_chains(server: ReadyServer) -> None:
        for chain in plan.chains:
            alone = chain_plan(plan, chain)
            Prompt(plan=alone, files=placeholders(alone), capabilities=server.capabilities).check(server.inventory)

    with open_server(plan.request, takes_all_chains) as server:
        return server.capabilities.models


def _identity(models: ModelNames) -> Identity:
    """The names of the models, ready for JSON."""
    return {**dataclasses.asdict(models), "loras": [f"{name}:{strength}" for name, strength in models.loras]}


def _with_models(request: Request, identity: Identity) -> Request:
    """The request with the models of `identity`; unchanged where it is empty, as with the user's own graph."""
    if not identity:
        return request
    named = {name: identity[name] for name in ("diffusion_model", "text_encoder", "vae", "audio_encoder")}
    return request.replace(server=dataclasses.replace(request.server, **named), loras=identity["loras"])


def _notes(plan: Plan) -> Iterator[str]:
    """Notes on options that have no effect on a server, and on a pose video that is too short."""
    request = plan.request
    given = {
        "--models": request.compute.models is not None,
        "--device": request.compute.device != "auto",
        "--ref-fit reference": request.guide.ref_fit is RefFit.REFERENCE,
    }
    ignored = [name for name, value in given.items() if value]
    if ignored:
        yield f"{', '.join(ignored)} {'has' if len(ignored) == 1 else 'have'} no effect on a ComfyUI server"
    if request.server.workflow is not None:
        yield "models, steps, guidance and sampler are the workflow's own"
    for video, what, missing in missing_poses(plan, PoseMatch.TIME):
        yield f"{video} is {missing:.2f} s shorter than the {what}: for that long its last pose is held"


def check_options(request: Request) -> None:
    """Raise `InputError` for options that a server cannot follow."""
    impossible = {
        "--start-from-ref": request.guide.start_from_ref,
        "--av-align reference": request.guide.av_align is AvAlign.REFERENCE,
        "--sigmas": request.sampling.sigmas is not None,
    }
    given = [name for name, value in impossible.items() if value]
    if given:
        raise InputError(f"{', '.join(given)}: not possible on a ComfyUI server; leave it out, or use --engine native")
